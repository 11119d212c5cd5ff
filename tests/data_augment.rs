//! Label texts as training documents: an LF folder written here, every document and count worked out by hand.

mod support;

use std::io::Write;
use std::path::Path;

use regrow::data::{
    DataOptions, Dataset, Split, Splits, TextField, TokenizerKind, TokenizerSource, TokenizerSpec,
    label_frequencies,
};
use support::cli::{Place, failed};

const TRAIN: &str = r#"{"uid":"a","title":"red stone","content":"on the hill","target_ind":[0,2],"target_rel":[1,1]}
{"uid":"b","title":"green tree","content":"","target_ind":[2],"target_rel":[1]}
{"uid":"c","title":"old paper","content":"in a house","target_ind":[],"target_rel":[]}
"#;
const TEST: &str = r#"{"uid":"d","title":"red tree","content":"","target_ind":[1,2],"target_rel":[1,1]}
"#;
const LABELS: &str = r#"{"uid":"p","title":"Stone walls"}

{"uid":"q","title":"paper mill","content":"is not read"}
{"uid":"r","title":""}
{"uid":"s","title":"river"}
"#;

/// The folder `data`, its labels compressed.
fn place() -> Place {
    let place = Place::new();
    place.write("data/trn.json", TRAIN);
    place.write("data/tst.json", TEST);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(LABELS.as_bytes()).unwrap();
    place.write("data/lbl.json.gz", encoder.finish().unwrap());
    place
}

fn options(place: &Place, augment: bool) -> DataOptions {
    DataOptions {
        path: place.path("data"),
        format: None,
        text_field: TextField::TitleContent,
        augment,
        max_tokens: 8,
        special_tokens: false,
        tokenizer: TokenizerSource::Train(TokenizerSpec {
            kind: TokenizerKind::Word,
            vocab_size: 100,
            lowercase: true,
        }),
        cache_dir: place.path("cache"),
        fixed_labels: None,
        splits: Splits::All,
    }
}

fn open(options: &DataOptions) -> Dataset {
    Dataset::open(options, &|_| {}).unwrap()
}

/// Texts, as the tokenizer spells them, and labels.
fn documents(data: &Dataset, split: &Split) -> Vec<(String, Vec<u32>)> {
    let json: serde_json::Value = serde_json::from_str(data.tokenizer.json()).unwrap();
    let words = json["model"]["vocab"].as_object().unwrap();
    let spelt = |id: &u32| {
        words.iter().find(|(_, number)| number.as_u64() == Some(u64::from(*id))).unwrap().0.clone()
    };
    let text = |i| split.tokens(i).iter().map(spelt).collect::<Vec<_>>().join(" ");
    (0..split.len()).map(|i| (text(i), split.labels(i).to_vec())).collect()
}

#[test]
fn each_label_is_one_more_training_document() {
    let place = place();
    let plain = open(&options(&place, false));
    let data = open(&options(&place, true));
    let own = documents(&data, &data.train);
    let want: [(&str, &[u32]); 7] = [
        ("red stone on the hill", &[0, 2]),
        ("green tree", &[2]),
        ("old paper in a house", &[]),
        ("stone walls", &[0]),
        ("paper mill", &[1]),
        ("", &[2]),
        ("river", &[3]),
    ];
    assert_eq!(own, want.map(|(text, labels)| (text.to_owned(), labels.to_vec())));
    assert_eq!(documents(&plain, &plain.train), own[..3]);
    assert_eq!(label_frequencies(&data.train, 4), [2, 1, 3, 1]);
    let count = |data: &Dataset| {
        let train = data.summary.train.clone().unwrap();
        (train.documents, train.label_texts, train.empty_texts, train.positives)
    };
    assert_eq!((count(&plain), count(&data)), ((3, 0, 0, 3), (7, 4, 1, 7)));
    assert_eq!((data.summary.labels_in_train, plain.summary.labels_in_train), (4, 2));
    // Test documents and labels are the same; the cache tells both readings apart, again and again.
    assert_eq!(documents(&data, data.test.as_ref().unwrap()), [("red tree".to_owned(), vec![1, 2])]);
    assert_eq!(data.labels.len(), 4);
    assert_eq!(open(&options(&place, false)).train, plain.train);
    assert_eq!(open(&options(&place, true)).train, data.train);
    // With a tokenizer from a file too.
    place.write("tokenizer.json", data.tokenizer.json());
    let file = |augment| {
        let tokenizer = TokenizerSource::File(place.path("tokenizer.json"));
        open(&DataOptions { tokenizer, ..options(&place, augment) })
    };
    assert_eq!((file(false).train.len(), file(true).train == data.train), (3, true));
}

#[test]
fn folders_without_label_texts_are_refused() {
    let set = ["--set", "data.augment=true"];
    let train = ["train", "tiny.toml", "--data", "data", "--device", "cpu", "--out", "run"];
    let place = Place::new();
    place.write("data/train.jsonl", "{\"text\":\"a\",\"labels\":[\"b\"]}\n");
    let arguments = [&train[..], &set].concat();
    place.fails(
        &arguments,
        2,
        &["config data.augment: needs the labels' texts of layout lf", "layout jsonl"],
    );
    let place = Place::new();
    place.write("data/trn.json", TRAIN);
    place.fails(&arguments, 2, &["config data.augment: needs the labels' texts, but data has no lbl.json"]);
    place.write(
        "data/lbl.json",
        "{\"uid\":\"p\",\"title\":\"x\"}\n{\"uid\":\"q\"}\n{\"uid\":\"r\",\"title\":\"\"}\n",
    );
    place.fails(&arguments, 2, &["lbl.json:2: key \"title\" is missing"]);
    assert!(!place.path("run").exists());
}

#[test]
fn filter_pairs_out_of_range_are_located() {
    for (pair, what) in [
        ("1 0", "row 1 is outside the 1 test documents"),
        ("0 4", "label 4 is outside the 4 labels"),
        ("0 -1", "expected `row label`"),
        ("0", "expected `row label`"),
    ] {
        let place = place();
        place.write("data/filter_labels_test.txt", format!("0 3\n{pair}\n"));
        let done = place.run(&["train", "tiny.toml", "--data", "data", "--device", "cpu", "--out", "run"]);
        failed(&done, 2, &["filter_labels_test.txt:2: ", what]);
    }
}

/// The frequencies that the model keeps for the propensities, and the documents: with the label texts and without.
fn propensity_counts(place: &Place, run: &str) -> (Vec<u32>, u64) {
    let tensors = place.tensors(&format!("{run}/model/model.safetensors"));
    let bytes = &tensors["labels.train_frequency"].bytes;
    let counts = bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let description = place.text(&format!("{run}/model/config.json"));
    let description: serde_json::Value = serde_json::from_str(&description).unwrap();
    (counts, description["train_documents"].as_u64().unwrap())
}

#[test]
fn a_run_counts_label_texts_as_documents() {
    let place = place();
    let base = ["--set", "train.batch_size=2", "--set", "train.epochs=2", "--set", "data.augment=true"];
    place.train("with", &base);
    let without = [&base[..], &["--set", "evaluate.propensity_augmented=false"]].concat();
    place.train("without", &without);
    assert_eq!(propensity_counts(&place, "with"), (vec![2, 1, 3, 1], 7));
    assert_eq!(propensity_counts(&place, "without"), (vec![1, 0, 2, 0], 3));
    // Seven documents are four steps of two.
    let steps =
        |run: &str| place.epochs(run).iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((steps("with"), steps("without")), (vec![4, 8], vec![4, 8]));
    let psp = |run: &str| place.epochs(run)[1]["PSP@1"].as_f64().unwrap();
    assert_eq!(place.epochs("with")[1]["loss"], place.epochs("without")[1]["loss"]);
    assert!(psp("with").is_finite() && psp("without").is_finite());
    // A model is measured on documents: those of train are three.
    let done = place.ok(&["evaluate", "with", "--split", "train", "--json", "--device", "cpu"]);
    assert_eq!(done.json_lines()[0]["documents"], 3);
    assert!(Path::new(&place.path("with/model")).is_dir());
}
