//! The published all-MiniLM-L6-v2 against Hugging Face transformers in float64: token ids and embeddings.
//!
//! Its weights are no part of the repository: `tests/minilm.sh` fetches them and runs this.

mod support;

use std::path::PathBuf;

use regrow::config::Config;
use regrow::train::{EncoderSource, TextEncoder};
use serde_json::Value;
use support::device::engines;
use support::golden::{cases, folder, scaled_error};

#[test]
#[ignore = "needs the weights: tests/minilm.sh"]
fn token_ids_and_embeddings() {
    let model = std::env::var_os("REGROW_MINILM_DIR").map(PathBuf::from);
    let model =
        model.expect("REGROW_MINILM_DIR names the folder of all-MiniLM-L6-v2; tests/minilm.sh sets it");
    let case = &cases("minilm")[0];
    let path = folder().join(case.json["texts"].as_str().expect("a file with texts"));
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let texts = json["texts"].as_array().expect("texts");
    let (width, count) = (case.size("H"), case.size("texts"));
    assert_eq!(texts.len(), count);
    let strings: Vec<&str> = texts.iter().map(|text| text["text"].as_str().expect("a text")).collect();
    let config = Config::with_settings(&[
        "encoder.kind=transformer".into(),
        format!("encoder.model={}", model.display()),
        format!("data.max_tokens={}", case.size("max_length")),
        "train.batch_size=5".into(),
    ]);
    let config = config.unwrap();
    let source = EncoderSource::find(&config, &mut |_| Ok(())).unwrap();
    let truth = case.f32("embeddings").0;
    let normalized = case.f32("embeddings_normalized").0;
    for (engine, device) in engines() {
        let encoder = TextEncoder::pretrained(device, &config, &source, count).unwrap();
        for text in texts {
            let expected: Vec<u32> = serde_json::from_value(text["ids"].clone()).unwrap();
            let string = text["text"].as_str().expect("a text");
            assert_eq!(encoder.tokenizer.encode(string).unwrap().ids, expected, "{string}");
        }
        let got = encoder.encode(device, &strings).unwrap();
        let error = scaled_error(&truth, &got);
        assert!(error <= case.tolerance("embeddings"), "{engine}: embeddings are off by {error:e}");
        let unit = got.chunks_exact(width).flat_map(|row| {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter().map(move |x| x / norm)
        });
        let error = scaled_error(&normalized, &unit.collect::<Vec<_>>());
        assert!(error <= case.tolerance("embeddings_normalized"), "{engine}: normalised, off by {error:e}");
    }
}
