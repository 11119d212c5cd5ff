//! Encoders that cannot be: models that are not there, damaged, of another kind, or that do not fit the config. One line
//! says what and where, and the run that is there already stays, even with `--fresh`.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::cli::{Done, Place, assert_same, failed};
use support::golden;
use support::models::{SMALL, Stored, Tensors, serialized};

const WEIGHTS: &str = "model/model.safetensors";
const CONFIG: &str = "model/config.json";

/// A place with the golden BERT in `model`, which `tiny.toml` trains on, and a finished run of it.
fn with_run() -> Place {
    let place = Place::small();
    place.golden("bert", "model");
    let own = [("init = \"scratch\"\n", "model = \"model\"\n"), ("epochs = 3\n", "epochs = 1\n")];
    let config = own.iter().fold(SMALL.to_owned(), |config, (from, to)| config.replace(from, to));
    assert_eq!(config.matches("model = \"model\"").count(), 1);
    place.write("tiny.toml", config);
    place.write("texts", "river stone\n");
    place.train("run", &[]);
    place
}

/// What the program does with an empty Hugging Face cache and no network.
fn offline(place: &Place, arguments: &[&str]) -> Done {
    let mut command = place.command(arguments);
    for name in ["HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"] {
        command.env_remove(name);
    }
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", place.path("hf"));
    let output = command.output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[track_caller]
fn refused(place: &Place, arguments: &[&str], code: i32, what: &[&str]) {
    let before = place.snapshot("");
    let done = offline(place, arguments);
    failed(&done, code, what);
    assert!(done.out.is_empty(), "a failed call printed {}", done.out);
    assert_same(&before, &place.snapshot(""));
}

/// Training with these settings is refused, and deletes nothing although it may.
#[track_caller]
fn fails(place: &Place, settings: &[&str], code: i32, what: &[&str]) {
    fails_on(place, "cpu", settings, code, what);
}

#[track_caller]
fn fails_on(place: &Place, device: &str, settings: &[&str], code: i32, what: &[&str]) {
    let mut all = vec!["train", "tiny.toml", "--data", "data", "--out", "run", "--fresh", "--device", device];
    settings.iter().for_each(|setting| all.extend(["--set", setting]));
    refused(place, &all, code, what);
}

/// `regrow encode` of `texts` is refused and writes nothing.
#[track_caller]
fn encode_fails(place: &Place, model: &str, more: &[&str], code: i32, what: &[&str]) {
    // Shorter than any position table here, unless `more` says otherwise; a trained model takes no other length.
    let own_length = model.starts_with("run") || more.contains(&"--max-tokens");
    let length: &[&str] = if own_length { &[] } else { &["--max-tokens", "16"] };
    let output: &[&str] = if more.contains(&"--output") { &[] } else { &["--output", "out.safetensors"] };
    let fixed = ["encode", model, "--input", "texts", "--device", "cpu"];
    refused(place, &[&fixed, output, length, more].concat(), code, what);
}

/// The object in the model's `config.json`, changed.
fn with_config(place: &Place, key: &str, value: Value) {
    let mut config: Value = serde_json::from_str(&place.text(CONFIG)).expect("JSON");
    config[key] = value;
    place.write(CONFIG, config.to_string());
}

#[test]
fn models_that_are_not_there() {
    let place = with_run();
    fails(&place, &["encoder.model="], 2, &["config encoder.model: names no model", "scratch"]);
    fails(&place, &["encoder.model=./gone"], 2, &["there is no folder ./gone", "Hugging Face"]);
    fails(&place, &["encoder.model=tiny.toml/x/y"], 2, &["there is no folder tiny.toml/x/y"]);
    for id in ["someone/tiny", "gone"] {
        let model = format!("encoder.model={id}");
        let what =
            [id, "(main)", "neither a folder nor in the Hugging Face cache", "hf/hub", "HF_HUB_OFFLINE"];
        fails(&place, &[&model], 2, &what);
    }
    fails(
        &place,
        &["encoder.model=someone/tiny", "encoder.revision=v1"],
        2,
        &["someone/tiny (v1)", "HF_HUB_OFFLINE"],
    );
    fails(&place, &["encoder.model=someone/tiny", "encoder.revision=a b"], 2, &["revision", "a b"]);
    fails(&place, &["encoder.revision=main"], 2, &["model is a folder", "no revision main", "leave it out"]);
    // The other verbs that want a pretrained model.
    encode_fails(&place, "./gone", &[], 2, &["there is no folder ./gone"]);
    encode_fails(&place, "someone/tiny", &[], 2, &["someone/tiny", "HF_HUB_OFFLINE"]);
    let plan = ["plan", "tiny.toml", "--labels", "9", "--device", "cpu", "--set", "encoder.model=./gone"];
    refused(&place, &plan, 2, &["there is no folder ./gone"]);
}

#[test]
fn folders_that_lack_a_file() {
    let place = with_run();
    let without = |file: &str, what: &[&str]| {
        fs::remove_file(place.path(&format!("model/{file}"))).unwrap();
        fails(&place, &[], 2, &[&["model: "], what].concat());
        place.golden("bert", "model");
    };
    without("config.json", &["no config.json", "Hugging Face"]);
    without("tokenizer.json", &["tokenizer.json is missing", "AutoTokenizer.from_pretrained(\"model\""]);
    without("model.safetensors", &["neither model.safetensors nor model.safetensors.index.json"]);
    place.write("model/pytorch_model.bin", "a pickle");
    without("model.safetensors", &["PyTorch's own format", "AutoModel.from_pretrained(\"model\")"]);
    fs::remove_file(place.path("model/pytorch_model.bin")).unwrap();
    place.train("run", &["--fresh"]);
}

#[test]
fn configs_that_describe_no_encoder() {
    let place = with_run();
    let with = |key: &str, value: Value, what: &[&str]| {
        with_config(&place, key, value);
        fails(&place, &[], 2, &[&["model/config.json: ", key], what].concat());
        place.golden("bert", "model");
    };
    with("model_type", json!("gpt2"), &["gpt2", "bert, distilbert, roberta"]);
    with("model_type", Value::Null, &["missing"]);
    with("is_decoder", json!(true), &["decoders are not supported"]);
    with("position_embedding_type", json!("relative_key"), &["absolute positions"]);
    with("hidden_act", json!("silu"), &["silu", "gelu_new"]);
    with("num_attention_heads", json!(5), &["is 5", "divide hidden_size, which is 32"]);
    with("num_attention_heads", json!(0), &["is 0", "whole number"]);
    with("hidden_size", json!(1e30), &["whole number"]);
    with("num_hidden_layers", json!(-1), &["is -1", "whole number"]);
    with("vocab_size", json!("many"), &["many", "whole number"]);
    with("layer_norm_eps", json!(0), &["is 0"]);
    with("hidden_dropout_prob", json!(1.5), &["is 1.5"]);
    for text in ["", "{", "[1]", "null", "\u{0}"] {
        place.write(CONFIG, text);
        fails(&place, &[], 2, &["model/config.json: is no"]);
    }
}

#[test]
fn damaged_weights() {
    let place = with_run();
    let whole = place.read(WEIGHTS);
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let lying = |length: u64| [&length.to_le_bytes(), &whole[8..]].concat();
    let mut damaged: Vec<Vec<u8>> = [0, 7, 8, 20, header - 1, header, whole.len() / 2, whole.len() - 1]
        .into_iter()
        .map(|length| whole[..length].to_vec())
        .collect();
    damaged
        .extend([0, 1, header as u64 - 9, header as u64, whole.len() as u64, 1 << 40, u64::MAX].map(lying));
    damaged.push([&whole[..], &[0]].concat());
    for bytes in damaged {
        place.write(WEIGHTS, bytes);
        fails(&place, &[], 5, &[WEIGHTS, "no intact safetensors file"]);
    }
    encode_fails(&place, "model", &[], 5, &[WEIGHTS, "no intact safetensors file"]);
}

#[test]
fn weights_of_another_kind() {
    let place = with_run();
    let whole: Tensors = place.tensors(WEIGHTS);
    let with = |what: &[&str], change: &dyn Fn(&mut Tensors)| {
        let mut tensors = whole.clone();
        change(&mut tensors);
        place.write(WEIGHTS, serialized(&tensors));
        fails(&place, &[], 2, &[&[WEIGHTS], what].concat());
    };
    let name = "encoder.layer.1.output.dense.weight";
    for (number, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        // Row 3, column 5 of [32, 64].
        with(&[name, said, "[3, 5]"], &|tensors| {
            let mut numbers = tensors[name].floats();
            numbers[3 * 64 + 5] = number;
            tensors.insert(name.into(), Stored::f32s(&[32, 64], &numbers));
        });
    }
    with(&["tensor encoder.layer.1.output.dense.weight is missing"], &|tensors| {
        tensors.remove(name).unwrap();
    });
    with(&[name, "[64, 32]", "[32, 64]", "different models"], &|tensors| {
        tensors.get_mut(name).unwrap().shape = vec![64, 32];
    });
    with(&[name, "dtype I32"], &|tensors| {
        tensors.get_mut(name).unwrap().dtype = safetensors::Dtype::I32;
    });
    with(&["is missing", "the file holds other"], &|tensors| {
        tensors.clear();
        tensors.insert("other".into(), Stored::f32s(&[1], &[1.0]));
    });
    with(&["is missing"], &Tensors::clear);
    place.write(WEIGHTS, serialized(&whole));
    // The description of one model, the weights of another.
    with_config(&place, "num_hidden_layers", json!(3));
    fails(
        &place,
        &["encoder.layers=0"],
        2,
        &[WEIGHTS, "encoder.layer.2.", "is missing", "config.json that of another model"],
    );
    with_config(&place, "num_hidden_layers", json!(2));
    with_config(&place, "intermediate_size", json!(96));
    fails(&place, &[], 2, &[WEIGHTS, "intermediate", "[64, 32]", "[96, 32]"]);
    with_config(&place, "intermediate_size", json!(64));
    fails(&place, &["encoder.prefix=bert"], 2, &[WEIGHTS, "\"bert.\"", "is missing"]);
    place.train("run", &["--fresh"]);
}

#[test]
fn tokenizers_of_other_models() {
    let place = with_run();
    let too_many = ["config encoder.tokenizer: the tokenizer has", "the weights of model only 132"];
    let other = golden::folder().join("encoder/roberta/tokenizer.json");
    place.write("other.json", fs::read(other).unwrap());
    fails(&place, &["encoder.tokenizer=other.json"], 2, &too_many);
    let own = place.text("model/tokenizer.json");
    place.write("model/tokenizer.json", place.read("other.json"));
    fails(&place, &[], 2, &too_many);
    encode_fails(&place, "model", &[], 2, &too_many);
    place.write("model/tokenizer.json", "{}");
    fails(&place, &[], 5, &["model/tokenizer.json", "tokenizer"]);
    // Without special tokens an empty text would be nothing to look at.
    let mut json: Value = serde_json::from_str(&own).expect("JSON");
    json["post_processor"] = Value::Null;
    place.write("model/tokenizer.json", json.to_string());
    fails(&place, &[], 2, &["encoder.tokenizer", "no special tokens", "BertProcessing"]);
}

#[test]
fn settings_beyond_the_model() {
    let place = with_run();
    let cases: [(&[&str], &[&str]); 11] = [
        (&["data.max_tokens=49"], &["data.max_tokens: 49 is more than the 48 positions"]),
        (&["data.max_tokens=1"], &["data.max_tokens", "special tokens"]),
        (&["encoder.layers=3"], &["encoder.layers: 3 is more than the model's 2 layers"]),
        (
            &["encoder.pooling=cls", "encoder.pooled_layers=3"],
            &["encoder.pooled_layers: 3 is more than the model's 2 layers"],
        ),
        (
            &["encoder.pooling=cls", "encoder.pooled_layers=2", "encoder.layers=1"],
            &["encoder.pooled_layers: 2 is more than the model's 1 layers"],
        ),
        (&["encoder.pooled_layers=2"], &["encoder.pooled_layers", "encoder.pooling = \"cls\""]),
        (&["encoder.pooled_layers=0"], &["encoder.pooled_layers", "at least 1"]),
        (&["classifier.fan_in=33"], &["classifier.fan_in: 33 is more than the 32 features"]),
        (
            &["classifier.fan_in=65", "encoder.pooling=cls", "encoder.pooled_layers=2"],
            &["classifier.fan_in: 65 is more than the 64 features"],
        ),
        (&["encoder.freeze=2.5"], &["encoder.freeze", "2.5"]),
        (&["encoder.freeze=most"], &["encoder.freeze", "most"]),
    ];
    for (settings, what) in cases {
        fails(&place, settings, 2, &[&["config "], what].concat());
    }
    // From scratch the sizes are the config's own.
    let cases: [(&[&str], &[&str]); 6] = [
        (&["encoder.heads=3"], &["encoder.heads: 3 does not divide encoder.dim = 16"]),
        (&["encoder.heads=0"], &["encoder.heads", "at least 1"]),
        (&["encoder.layers=0"], &["encoder.layers", "at least 1"]),
        (&["encoder.positions=15"], &["data.max_tokens: 16 is more than the 15 positions"]),
        (&["encoder.family=roberta", "encoder.positions=15"], &["16 is more than the 15 positions"]),
        (&["classifier.fan_in=17"], &["classifier.fan_in: 17 is more than the 16 features"]),
    ];
    for (settings, what) in cases {
        fails(&place, &[&["encoder.init=scratch"], settings].concat(), 2, &[&["config "], what].concat());
    }
}

#[test]
fn encoding_beyond_the_model() {
    let place = with_run();
    let too_long = ["--max-tokens: 49 is more than the 48 positions"];
    encode_fails(&place, "model", &["--max-tokens", "49"], 2, &too_long);
    encode_fails(&place, "model", &["--max-tokens", "1"], 2, &["--max-tokens: ", "special tokens"]);
    encode_fails(&place, "model", &["--set", "encoder.layers=3"], 2, &["encoder.layers", "2 layers"]);
    encode_fails(&place, "model", &["--set", "encoder.kind=bag"], 2, &["not pretrained"]);
    encode_fails(
        &place,
        "model",
        &["--set", "encoder.init=scratch", "--set", "encoder.layers=1"],
        2,
        &["not pretrained"],
    );
    encode_fails(&place, "model", &["--batch", "0"], 2, &["--batch", "is 0"]);
    for output in ["q.npy", "q", ".safetensors"] {
        encode_fails(
            &place,
            "model",
            &["--output", output],
            2,
            &["--output", output, "ends in .safetensors"],
        );
    }
    let nowhere = ["--output", "none/q.safetensors"];
    encode_fails(&place, "model", &nowhere, 2, &["--output none/q.safetensors", "no such folder: none"]);
    for trained in ["run", "run/model"] {
        let what = ["is for pretrained models", trained, "trained by regrow"];
        encode_fails(&place, trained, &["--max-tokens", "3"], 2, &[&["--max-tokens"], &what[..]].concat());
        encode_fails(&place, trained, &["--set", "encoder.dim=3"], 2, &[&["--set"], &what[..]].concat());
    }
    place.write("texts", "");
    encode_fails(&place, "model", &[], 2, &["texts", "no line"]);
    place.write("texts", "one\n{\"text\": 3}\n");
    encode_fails(&place, "model", &[], 2, &["texts:2: ", "string"]);
}

/// The names of kernels are checked on every device, though only GPUs have a choice; a bag has no products at all.
#[test]
fn kernels_that_cannot_be_switched_off() {
    let place = with_run();
    for device in ["cpu", place.first_adapter()] {
        for name in ["tiled16", "floor", "tiled32,frobnicate"] {
            let setting = format!("train.kernels_off={name}");
            let wrong = format!("`{}` cannot be switched off", name.rsplit(',').next().unwrap());
            let what = ["config train.kernels_off: ", &wrong, "only tiled32, tiled64, cooperative"];
            fails_on(&place, device, &[&setting], 2, &what);
        }
    }
    place.train("run", &["--fresh", "--set", "train.kernels_off=tiled32, cooperative"]);
}

/// A model folder of regrow whose description was changed by hand.
#[test]
fn descriptions_that_do_not_fit_the_weights() {
    let place = with_run();
    let whole: Value = serde_json::from_str(&place.text("run/model/config.json")).expect("JSON");
    let predict = ["predict", "run", "--input", "texts", "--device", "cpu"];
    place.ok(&predict);
    let cases: [(&str, Value, i32, &[&str]); 6] = [
        ("/encoder/kind", json!("mamba"), 5, &["run/model/config.json", "encoder.kind"]),
        ("/encoder/pooling/kind", json!("max"), 5, &["run/model/config.json", "encoder.pooling"]),
        ("/encoder/architecture", json!([]), 5, &["run/model/config.json", "encoder.architecture"]),
        ("/encoder/architecture/num_attention_heads", json!(7), 2, &["run/model/config.json", "divide"]),
        (
            "/encoder/architecture/num_hidden_layers",
            json!(3),
            5,
            &["run/model/model.safetensors", "layer.2."],
        ),
        ("/encoder/architecture/hidden_size", json!(64), 5, &["run/model/model.safetensors", "[132, 64]"]),
    ];
    for (pointer, value, code, what) in cases {
        let mut changed = whole.clone();
        *changed.pointer_mut(pointer).expect(pointer) = value;
        place.write("run/model/config.json", changed.to_string());
        refused(&place, &predict, code, what);
        encode_fails(&place, "run", &[], code, what);
    }
}
