//! Model folders and the Hugging Face cache on disk; nothing here uses a network.

mod support;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regrow::Error;
use regrow::pretrained::{HubSettings, Pooling, PretrainedModel, PretrainedWeights};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "76543210fedcba9876543210fedcba9876543210";

fn golden(name: &str) -> PathBuf {
    support::golden::folder().join("encoder").join(name)
}

/// A hub that must not be asked: nobody listens there.
fn offline(cache: &Path) -> HubSettings {
    HubSettings {
        cache: cache.to_path_buf(),
        endpoint: "http://127.0.0.1:9".into(),
        offline: true,
        token: None,
        environment_proxy: false,
        retry_pause: Duration::ZERO,
    }
}

fn find(name: &str, revision: Option<&str>, hub: &HubSettings) -> regrow::Result<PretrainedModel> {
    PretrainedModel::find(name, revision, hub, &mut |download| panic!("{download:?} is downloaded"))
}

fn copy(from: &Path, to: &Path, files: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for file in files {
        fs::write(to.join(file), fs::read(from.join(file)).unwrap()).unwrap();
    }
}

const ALL: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

fn message<T>(result: regrow::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn settings_from_variables() {
    let with = |variables: &[(&str, &str)]| {
        let map: HashMap<String, OsString> =
            variables.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
        HubSettings::from_variables(|name| map.get(name).cloned(), Some("/home/me".into()))
    };
    let none = with(&[("HF_HUB_CACHE", ""), ("HF_TOKEN", " "), ("HF_ENDPOINT", ""), ("HF_HUB_OFFLINE", "0")]);
    assert_eq!(none.cache, Path::new("/home/me/.cache/huggingface/hub"));
    assert_eq!((none.endpoint.as_str(), none.offline, &none.token), ("https://huggingface.co", false, &None));
    for (variables, cache) in [
        (&[("XDG_CACHE_HOME", "/x")][..], "/x/huggingface/hub"),
        (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub"),
        (&[("HF_HOME", "~/h")], "/home/me/h/hub"),
        (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], "/c"),
    ] {
        assert_eq!(with(variables).cache, Path::new(cache));
    }
    for on in ["1", "true", "YES", "On"] {
        assert!(with(&[("HF_HUB_OFFLINE", on)]).offline);
    }
    let set = with(&[("HF_ENDPOINT", "https://mirror.example/"), ("HF_TOKEN", "hf_secret\n")]);
    assert_eq!((set.endpoint.as_str(), set.token.as_deref()), ("https://mirror.example", Some("hf_secret")));
    assert!(!format!("{set:?}").contains("secret"));
}

#[test]
fn local_folders() {
    let hub = offline(Path::new("nowhere"));
    for (name, max) in [("bert", 48), ("distilbert", 50), ("roberta", 50), ("minilm_like", 64)] {
        let folder = golden(name);
        let model = find(folder.to_str().unwrap(), None, &hub).unwrap();
        assert_eq!(
            (model.folder.as_path(), model.tokenizer),
            (folder.as_path(), folder.join("tokenizer.json"))
        );
        assert_eq!(model.architecture.max_tokens(), max);
        assert_eq!((model.pooling, model.max_tokens, model.revision), (None, None, None));
    }
    let text = message(find(golden("bert").to_str().unwrap(), Some("main"), &hub));
    assert!(text.contains("no revision main"), "{text}");
}

#[test]
fn incomplete_folders() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let open = || message(PretrainedModel::open(here));
    assert!(open().contains("no config.json here"), "{}", open());
    copy(&golden("bert"), here, &["config.json"]);
    assert!(open().contains("neither model.safetensors nor"), "{}", open());
    fs::write(here.join("pytorch_model.bin"), "").unwrap();
    assert!(open().contains("import AutoModel; "), "{}", open());
    copy(&golden("bert"), here, &["model.safetensors"]);
    let path = format!("{:?}", here.display().to_string());
    let code = format!(
        "python3 -c 'from transformers import AutoTokenizer; AutoTokenizer.from_pretrained({path}, \
         use_fast=True).save_pretrained({path})'"
    );
    assert!(open().ends_with(&code), "{}", open());
    copy(&golden("bert"), here, &["tokenizer.json"]);
    PretrainedModel::open(here).unwrap();
}

const MODULES: &str = r#"[
    {"idx": 0, "name": "0", "path": "PATH", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
]"#;

/// The transformer in the folder itself or below it; each way to say how it is pooled.
#[test]
fn sentence_transformers_folders() {
    for below in ["", "0_Transformer"] {
        let folder = tempfile::tempdir().unwrap();
        let transformer = if below.is_empty() { folder.path().into() } else { folder.path().join(below) };
        copy(&golden("bert"), &transformer, &ALL);
        fs::write(folder.path().join("modules.json"), MODULES.replace("PATH", below)).unwrap();
        let open = || PretrainedModel::open(folder.path()).unwrap();
        assert_eq!(
            (open().folder, open().tokenizer),
            (transformer.clone(), transformer.join("tokenizer.json"))
        );
        assert_eq!((open().pooling, open().max_tokens), (None, None));
        PretrainedWeights::open(&open().folder, &open().architecture, None).unwrap();

        fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        for (config, pooling) in [
            (r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#, Some(Pooling::Mean)),
            (r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#, Some(Pooling::Cls)),
            (r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#, Some(Pooling::Other)),
            (r#"{"pooling_mode_max_tokens": true, "include_prompt": true}"#, Some(Pooling::Other)),
            (r#"{"pooling_mode": "mean"}"#, Some(Pooling::Mean)),
            (r#"{"pooling_mode": "cls"}"#, Some(Pooling::Cls)),
            (r#"{"pooling_mode": "lasttoken"}"#, Some(Pooling::Other)),
            (r#"{"pooling_mode": ["mean", "cls"]}"#, Some(Pooling::Other)),
            (r#"{"word_embedding_dimension": 32, "include_prompt": true}"#, None),
        ] {
            fs::write(folder.path().join("1_Pooling/config.json"), config).unwrap();
            assert_eq!(open().pooling, pooling, "{config}");
        }
        for (config, max) in [
            (r#"{"max_seq_length": 33}"#, Some(33)),
            (r#"{"max_seq_length": 512}"#, Some(48)),
            (r#"{"max_seq_length": null}"#, None),
            (r#"{"max_seq_length": 0}"#, None),
            ("{}", None),
        ] {
            fs::write(transformer.join("sentence_bert_config.json"), config).unwrap();
            assert_eq!(open().max_tokens, max, "{config}");
        }
        fs::write(transformer.join("sentence_bert_config.json"), "{").unwrap();
        assert!(
            message(PretrainedModel::open(folder.path())).contains("sentence_bert_config.json: is not JSON")
        );
    }
}

#[test]
fn modules_that_lead_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let modules = folder.path().join("modules.json");
    for path in ["..", "../other", "/tmp", "a/../../b", "..\\\\b", "./x/../.."] {
        fs::write(&modules, MODULES.replace("PATH", path)).unwrap();
        assert!(message(PretrainedModel::open(folder.path())).contains("leaves the folder"), "{path}");
    }
    for (modules_json, expected) in
        [("{}", "a list"), ("[]", "no module of type Transformer"), ("x", "not JSON")]
    {
        fs::write(&modules, modules_json).unwrap();
        let text = message(PretrainedModel::open(folder.path()));
        assert!(text.contains("modules.json: ") && text.contains(expected), "{text}");
    }
}

/// A cache as the hub's own tools lay it out.
fn cached(cache: &Path, folder: &str, commit: &str, files: &[&str]) -> PathBuf {
    let snapshot = cache.join(folder).join("snapshots").join(commit);
    copy(&golden("bert"), &snapshot, files);
    snapshot
}

fn set_ref(cache: &Path, folder: &str, revision: &str, commit: &str) {
    let path = cache.join(folder).join("refs").join(revision);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, commit).unwrap();
}

#[test]
fn cached_models_need_no_network() {
    let cache = tempfile::tempdir().unwrap();
    let folder = "models--someone--tiny_bert-1.0";
    let (one, two) = (cached(cache.path(), folder, COMMIT, &ALL), cached(cache.path(), folder, OTHER, &ALL));
    set_ref(cache.path(), folder, "main", COMMIT);
    set_ref(cache.path(), folder, "v2", &format!("{OTHER}\n"));
    set_ref(cache.path(), folder, "refs/pr/1", OTHER);
    let name = "someone/tiny_bert-1.0";
    for offline_too in [true, false] {
        let hub = HubSettings { offline: offline_too, ..offline(cache.path()) };
        for (revision, snapshot, commit) in [
            (None, &one, COMMIT),
            (Some("main"), &one, COMMIT),
            (Some(OTHER), &two, OTHER),
            (Some("v2"), &two, OTHER),
            (Some("refs/pr/1"), &two, OTHER),
        ] {
            let model = find(name, revision, &hub).unwrap();
            assert_eq!((&model.folder, model.revision.as_deref()), (snapshot, Some(commit)), "{revision:?}");
        }
    }
    cached(cache.path(), "models--bert-tiny", COMMIT, &ALL);
    set_ref(cache.path(), "models--bert-tiny", "main", COMMIT);
    find("bert-tiny", None, &offline(cache.path())).unwrap();
}

#[test]
fn what_the_cache_does_not_have() {
    let cache = tempfile::tempdir().unwrap();
    let hub = offline(cache.path());
    let todo = if cfg!(feature = "download") { "HF_HUB_OFFLINE forbids" } else { "hf download" };

    let error = find("some/model", Some("v3"), &hub).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, Error::Usage(_)) && text.contains(todo) && text.contains("some/model (v3)"),
        "{text}"
    );
    assert!(text.contains(cache.path().to_str().unwrap()), "{text}");

    let folder = "models--some--model";
    let snapshot = cached(cache.path(), folder, COMMIT, &["config.json"]);
    set_ref(cache.path(), folder, "main", COMMIT);
    let text = message(find("some/model", None, &hub));
    assert!(text.contains("lacks tokenizer.json, model.safetensors, and") && text.contains(todo), "{text}");
    fs::write(
        snapshot.join("model.safetensors.index.json"),
        r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}}"#,
    )
    .unwrap();
    fs::write(snapshot.join("one.safetensors"), "").unwrap();
    let text = message(find("some/model", None, &hub));
    assert!(text.contains("lacks tokenizer.json, two.safetensors, and"), "{text}");
    // Nothing to download: these weights must be converted.
    fs::remove_file(snapshot.join("model.safetensors.index.json")).unwrap();
    fs::write(snapshot.join("pytorch_model.bin"), "").unwrap();
    assert!(message(find("some/model", None, &hub)).contains("import AutoModel; "));

    for bad in ["../../elsewhere", "", "0123456", &COMMIT.to_uppercase(), &format!("{COMMIT}0")] {
        set_ref(cache.path(), folder, "main", bad);
        let text = message(find("some/model", None, &hub));
        assert!(text.contains("refs") && text.contains("holds no commit"), "{bad}: {text}");
    }
}

#[test]
fn names_that_are_none() {
    let cache = tempfile::tempdir().unwrap();
    let hub = HubSettings { offline: false, ..offline(cache.path()) };
    for name in [
        "",
        "a/b/c",
        "./a",
        "../no_such",
        "/no_such",
        "a/",
        "a b",
        "a\\b",
        "~/a",
        "x..y",
        "a--b/c",
        "http://x/y",
    ] {
        let text = message(find(name, None, &hub));
        assert!(text.contains("there is no folder") && text.contains("all-MiniLM-L6-v2"), "{name}: {text}");
    }
    for revision in ["", "..", "a/../b", "/a", "a b", "a?b", ".a", "a//b"] {
        let text = message(find("a/b", Some(revision), &hub));
        assert!(text.contains("no name of a branch"), "{revision}: {text}");
    }
}
