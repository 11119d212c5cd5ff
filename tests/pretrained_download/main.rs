//! Downloads from a hub that the test plays itself; digests were computed with sha256sum and git hash-object.
#![cfg(feature = "download")]

mod hub;
mod world;

use std::fs;
use std::path::Path;

use hub::{Answer, Request};
use regrow::Error;
use regrow::pretrained::{HubSettings, Pooling, PretrainedModel};
use serde_json::json;
use world::*;

#[test]
fn a_model_comes_into_the_cache() {
    let world = world(&[MODULES, CONFIG, TOKENIZER, POOLING, SENTENCE], true);
    let mut reports: Vec<(String, u64, Option<u64>)> = Vec::new();
    let model = PretrainedModel::find(ID, None, &world.settings, &mut |download| {
        reports.push((download.file.to_string(), download.done, download.total));
        Ok(())
    })
    .unwrap();
    assert_eq!(model.folder, world.snapshot());
    assert_eq!(model.revision.as_deref(), Some(COMMIT));
    assert_eq!((model.pooling, model.max_tokens), (Some(Pooling::Mean), Some(33)));
    assert_eq!(model.architecture.vocabulary, 9);
    for (file, body, digest) in [MODULES, CONFIG, TOKENIZER, POOLING, SENTENCE] {
        assert_eq!(fs::read_to_string(world.snapshot().join(file)).unwrap(), body);
        assert_eq!(world.at("blobs").join(digest).exists(), cfg!(unix), "{file}");
    }
    assert_eq!(fs::read(world.snapshot().join(MODEL)).unwrap(), model_bytes());
    assert_eq!(fs::read_to_string(world.at("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    for (file, link) in
        [(MODEL, format!("../../blobs/{MODEL_SHA256}")), (POOLING.0, format!("../../../blobs/{}", POOLING.2))]
    {
        assert_eq!(fs::read_link(world.snapshot().join(file)).unwrap(), Path::new(&link));
    }
    let parts = fs::read_dir(world.at("blobs"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("part"));
    assert_eq!(parts.count(), 0);

    // The token is for the hub alone.
    let asked = world.hub.requests();
    assert!(asked.len() == 2 * 5 + 2 && asked.iter().all(|r| r.token.as_deref() == Some("Bearer hf_secret")));
    let expected = Request { path: CONTENTS.into(), range: None, token: None };
    assert_eq!(world.contents.requests(), [expected]);

    let of_model: Vec<_> = reports.iter().filter(|(file, ..)| file == MODEL).collect();
    assert!(of_model.windows(2).all(|pair| pair[0].1 < pair[1].1));
    assert_eq!(of_model.last().unwrap(), &&(MODEL.to_string(), MODEL_BYTES as u64, Some(MODEL_BYTES as u64)));
    assert!(reports.contains(&(CONFIG.0.into(), CONFIG.1.len() as u64, Some(CONFIG.1.len() as u64))));

    // From now on nobody is asked, also by the commit, also offline.
    for offline in [false, true] {
        let settings = HubSettings { offline, ..world.settings.clone() };
        for revision in [None, Some("main"), Some(COMMIT)] {
            let again =
                PretrainedModel::find(ID, revision, &settings, &mut |_| panic!("a download")).unwrap();
            assert_eq!(again, model);
        }
    }
    assert!(world.hub.requests().is_empty() && world.contents.requests().is_empty());
}

#[test]
fn revisions() {
    let world = tiny();
    for revision in ["v1", "refs/pr/1"] {
        let model = PretrainedModel::find(ID, Some(revision), &world.settings, &mut |_| Ok(())).unwrap();
        assert_eq!(model.revision.as_deref(), Some(COMMIT));
        assert_eq!(fs::read_to_string(world.at("refs").join(revision)).unwrap(), COMMIT);
    }
    // The second revision is the same commit: only the listing was asked for.
    assert_eq!(world.contents.requests().len(), 1);
    let by_commit = tiny();
    by_commit.hub.answer(
        &format!("/api/models/{ID}/revision/{COMMIT}"),
        Answer {
            status: 200,
            body: json!({"sha": COMMIT, "siblings": [
                {"rfilename": CONFIG.0}, {"rfilename": TOKENIZER.0}, {"rfilename": MODEL},
            ]})
            .to_string()
            .into(),
            ..Answer::default()
        },
    );
    PretrainedModel::find(ID, Some(COMMIT), &by_commit.settings, &mut |_| Ok(())).unwrap();
    assert!(!by_commit.at("refs").exists());
    let error = PretrainedModel::find(ID, Some("v9"), &world.settings, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("revision/v9: the hub does not have it (404)"), "{error}");
}

#[test]
fn offline_asks_nobody() {
    let mut world = tiny();
    world.settings.offline = true;
    let error = world.find().unwrap_err();
    assert!(matches!(error, Error::Usage(_)) && error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    assert!(world.hub.requests().is_empty());
}

#[test]
fn wrong_contents_are_thrown_away() {
    let world = tiny();
    world.contents.change(CONTENTS, |answer| answer.body[123_456] ^= 1);
    let text = world.message();
    assert!(text.contains("checksum") && text.contains(&format!("promises {MODEL_SHA256}")), "{text}");
    world.assert_no_model();
    assert_eq!(fs::metadata(world.part()).unwrap().len(), 0);
    world.contents.change(CONTENTS, |answer| answer.body = model_bytes());
    world.find().unwrap();
    assert_eq!(world.ranges(), [None, None]);
    assert_eq!(fs::read(world.snapshot().join(MODEL)).unwrap(), model_bytes());

    // Small files have a digest too, that of git.
    let world = tiny();
    world.hub.change("/api/resolve-cache/tokenizer.json", |answer| answer.body[3] ^= 1);
    assert!(world.message().contains(&format!("promises {}", TOKENIZER.2)));
    assert!(!world.snapshot().join(TOKENIZER.0).exists() && world.contents.requests().is_empty());

    // More or less than was promised, where the server itself sees nothing wrong.
    for body in [[model_bytes(), vec![0]].concat(), model_bytes()[..MODEL_BYTES - 1].to_vec()] {
        let world = tiny();
        world.contents.change(CONTENTS, |answer| answer.body = body);
        world.message();
        world.assert_no_model();
    }
}

/// A mirror with digests of its own kind: the size must do.
#[test]
fn digests_of_other_kinds() {
    let other = |body: Vec<u8>| {
        let world = tiny();
        world.hub.change(&resolve(MODEL), |answer| {
            answer.headers[1].1 = "\"d41d8cd98f00b204e9800998ecf8427e\"".into()
        });
        world.contents.change(CONTENTS, |answer| answer.body = body);
        world
    };
    let world = other(model_bytes());
    world.find().unwrap();
    assert_eq!(fs::read(world.snapshot().join(MODEL)).unwrap(), model_bytes());
    // Caches on the way may mark a digest as weak.
    let world = tiny();
    let weak = vec![("etag", format!("W/\"{}\"", TOKENIZER.2))];
    world.hub.change("/api/resolve-cache/tokenizer.json", |answer| answer.headers = weak);
    world.find().unwrap();
    let world = other([model_bytes(), vec![0]].concat());
    assert!(world.message().contains("checksum 300001 bytes"));
    world.assert_no_model();
    let world = other(model_bytes()[..MODEL_BYTES - 1].to_vec());
    assert!(world.message().contains("broke off after 299999 of 300000 bytes"));
    world.assert_no_model();
}

#[test]
fn broken_downloads_go_on_where_they_stopped() {
    let world = tiny();
    world.contents.change(CONTENTS, |answer| answer.cuts = vec![150_000, 7, 3, 9, 100_000, 1]);
    world.find().unwrap();
    let asked = world.ranges();
    let starts = [150_000, 150_007, 150_010, 150_019, 250_019, 250_020];
    assert_eq!(asked, [None].into_iter().chain(starts.map(Some)).collect::<Vec<_>>());
    assert_eq!(fs::read(world.snapshot().join(MODEL)).unwrap(), model_bytes());

    // A server that knows no ranges starts over, and may get through.
    let world = tiny();
    world.contents.change(CONTENTS, |answer| (answer.cuts, answer.ranges) = (vec![150_000, 7], false));
    world.find().unwrap();
    assert_eq!(fs::read(world.snapshot().join(MODEL)).unwrap(), model_bytes());
}

#[test]
fn a_later_call_goes_on_too() {
    let world = tiny();
    world.contents.change(CONTENTS, |answer| answer.cuts = [vec![100_000], vec![0; 40]].concat());
    let text = world.message();
    assert!(text.contains("broke off after 100000 of 300000 bytes"), "{text}");
    assert_eq!(world.ranges(), [None, Some(100_000), Some(100_000), Some(100_000)]);
    world.assert_no_model();
    assert_eq!(fs::read(world.part()).unwrap(), model_bytes()[..100_000]);
    world.contents.change(CONTENTS, |answer| answer.cuts.clear());
    world.find().unwrap();
    assert_eq!(world.ranges(), [None, Some(100_000)]);
    assert_eq!(fs::read(world.snapshot().join(MODEL)).unwrap(), model_bytes());

    // What lay there may be wrong: the digest is that of the whole.
    let world = tiny();
    fs::create_dir_all(world.at("blobs")).unwrap();
    fs::write(world.part(), vec![7; 1000]).unwrap();
    assert!(world.message().contains("checksum"));
    world.find().unwrap();
    // Or too much of it.
    let world = tiny();
    fs::create_dir_all(world.at("blobs")).unwrap();
    fs::write(world.part(), [model_bytes(), vec![0]].concat()).unwrap();
    world.find().unwrap();
    assert_eq!(world.ranges(), [None]);
    // Or whole, but not yet named.
    let world = tiny();
    fs::create_dir_all(world.at("blobs")).unwrap();
    fs::write(world.part(), model_bytes()).unwrap();
    world.find().unwrap();
    assert!(!world.part().exists());
    assert_eq!(fs::read(world.snapshot().join(MODEL)).unwrap(), model_bytes());
}

#[test]
fn whoever_watches_can_stop_it() {
    let world = tiny();
    let stopped = PretrainedModel::find(ID, None, &world.settings, &mut |download| {
        if download.file == MODEL { Err(Error::Interrupted("stopped".into())) } else { Ok(()) }
    });
    assert_eq!(stopped.unwrap_err().to_string(), "stopped");
    world.assert_no_model();
    let kept = fs::metadata(world.part()).unwrap().len();
    assert!(kept > 0);
    world.contents.requests();
    world.find().unwrap();
    assert_eq!(world.ranges().last(), Some(&(kept < MODEL_BYTES as u64).then_some(kept)));
}

#[test]
fn several_at_once() {
    let world = tiny();
    std::thread::scope(|scope| {
        let all = [(); 4].map(|()| scope.spawn(|| world.find()));
        for one in all {
            one.join().unwrap().unwrap();
        }
    });
    assert_eq!(world.ranges(), [None]);
    assert_eq!(fs::read(world.snapshot().join(MODEL)).unwrap(), model_bytes());
}

#[test]
fn answers_that_are_refused() {
    let listing = format!("/api/models/{ID}/revision/main");
    for (status, expected) in
        [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "does not have it"), (503, "answers 503")]
    {
        let world = tiny();
        world.hub.change(&listing, |answer| answer.status = status);
        assert!(world.message().contains(expected), "{status}");
        let world = tiny();
        world.contents.change(CONTENTS, |answer| answer.status = status);
        assert!(world.message().contains(expected), "{status}");
        world.assert_no_model();
    }
    for (body, expected) in [
        ("<html>", "not JSON"),
        ("{}", "names no commit"),
        (r#"{"sha": "../../../x", "siblings": []}"#, "names no commit"),
        (r#"{"sha": "0123456789abcdef0123456789abcdef01234567"}"#, "names no commit or no files"),
    ] {
        let world = tiny();
        world.hub.change(&listing, |answer| answer.body = body.into());
        assert!(world.message().contains(expected), "{body}");
    }
    // An ETag becomes the name of a file.
    for etag in ["\"../../../evil\"", "\"\"", "\".x\"", "\"a b\""] {
        let world = tiny();
        world
            .hub
            .change("/api/resolve-cache/config.json", |answer| answer.headers = vec![("etag", etag.into())]);
        assert!(world.message().contains("gives no ETag"), "{etag}");
    }
    let world = tiny();
    let own = format!("{}{}", world.hub.address, resolve(MODEL));
    world.hub.change(&resolve(MODEL), |answer| answer.headers[0].1 = own);
    assert!(world.message().contains("in circles"));

    let mut world = tiny();
    world.settings.endpoint = "http://127.0.0.1:9".into();
    assert!(world.message().contains("check the connection"));
    for endpoint in ["", "huggingface", "http://", "ftp://x"] {
        world.settings.endpoint = endpoint.into();
        world.message();
    }
}

/// What cannot be used is told before any weights are fetched.
#[test]
fn models_that_are_refused() {
    let world = world(&[DECODER, TOKENIZER], true);
    let text = world.find().unwrap_err().to_string();
    assert!(text.contains("gpt2") && text.contains("distilbert"), "{text}");
    assert!(world.contents.requests().is_empty());

    for (files, expected) in [
        (&["tokenizer.json", MODEL][..], "has no config.json"),
        (&["config.json", "tokenizer.json"], "neither model.safetensors nor"),
        (
            &["config.json", "tokenizer.json", "pytorch_model.bin"],
            "from_pretrained(\"someone/tiny\").save_pretrained(\"tiny\")",
        ),
        (&["config.json", MODEL], "import AutoTokenizer; "),
    ] {
        let world = tiny();
        world.list(files);
        let text = world.message();
        assert!(text.contains(expected) && text.contains("/someone/tiny: "), "{text}");
        assert!(world.contents.requests().is_empty());
    }
}

#[test]
fn shards() {
    let world = world(&[CONFIG, TOKENIZER, INDEX, SHARDS[0], SHARDS[1]], false);
    let model = world.find().unwrap();
    for (file, body, _) in SHARDS {
        assert_eq!(fs::read_to_string(model.folder.join(file)).unwrap(), body);
    }
}
