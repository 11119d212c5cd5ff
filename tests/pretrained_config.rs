//! `config.json` of encoders: what is read from it, what is refused, and what regrow writes itself.

mod support;

use std::path::Path;

use regrow::Error;
use regrow::kernels::activation::Activation;
use regrow::pretrained::{Architecture, EncoderTensors, Family, TensorRole};
use serde_json::{Map, Value, json};

fn parse(config: &Value) -> regrow::Result<Architecture> {
    Architecture::from_config_json(config.as_object().expect("an object"), Path::new("here/config.json"))
}

fn bert() -> Map<String, Value> {
    json!({
        "model_type": "bert", "vocab_size": 132, "hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 65, "max_position_embeddings": 48,
    })
    .as_object()
    .unwrap()
    .clone()
}

fn with(key: &str, value: Value) -> Value {
    let mut config = bert();
    config.insert(key.into(), value);
    config.into()
}

#[test]
fn golden_configs() {
    let read = |name: &str| {
        Architecture::read(&support::golden::folder().join("encoder").join(name).join("config.json"))
    };
    let bert = Architecture {
        family: Family::Bert,
        vocabulary: 132,
        hidden: 32,
        layers: 2,
        heads: 4,
        intermediate: 64,
        positions: 48,
        first_position: 0,
        token_types: 2,
        activation: Activation::Gelu,
        norm_epsilon: 1e-12,
        hidden_dropout: 0.0,
        attention_dropout: 0.0,
    };
    assert_eq!(read("bert").unwrap(), bert);
    assert_eq!(read("bert_legacy").unwrap(), bert);
    let distilbert = Architecture {
        family: Family::DistilBert,
        vocabulary: 148,
        hidden: 40,
        layers: 3,
        intermediate: 72,
        positions: 50,
        token_types: 0,
        ..bert
    };
    assert_eq!(read("distilbert").unwrap(), distilbert);
    let roberta = Architecture {
        family: Family::Roberta,
        vocabulary: 300,
        hidden: 36,
        intermediate: 80,
        positions: 52,
        first_position: 2,
        token_types: 1,
        norm_epsilon: 1e-3,
        ..bert
    };
    assert_eq!(read("roberta").unwrap(), roberta);
    assert_eq!(roberta.max_tokens(), 50);
    assert_eq!(bert.max_tokens(), 48);
}

#[test]
fn what_a_config_leaves_out() {
    let read = parse(&bert().into()).unwrap();
    assert_eq!((read.token_types, read.first_position, read.activation), (2, 0, Activation::Gelu));
    assert_eq!((read.norm_epsilon, read.hidden_dropout, read.attention_dropout), (1e-12, 0.1, 0.1));
    for model_type in ["roberta", "xlm-roberta", "camembert"] {
        let read = parse(&with("model_type", model_type.into())).unwrap();
        assert_eq!((read.family, read.first_position, read.max_tokens()), (Family::Roberta, 2, 46));
    }
    let mut padded = with("model_type", "roberta".into());
    padded["pad_token_id"] = 5.into();
    assert_eq!(parse(&padded).unwrap().first_position, 6);
    // The padding id of BERT moves nothing.
    assert_eq!(parse(&with("pad_token_id", 5.into())).unwrap().first_position, 0);
}

#[test]
fn activations() {
    use Activation::{Gelu, GeluTanh, Relu};
    for (name, activation) in [
        ("gelu", Gelu),
        ("gelu_python", Gelu),
        ("gelu_new", GeluTanh),
        ("gelu_pytorch_tanh", GeluTanh),
        ("gelu_fast", GeluTanh),
        ("relu", Relu),
    ] {
        assert_eq!(parse(&with("hidden_act", name.into())).unwrap().activation, activation);
    }
    let distilbert = json!({
        "model_type": "distilbert", "vocab_size": 9, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 7,
        "max_position_embeddings": 5, "activation": "relu", "dropout": 0.25, "attention_dropout": 0.5,
        "sinusoidal_pos_embds": true,
    });
    let read = parse(&distilbert).unwrap();
    assert_eq!(read.activation, Relu);
    assert_eq!((read.hidden_dropout, read.attention_dropout, read.norm_epsilon), (0.25, 0.5, 1e-12));
}

#[test]
fn errors_name_file_key_and_value() {
    for (key, value, expected) in [
        ("model_type", json!("gpt2"), "bert, distilbert, roberta, xlm-roberta, camembert"),
        ("model_type", Value::Null, "model_type is missing: "),
        ("position_embedding_type", json!("relative_key"), "relative_key"),
        ("is_decoder", json!(true), "decoders"),
        ("add_cross_attention", json!(true), "decoders"),
        ("hidden_act", json!("silu"), "gelu_new"),
        ("hidden_act", json!({"name": "gelu"}), "gelu_new"),
        ("num_attention_heads", json!(5), "hidden_size, which is 36"),
        ("num_attention_heads", json!(0), "from 1 to"),
        ("hidden_size", json!(-36), "-36"),
        ("hidden_size", json!(36.5), "36.5"),
        ("hidden_size", json!("36"), "\"36\""),
        ("hidden_size", Value::Null, "hidden_size is missing: "),
        ("vocab_size", json!(u64::MAX), "from 1 to"),
        ("num_hidden_layers", json!(4_000_000_000_u64), "from 1 to 1024"),
        ("intermediate_size", json!(1_u64 << 40), "from 1 to"),
        ("type_vocab_size", json!(-1), "from 0 to"),
        ("layer_norm_eps", json!(0.0), "between 0 and 1"),
        ("layer_norm_eps", json!("1e-5"), "1e-5"),
        ("hidden_dropout_prob", json!(1.0), "between 0 and 1"),
        ("attention_probs_dropout_prob", json!(-0.1), "between 0 and 1"),
    ] {
        let error = parse(&with(key, value.clone())).expect_err(key);
        assert!(matches!(error, Error::Data { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("here/config.json: {key} is ")), "{key} = {value}: {text}");
        assert!(text.contains(expected), "{key} = {value}: {text}");
    }
    // Roberta's positions begin after the padding: 48 rows are none if 47 is the padding id.
    let mut full = with("model_type", "roberta".into());
    full["pad_token_id"] = 47.into();
    assert!(parse(&full).unwrap_err().to_string().contains("max_position_embeddings is 48"));
    full["pad_token_id"] = 46.into();
    assert_eq!(parse(&full).unwrap().max_tokens(), 1);
}

#[test]
fn own_configs_give_the_same_architecture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    for family in [Family::Bert, Family::DistilBert, Family::Roberta] {
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let distil = family == Family::DistilBert;
            let written = Architecture {
                family,
                vocabulary: 101,
                hidden: 33,
                layers: 7,
                heads: 3,
                intermediate: 65,
                positions: 41,
                first_position: if family == Family::Roberta { 4 } else { 0 },
                token_types: if distil { 0 } else { 3 },
                activation,
                norm_epsilon: if distil { 1e-12 } else { 3e-7 },
                hidden_dropout: 0.1,
                attention_dropout: 0.3,
            };
            std::fs::write(&path, written.to_config_json().to_string()).unwrap();
            assert_eq!(Architecture::read(&path).unwrap(), written);
        }
    }
    std::fs::write(&path, "[1]").unwrap();
    assert!(Architecture::read(&path).unwrap_err().to_string().contains("no JSON object"));
    std::fs::write(&path, "{").unwrap();
    assert!(Architecture::read(&path).unwrap_err().to_string().contains("not JSON"));
}

#[test]
fn roles_lead_to_names_and_shapes() {
    let architecture = parse(&bert().into()).unwrap();
    let tensors = EncoderTensors::of(&architecture);
    assert_eq!(tensors.iter().len(), 5 + 2 * 16);
    let of = |role, layer| {
        let tensor = tensors.get(role, layer).unwrap();
        (tensor.name.as_str(), tensor.shape.clone())
    };
    assert_eq!(of(TensorRole::Word, None), ("embeddings.word_embeddings.weight", vec![132, 36]));
    assert_eq!(of(TensorRole::OutputWeight, Some(1)), ("encoder.layer.1.output.dense.weight", vec![36, 65]));
    assert_eq!(of(TensorRole::IntermediateWeight, Some(0)).1, [65, 36]);
    assert_eq!(tensors.index_of(TensorRole::Word, None), Some(0));
    assert_eq!(tensors.index_of(TensorRole::OutputNormBias, Some(1)), Some(5 + 2 * 16 - 1));
    for (role, layer) in
        [(TensorRole::Word, Some(0)), (TensorRole::KeyBias, None), (TensorRole::KeyBias, Some(2))]
    {
        assert!(tensors.get(role, layer).is_none());
    }
    let distilbert = Architecture { family: Family::DistilBert, token_types: 0, ..architecture };
    let tensors = EncoderTensors::of(&distilbert);
    assert!(tensors.get(TensorRole::TokenType, None).is_none());
    let name = |role| tensors.get(role, Some(1)).unwrap().name.clone();
    assert_eq!(name(TensorRole::AttentionNormWeight), "transformer.layer.1.sa_layer_norm.weight");
    assert_eq!(name(TensorRole::OutputBias), "transformer.layer.1.ffn.lin2.bias");
}

#[test]
fn first_layers() {
    let architecture = parse(&bert().into()).unwrap();
    let one = architecture.first_layers(1).unwrap();
    assert_eq!(one, Architecture { layers: 1, ..architecture });
    let (all, few) = (EncoderTensors::of(&architecture), EncoderTensors::of(&one));
    assert!(few.iter().eq(all.iter().take(5 + 16)));
    for layers in [0, 3] {
        let text = architecture.first_layers(layers).unwrap_err().to_string();
        assert!(text.contains("1 to 2"), "{text}");
    }
}
