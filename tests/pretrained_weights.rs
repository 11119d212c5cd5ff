//! Weights of encoders: found under every name they go by, converted, and refused where they are wrong.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use regrow::pretrained::{Architecture, EncoderTensor, EncoderTensors, Family, PretrainedWeights};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

fn golden(name: &str) -> PathBuf {
    support::golden::folder().join("encoder").join(name)
}

fn architecture(folder: &Path) -> Architecture {
    Architecture::read(&folder.join("config.json")).unwrap()
}

/// All float tensors of a golden model under their names in the file, as the `safetensors` crate reads them.
fn truth(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .filter(|(_, view)| view.dtype() == Dtype::F32)
        .map(|(name, view)| {
            let numbers =
                view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            (name, (view.shape().to_vec(), numbers))
        })
        .collect()
}

/// What a test writes into a file: name, number format, shape, bytes.
type Written = (String, Dtype, Vec<usize>, Vec<u8>);

fn f32_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The tensors of the golden BERT, each under the name that `name` gives it.
fn bert_as(name: impl Fn(&str) -> String) -> Vec<Written> {
    let tensors = truth(&golden("bert"));
    tensors.into_iter().map(|(key, (shape, x))| (name(&key), Dtype::F32, shape, f32_bytes(&x))).collect()
}

fn write(path: &Path, tensors: &[Written]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn single(tensors: &[Written]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("model.safetensors"), tensors);
    folder
}

fn open_bert(folder: &Path, prefix: Option<&str>) -> regrow::Result<PretrainedWeights> {
    PretrainedWeights::open(folder, &architecture(&golden("bert")), prefix)
}

fn message<T>(result: regrow::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

fn assert_is_bert(weights: &PretrainedWeights) {
    let truth = truth(&golden("bert"));
    let tensors = EncoderTensors::of(&architecture(&golden("bert")));
    assert_eq!(tensors.iter().len(), truth.len());
    for tensor in tensors.iter() {
        assert_eq!(weights.read(tensor).unwrap(), truth[&tensor.name].1, "{}", tensor.name);
    }
}

/// Every golden model: each float tensor of a base model is one that the architecture lists, and the other way round.
#[test]
fn golden_models() {
    for name in ["bert", "distilbert", "roberta", "minilm_like"] {
        let folder = golden(name);
        let architecture = architecture(&folder);
        let truth = truth(&folder);
        let weights = PretrainedWeights::open(&folder, &architecture, None).unwrap();
        assert_eq!(weights.prefix(), "");
        let tensors = EncoderTensors::of(&architecture);
        for tensor in tensors.iter() {
            let (shape, numbers) = &truth[&tensor.name];
            assert_eq!(&tensor.shape, shape, "{name}: {}", tensor.name);
            assert_eq!(&weights.read(tensor).unwrap(), numbers, "{name}: {}", tensor.name);
        }
        let listed: Vec<&String> = tensors.iter().map(|tensor| &tensor.name).collect();
        for stored in truth.keys() {
            assert!(
                listed.contains(&stored) || stored.starts_with("pooler."),
                "{name}: {stored} is not listed"
            );
        }
    }
}

#[test]
fn old_names_mean_the_same() {
    let weights = open_bert(&golden("bert_legacy"), None).unwrap();
    assert_eq!(weights.prefix(), "bert.");
    assert_is_bert(&weights);
}

#[test]
fn prefixes() {
    let given = "embedding_labels.encoder.transformer.0.auto_model.";
    for prefix in ["", "bert.", "distilbert.", "roberta.", "0.auto_model.", "model.", given] {
        let folder = single(&bert_as(|name| format!("{prefix}{name}")));
        let asked = (prefix == given).then_some(prefix);
        let weights = open_bert(folder.path(), asked).unwrap();
        assert_eq!(weights.prefix(), prefix);
        assert_is_bert(&weights);
        // The dot may be left out; a given prefix is the only one tried.
        assert_is_bert(&open_bert(folder.path(), Some(prefix.trim_end_matches('.'))).unwrap());
        let text = message(open_bert(folder.path(), Some("other")));
        assert!(text.contains("prefixes tried: \"other.\";"), "{text}");
    }
    let folder = single(&bert_as(|name| format!("{given}{name}")));
    let text = message(open_bert(folder.path(), None));
    assert!(
        text.contains("\"roberta.\"") && text.contains(given) && text.contains("model.safetensors"),
        "{text}"
    );
}

#[test]
fn first_layers_need_no_others() {
    let mut tensors = bert_as(str::to_string);
    tensors.retain(|(name, ..)| !name.starts_with("encoder.layer.1."));
    let folder = single(&tensors);
    let one = architecture(&golden("bert")).first_layers(1).unwrap();
    let weights = PretrainedWeights::open(folder.path(), &one, None).unwrap();
    let truth = truth(&golden("bert"));
    for tensor in EncoderTensors::of(&one).iter() {
        assert_eq!(weights.read(tensor).unwrap(), truth[&tensor.name].1);
    }
    let text = message(open_bert(folder.path(), None));
    assert!(
        text.contains("encoder.layer.1.attention.self.query.weight is missing") && text.contains("21 of"),
        "{text}"
    );
}

#[test]
fn missing_and_misshapen() {
    let victim = "encoder.layer.1.attention.output.LayerNorm.bias";
    let mut tensors = bert_as(|name| format!("bert.{name}"));
    tensors.retain(|(name, ..)| !name.ends_with(victim));
    let text = message(open_bert(single(&tensors).path(), None));
    for part in [&format!("tensor bert.{victim} is missing"), "36 of the encoder's 37", "\"0.auto_model.\""] {
        assert!(text.contains(part), "{text}");
    }

    let mut tensors = bert_as(str::to_string);
    let place = tensors.iter().position(|(name, ..)| name.ends_with("0.intermediate.dense.weight")).unwrap();
    tensors[place].2 = vec![32, 64];
    let text = message(open_bert(single(&tensors).path(), None));
    assert!(text.contains("0.intermediate.dense.weight is [32, 64]") && text.contains("[64, 32]"), "{text}");
}

#[test]
fn not_finite() {
    let names = [
        ("embeddings.word_embeddings.weight", 5 * 32 + 7, "[5, 7]"),
        ("embeddings.LayerNorm.bias", 31, "[31]"),
    ];
    for (victim, at, place) in names {
        for (bad, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            let mut tensors = bert_as(str::to_string);
            let (_, _, _, bytes) = tensors.iter_mut().find(|(name, ..)| name == victim).unwrap();
            for at in [at, bytes.len() / 4 - 1] {
                bytes[4 * at..][..4].copy_from_slice(&bad.to_le_bytes());
            }
            let folder = single(&tensors);
            let weights = open_bert(folder.path(), None).unwrap();
            for tensor in EncoderTensors::of(&architecture(&golden("bert"))).iter() {
                let read = weights.read(tensor);
                if tensor.name == victim {
                    let text = message(read);
                    assert!(text.contains(&format!("{victim} is {word} at {place};")), "{text}");
                } else {
                    read.unwrap();
                }
            }
        }
    }
}

/// A model of one layer whose word embeddings \[vocabulary, 2\] are the given 16-bit numbers.
fn sixteen_bits(dtype: Dtype, numbers: &[u16]) -> regrow::Result<Vec<f32>> {
    let architecture = Architecture {
        family: Family::DistilBert,
        vocabulary: numbers.len() / 2,
        hidden: 2,
        layers: 1,
        heads: 1,
        intermediate: 3,
        positions: 1,
        token_types: 0,
        ..architecture(&golden("distilbert"))
    };
    let tensors = EncoderTensors::of(&architecture);
    let written: Vec<Written> = tensors
        .iter()
        .enumerate()
        .map(|(i, EncoderTensor { name, shape, .. })| {
            let count: usize = shape.iter().product();
            match i {
                0 => (
                    name.clone(),
                    dtype,
                    shape.clone(),
                    numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
                ),
                _ => (name.clone(), Dtype::F32, shape.clone(), vec![0; 4 * count]),
            }
        })
        .collect();
    let folder = single(&written);
    let weights = PretrainedWeights::open(folder.path(), &architecture, None)?;
    weights.read(tensors.iter().next().unwrap())
}

/// The number of a half.
type Widened = fn(u16) -> f32;

/// All 65,536 halves of both formats, bit for bit.
#[test]
fn sixteen_bit_floats() {
    let all: [(Dtype, Widened); 2] = [
        (Dtype::F16, |bits| f16::from_bits(bits).to_f32()),
        (Dtype::BF16, |bits| bf16::from_bits(bits).to_f32()),
    ];
    for (dtype, number) in all {
        let finite: Vec<u16> = (0..=u16::MAX).filter(|&bits| number(bits).is_finite()).collect();
        assert!(finite.len() > 63_000);
        let read = sixteen_bits(dtype, &finite).unwrap();
        for (&bits, x) in finite.iter().zip(&read) {
            assert_eq!(x.to_bits(), number(bits).to_bits(), "{dtype:?} {bits:#06x}");
        }
        for bits in (0..=u16::MAX).filter(|&bits| !number(bits).is_finite()) {
            if bits % 37 == 0 || bits.trailing_zeros() >= 7 {
                let word = number(bits).to_string();
                let text = message(sixteen_bits(dtype, &[0, 0, 0, bits]));
                assert!(text.contains(&format!("is {word} at [1, 1];")), "{text}");
            }
        }
    }
    let text = message(sixteen_bits(Dtype::U16, &[0, 0]));
    assert!(text.contains("dtype U16; F32, F16 and BF16 are read"), "{text}");
    let text = message(sixteen_bits(Dtype::I16, &[0, 0]));
    assert!(text.contains("dtype I16"), "{text}");
}

fn sharded(tensors: &[Written], shard: impl Fn(usize) -> usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = |shard: usize| format!("model-{:05}-of-00003.safetensors", shard + 1);
    for s in 0..3 {
        let part: Vec<Written> = tensors
            .iter()
            .enumerate()
            .filter(|&(i, _)| shard(i) == s)
            .map(|(_, tensor)| tensor.clone())
            .collect();
        write(&folder.path().join(file(s)), &part);
    }
    let map: BTreeMap<&str, String> =
        tensors.iter().enumerate().map(|(i, (name, ..))| (name.as_str(), file(shard(i)))).collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    folder
}

#[test]
fn shards() {
    let tensors = bert_as(|name| format!("bert.{name}"));
    let folder = sharded(&tensors, |i| i % 3);
    assert_is_bert(&open_bert(folder.path(), None).unwrap());

    // A tensor that the index promises and its shard lacks; a shard that is not there.
    let second = folder.path().join("model-00002-of-00003.safetensors");
    write(&second, &tensors[..1]);
    let text = message(open_bert(folder.path(), None));
    assert!(text.contains("model-00002") && text.contains("index.json promises it"), "{text}");
    fs::remove_file(&second).unwrap();
    assert!(message(open_bert(folder.path(), None)).contains("model-00002-of-00003.safetensors"));

    let index = folder.path().join("model.safetensors.index.json");
    for bad in ["{}", "[]", "{", "{\"weight_map\": 1}"] {
        fs::write(&index, bad).unwrap();
        assert!(message(open_bert(folder.path(), None)).contains("index.json"), "{bad}");
    }
    for path in ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "", ".", "..", "a\\b"] {
        fs::write(&index, json!({"weight_map": {"a": path}}).to_string()).unwrap();
        assert!(message(open_bert(folder.path(), None)).contains("no name of a file beside it"), "{path}");
    }
}

/// Shards that hold only what is not asked for need not be there.
#[test]
fn shards_of_other_layers_are_not_opened() {
    let tensors = bert_as(str::to_string);
    let folder = sharded(&tensors, |i| usize::from(tensors[i].0.starts_with("encoder.layer.1.")));
    fs::remove_file(folder.path().join("model-00002-of-00003.safetensors")).unwrap();
    let one = architecture(&golden("bert")).first_layers(1).unwrap();
    PretrainedWeights::open(folder.path(), &one, None).unwrap();
    assert!(message(open_bert(folder.path(), None)).contains("model-00002"));
}

#[test]
fn folders_without_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    assert!(message(open_bert(folder.path(), None)).contains("neither model.safetensors nor"));
    fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    let text = message(open_bert(folder.path(), None));
    let path = format!("{:?}", folder.path().display().to_string());
    let code = format!(
        "python3 -c 'from transformers import AutoModel; AutoModel.from_pretrained({path}).save_pretrained({path})'"
    );
    assert!(text.ends_with(&code), "{text}");
}

/// A file cut anywhere, or with a header that lies, is an error and nothing worse.
#[test]
fn damaged_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let good = fs::read(golden("bert").join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for length in [0, 1, 7, 8, 9, header - 1, header, header + 1, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        let text = message(open_bert(folder.path(), None));
        assert!(text.contains("no intact safetensors file"), "{length}: {text}");
    }

    let text = std::str::from_utf8(&good[8..header]).unwrap();
    let word =
        "\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[132,32],\"data_offsets\":";
    let at = text.find(word).expect("the layout of the golden file") + word.len();
    let shape = |shape: &str| text.replacen("[132,32]", shape, 1);
    let offsets = |offsets: &str| {
        let end = at + text[at..].find(']').unwrap() + 1;
        format!("{}{offsets}{}", &text[..at], &text[end..])
    };
    let huge = u64::MAX;
    for (what, header) in [
        ("a product that overflows", shape(&format!("[{huge},{huge}]"))),
        ("a product that wraps to the right size", shape(&format!("[{},2]", (1_u64 << 63) + 132 * 16))),
        ("terabytes", shape("[1099511627776,32]")),
        ("one row more", shape("[133,32]")),
        ("negative", shape("[-132,-32]")),
        ("fractions", shape("[132.5,32]")),
        ("offsets beyond the file", offsets(&format!("[0,{huge}]"))),
        ("offsets backwards", offsets("[16896,0]")),
        ("on another tensor", offsets("[0,16896]")),
        ("no offsets", offsets("[]")),
        ("three offsets", offsets("[0,1,2]")),
        ("not JSON", text.replacen('{', "[", 1)),
    ] {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(&good[8 + text.len()..]);
        fs::write(&path, &bytes).unwrap();
        let text = message(open_bert(folder.path(), None));
        assert!(text.contains("no intact safetensors file"), "{what}: {text}");
        assert!(text.len() < 600, "{what}: {text}");
    }
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, good.len() as u64, good.len() as u64 - 7] {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        assert!(message(open_bert(folder.path(), None)).contains("no intact safetensors file"), "{length}");
    }
    // A header that is there in full and far larger than any honest one (sparse on disk).
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&(1_u64 << 34).to_le_bytes()).unwrap();
    file.set_len((1 << 34) + 8).unwrap();
    assert!(message(open_bert(folder.path(), None)).contains("more than any model needs"));
}
