//! The BERT family against PyTorch in float64: hidden states, poolings, every gradient, on every engine.

mod support;

use regrow::data::Tokenizer;
use regrow::device::{Device, Recording};
use regrow::encoder::{Encoder, PARAMETER_PREFIX, Pooling, Transformer, TransformerOptions};
use regrow::kernels::products::Products;
use regrow::pretrained::PretrainedModel;
use support::device::{engines, upload};
use support::encoder::{Fed, copy, documents, load, options, read};
use support::golden::{Case, cases, folder, scaled_error};

fn model(case: &Case) -> PretrainedModel {
    PretrainedModel::open(&folder().join(case.json["model"].as_str().expect("a case names its model")))
        .unwrap()
}

/// What must not change a result.
#[derive(Clone, Copy, Debug)]
struct Way {
    micro_batch: usize,
    recompute: bool,
}

const WAYS: [Way; 3] = [
    Way { micro_batch: 100, recompute: false },
    Way { micro_batch: 100, recompute: true },
    Way { micro_batch: 2, recompute: false },
];

#[test]
fn values_and_gradients() {
    for case in cases("encoder") {
        let model = model(&case);
        let documents = documents(&case);
        for (engine, device) in engines() {
            for way in WAYS {
                for (name, pooling) in [("mean", Pooling::Mean), ("cls", Pooling::First(1))] {
                    let place = format!("{} pooled by {name} on {engine}, {way:?}", case.name);
                    let options = TransformerOptions {
                        recompute: way.recompute,
                        ..options(&model, &documents, pooling, Products::floor())
                    };
                    let encoder = load(device, &model.folder, options);
                    let fed = Fed::new(device, &documents, way.micro_batch);
                    check(&place, device, &case, &encoder, &fed, name);
                    if name == "mean" && way.micro_batch == 100 {
                        check_hidden_states(&place, device, &case, &encoder, &documents);
                    }
                }
            }
        }
    }
}

fn check(place: &str, device: &Device, case: &Case, encoder: &Transformer, fed: &Fed, pooling: &str) {
    let count = case.size("B") * case.size("H");
    let mut recording = Recording::new();
    let batch = fed.record(&mut recording);
    let features = encoder.forward(&mut recording, &batch, Some(0));
    // The objective is the sum of features times R: its gradient is R.
    let r = upload(device, &case.f32("R").0);
    copy(&mut recording, count, &r, &encoder.feature_gradient().unwrap());
    encoder.backward(&mut recording, &batch, 0);
    device.submit(recording).unwrap();

    let pooled = format!("pooled_{pooling}");
    let error = scaled_error(&case.f32(&pooled).0, &read(device, &features, count));
    assert!(error <= case.tolerance(&pooled), "{place}: {pooled} is off by {error:e}");

    let objective = format!("grad_{pooling}");
    let truth = |name: &str| case.f32(&format!("{objective}.{name}"));
    let names =
        encoder.parameters().iter().map(|p| p.name.strip_prefix(PARAMETER_PREFIX).unwrap().to_owned());
    let names: Vec<String> = names.collect();
    let largest = names.iter().flat_map(|name| truth(name).0).fold(0.0_f32, |max, g| max.max(g.abs()));
    for (i, name) in names.iter().enumerate() {
        let (truth, shape) = truth(name);
        let gradient = gradient(device, encoder, fed, i, &shape);
        // The gradient of a key bias is zero in exact arithmetic.
        let error = if name.ends_with("key.bias") || name.ends_with("k_lin.bias") {
            let worst = truth.iter().zip(&gradient).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
            f64::from(worst / largest)
        } else {
            scaled_error(&truth, &gradient)
        };
        assert!(error <= case.tolerance(&objective), "{place}: gradient of {name} is off by {error:e}");
    }
}

/// A gradient in the parameter's shape; that of the words comes in the rows of the batch's tokens.
fn gradient(device: &Device, encoder: &Transformer, fed: &Fed, i: usize, shape: &[usize]) -> Vec<f32> {
    let buffer = encoder.gradient(i).expect("everything is trained");
    let count = shape.iter().product();
    if !encoder.parameters()[i].name.ends_with("word_embeddings.weight") {
        return device.read_vec(buffer, count).unwrap();
    }
    let (width, unique) = (shape[1], fed.unique());
    let rows: Vec<f32> = device.read_vec(buffer, unique.len() * width).unwrap();
    let mut whole = vec![0.0; count];
    for (row, token) in rows.chunks_exact(width).zip(unique) {
        whole[*token as usize * width..][..width].copy_from_slice(row);
    }
    whole
}

fn check_hidden_states(
    place: &str,
    device: &Device,
    case: &Case,
    encoder: &Transformer,
    documents: &[Vec<u32>],
) {
    let (truth, shape) = case.f32("last_hidden_state");
    let [_, longest, hidden] = shape[..] else { panic!("{place}: shape {shape:?}") };
    let tokens = documents.iter().map(Vec::len).sum::<usize>();
    let got: Vec<f32> = device.read_vec(encoder.last_hidden_state(), tokens * hidden).unwrap();
    let truth: Vec<f32> = documents
        .iter()
        .enumerate()
        .flat_map(|(row, tokens)| truth[row * longest * hidden..][..tokens.len() * hidden].to_vec())
        .collect();
    let error = scaled_error(&truth, &got);
    assert!(error <= case.tolerance("last_hidden_state"), "{place}: hidden states are off by {error:e}");
}

/// What is frozen gets no gradient and changes nothing above it.
#[test]
fn frozen_stages() {
    let case =
        cases("encoder").into_iter().find(|case| case.name == "distilbert").expect("the case distilbert");
    let (model, documents) = (model(&case), documents(&case));
    let count = case.size("B") * case.size("H");
    for (engine, device) in engines() {
        for frozen_stages in 0..=model.architecture.layers + 1 {
            let options = TransformerOptions {
                frozen_stages,
                ..options(&model, &documents, Pooling::Mean, Products::floor())
            };
            let encoder = load(device, &model.folder, options);
            let fed = Fed::new(device, &documents, 3);
            let mut recording = Recording::new();
            let batch = fed.record(&mut recording);
            encoder.forward(&mut recording, &batch, Some(0));
            match encoder.feature_gradient() {
                Some(gradient) => copy(&mut recording, count, &upload(device, &case.f32("R").0), &gradient),
                None => assert_eq!(frozen_stages, model.architecture.layers + 1, "{engine}"),
            }
            encoder.backward(&mut recording, &batch, 0);
            device.submit(recording).unwrap();
            for (i, parameter) in encoder.parameters().iter().enumerate() {
                let name = parameter.name.strip_prefix(PARAMETER_PREFIX).unwrap();
                let layer = name.strip_prefix("transformer.layer.").and_then(|rest| rest.split('.').next());
                let stage = layer.map_or(0, |layer| layer.parse::<usize>().unwrap() + 1);
                if stage < frozen_stages {
                    assert!(encoder.gradient(i).is_none(), "{engine}: {name} of stage {stage}");
                } else if !name.ends_with("k_lin.bias") {
                    let (truth, shape) = case.f32(&format!("grad_mean.{name}"));
                    let error = scaled_error(&truth, &gradient(device, &encoder, &fed, i, &shape));
                    assert!(
                        error <= case.tolerance("grad_mean"),
                        "{engine}, {frozen_stages} frozen: {name}: {error:e}"
                    );
                }
            }
        }
    }
}

/// The concatenation of several layers' first tokens, against the single ones that a shorter model gives.
#[test]
fn first_tokens_of_the_last_layers() {
    let case =
        cases("encoder").into_iter().find(|case| case.name == "distilbert").expect("the case distilbert");
    let (model, documents) = (model(&case), documents(&case));
    let (rows, hidden, layers) = (case.size("B"), case.size("H"), model.architecture.layers);
    for (engine, device) in engines() {
        let features = |layers: usize, pooled: usize| {
            let mut options = options(&model, &documents, Pooling::First(pooled), Products::floor());
            options.architecture = options.architecture.first_layers(layers).unwrap();
            let encoder = load(device, &model.folder, options);
            let mut recording = Recording::new();
            let batch = Fed::new(device, &documents, 2).record(&mut recording);
            let features = encoder.forward(&mut recording, &batch, None);
            device.submit(recording).unwrap();
            read(device, &features, rows * pooled * hidden)
        };
        let both = features(layers, 2);
        let (last, below) = (features(layers, 1), features(layers - 1, 1));
        for row in 0..rows {
            let expected = [&last[row * hidden..][..hidden], &below[row * hidden..][..hidden]].concat();
            assert_eq!(both[row * 2 * hidden..][..2 * hidden], expected, "row {row} on {engine}");
        }
        let error = scaled_error(&case.f32("pooled_cls").0, &last);
        assert!(error <= case.tolerance("pooled_cls"), "{engine}: {error:e}");
    }
}

/// Token ids, special tokens and truncation are the model's, whatever its `tokenizer.json` presets.
#[test]
fn tokens() {
    for case in cases("encoder") {
        let given = &case.json["tokenizer"];
        let max_length = given["max_length"].as_u64().expect("a length") as usize;
        let tokenizer = Tokenizer::from_file(&model(&case).tokenizer, max_length, true).unwrap();
        for text in given["texts"].as_array().expect("texts") {
            let expected: Vec<u32> = serde_json::from_value(text["ids"].clone()).unwrap();
            let got = tokenizer.encode(text["text"].as_str().expect("a text")).unwrap();
            assert_eq!(got.ids, expected, "{}: {}", case.name, text["text"]);
        }
    }
}
