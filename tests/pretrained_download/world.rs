//! A hub with one model, which it does not keep itself, and the cache that it is fetched into.
#![allow(unreachable_pub, reason = "a module of one test")]

use std::path::PathBuf;
use std::time::Duration;

use regrow::Error;
use regrow::pretrained::{HubSettings, PretrainedModel};
use serde_json::json;

use crate::hub::{Answer, Server};

pub const ID: &str = "someone/tiny";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A small file: name, contents, digest as git computes it.
pub type Small = (&'static str, &'static str, &'static str);
pub const CONFIG: Small = (
    "config.json",
    r#"{"model_type":"bert","vocab_size":9,"hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":7,"max_position_embeddings":48}"#,
    "bf77f41b70f5417abbf35365aafe44fcdcddc023",
);
pub const TOKENIZER: Small =
    ("tokenizer.json", r#"{"version":"1.0"}"#, "22ec89ab90889036bc14d5b1bb6109974ef95582");
pub const MODULES: Small = (
    "modules.json",
    r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},{"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#,
    "4480354d21b48249fd3bc0bc827d2822bcf68836",
);
pub const POOLING: Small = (
    "1_Pooling/config.json",
    r#"{"word_embedding_dimension":8,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true}"#,
    "2efb6e48b84f710d71f915f70875d61b50f5e0d7",
);
pub const SENTENCE: Small = (
    "sentence_bert_config.json",
    r#"{"max_seq_length":33,"do_lower_case":false}"#,
    "cb0da4f6f32634d30a837aac9ba7e045c1670d30",
);
pub const DECODER: Small =
    ("config.json", r#"{"model_type":"gpt2"}"#, "681c693376013230a961d427942459a2ac613f60");
pub const INDEX: Small = (
    "model.safetensors.index.json",
    r#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#,
    "882e6caa44ebc3cd41ab452d1ab15048a4863294",
);
pub const SHARDS: [Small; 2] = [
    ("model-00001-of-00002.safetensors", "1", "56a6051ca2b02b04ef92d5150c9ef600403cb1de"),
    ("model-00002-of-00002.safetensors", "2", "d8263ee9860594d2806b0dfd1bfd17528b0ba2a4"),
];

pub const MODEL: &str = "model.safetensors";
pub const MODEL_SHA256: &str = "24591658fd88d06ca7da58118225d4debef89faee747351ab2b559b339d26d59";
pub const MODEL_BYTES: usize = 300_000;
/// Where the model's contents are, on another server.
pub const CONTENTS: &str = "/contents/of-model?signature=a%2Fb";

pub fn model_bytes() -> Vec<u8> {
    (0..MODEL_BYTES).map(|i| ((i * 7 + i / 251) % 251) as u8).collect()
}

pub fn resolve(file: &str) -> String {
    format!("/{ID}/resolve/{COMMIT}/{file}")
}

/// A hub with one model, the server of its large files, and an empty cache.
pub struct World {
    pub hub: Server,
    pub contents: Server,
    pub cache: tempfile::TempDir,
    pub settings: HubSettings,
}

pub fn world(small: &[Small], with_model: bool) -> World {
    let (hub, contents, cache) = (Server::start(), Server::start(), tempfile::tempdir().unwrap());
    let settings = HubSettings {
        cache: cache.path().to_path_buf(),
        endpoint: hub.address.clone(),
        offline: false,
        token: Some("hf_secret".into()),
        environment_proxy: false,
        retry_pause: Duration::from_millis(1),
    };
    let world = World { hub, contents, cache, settings };
    let mut files: Vec<&str> = small.iter().map(|(file, ..)| *file).collect();
    files.push("README.md");
    for &(file, body, digest) in small {
        // As the hub does it now: small files by way of a redirect within it.
        let moved = format!("/api/resolve-cache/{file}");
        world.hub.answer(
            &resolve(file),
            Answer { status: 307, headers: vec![("location", moved.clone())], ..Answer::default() },
        );
        let headers = vec![("etag", format!("\"{digest}\""))];
        world.hub.answer(&moved, Answer { status: 200, headers, body: body.into(), ..Answer::default() });
    }
    if with_model {
        files.push(MODEL);
        let headers = vec![
            ("location", format!("{}{CONTENTS}", world.contents.address)),
            ("x-linked-etag", format!("\"{MODEL_SHA256}\"")),
            ("x-linked-size", MODEL_BYTES.to_string()),
            ("etag", "\"of the redirect\"".to_string()),
        ];
        world.hub.answer(&resolve(MODEL), Answer { status: 302, headers, ..Answer::default() });
        let headers = vec![("etag", "\"of another kind\"".to_string())];
        let whole = Answer { status: 200, headers, body: model_bytes(), cuts: Vec::new(), ranges: true };
        world.contents.answer(CONTENTS, whole);
    }
    world.list(&files);
    world
}

pub fn tiny() -> World {
    world(&[CONFIG, TOKENIZER], true)
}

impl World {
    pub fn list(&self, files: &[&str]) {
        let siblings: Vec<_> = files.iter().map(|file| json!({"rfilename": file})).collect();
        let body = json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes();
        for revision in ["main", "v1", "refs%2Fpr%2F1"] {
            let path = format!("/api/models/{ID}/revision/{revision}");
            self.hub.answer(&path, Answer { status: 200, body: body.clone(), ..Answer::default() });
        }
    }

    pub fn find(&self) -> regrow::Result<PretrainedModel> {
        PretrainedModel::find(ID, None, &self.settings, &mut |_| Ok(()))
    }

    pub fn message(&self) -> String {
        let error = self.find().expect_err("an error");
        assert!(matches!(error, Error::Download { .. }) && error.exit_code() == 5, "{error}");
        error.to_string()
    }

    pub fn at(&self, below: &str) -> PathBuf {
        self.cache.path().join("models--someone--tiny").join(below)
    }

    pub fn snapshot(&self) -> PathBuf {
        self.at("snapshots").join(COMMIT)
    }

    pub fn part(&self) -> PathBuf {
        self.at("blobs").join(format!("{MODEL_SHA256}.regrow-part"))
    }

    /// The ranges asked of the server of contents, for each request.
    pub fn ranges(&self) -> Vec<Option<u64>> {
        self.contents.requests().into_iter().map(|request| request.range).collect()
    }

    pub fn assert_no_model(&self) {
        assert!(!self.at("blobs").join(MODEL_SHA256).exists());
        assert!(!self.snapshot().join(MODEL).exists());
        assert!(!self.at("refs").exists());
    }
}
