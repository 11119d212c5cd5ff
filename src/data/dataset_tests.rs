//! A tiny data set in all four layouts, held against values worked out by hand.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use tempfile::TempDir;

use super::super::train_tokenizer::TokenizerKind;
use super::*;

/// (text, labels) of each document.
type Rows = [(&'static str, &'static [&'static str])];

const TRAIN: &Rows = &[
    ("How much starch for a cheese sauce?", &["sauce", "cheese"]),
    ("", &["acid"]),
    ("  Cast iron: rust on a stove  ", &["iron", "stove", "iron"]),
    ("No label here", &[]),
];
const TEST: &Rows = &[("Rust on cheese", &["iron", "zest"]), ("sauce", &["sauce"])];
/// Columns of the matrix and rows of `lbl.json`: in an order of their own, one of them never used.
const COLUMNS: [&str; 7] = ["zest", "stove", "sauce", "never", "iron", "cheese", "acid"];

fn column(name: &str) -> usize {
    COLUMNS.iter().position(|&c| c == name).unwrap()
}

fn joined(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

/// Writes the data set into a folder of this layout.
fn write(layout: Layout) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    for (rows, split) in [(TRAIN, "train"), (TEST, "test")] {
        let short = if split == "train" { "trn" } else { "tst" };
        let texts = joined(rows.iter().map(|r| r.0.to_owned()));
        match layout {
            Layout::Jsonl => {
                let row = |r: &(&str, &[&str])| serde_json::json!({"text": r.0, "labels": r.1}).to_string();
                put(&format!("{split}.jsonl"), joined(rows.iter().map(row)));
            }
            Layout::Lines => {
                put(&format!("{split}_raw_texts.txt"), texts);
                put(&format!("{split}_labels.txt"), joined(rows.iter().map(|r| r.1.join(" "))));
            }
            Layout::Matrix => {
                put(&format!("{short}.raw.txt"), texts);
                // A zero is no label.
                let row = |r: &(&str, &[&str])| {
                    let entries = r.1.iter().map(|l| format!("{}:1.0", column(l)));
                    entries.chain(["3:0.0".to_owned()]).collect::<Vec<_>>().join(" ")
                };
                let matrix = format!("{} {}\n", rows.len(), COLUMNS.len()) + &joined(rows.iter().map(row));
                let name = if split == "train" { "Y.trn.txt" } else { "tst_X_Y.txt" };
                put(name, matrix);
            }
            Layout::Lf => {
                let row = |r: &(&str, &[&str])| {
                    let ids: Vec<usize> = r.1.iter().map(|l| column(l)).collect();
                    let ones = vec![1.0; ids.len()];
                    let (title, content) = r.0.split_once(": ").map_or((r.0, ""), |(t, c)| (t, c));
                    let title = if content.is_empty() { title.to_owned() } else { format!("{title}:") };
                    serde_json::json!({"uid": "x", "title": title, "content": content, "target_ind": ids, "target_rel": ones})
                        .to_string()
                };
                let mut file = std::fs::File::create(folder.path().join(format!("{short}.json.gz"))).unwrap();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(joined(rows.iter().map(row)).as_bytes()).unwrap();
                file.write_all(&encoder.finish().unwrap()).unwrap();
            }
        }
    }
    let names = joined(COLUMNS.iter().map(|&c| c.to_owned()));
    let filter = format!("1 {}\n0 {}\n\n", column("cheese"), column("acid"));
    match layout {
        Layout::Matrix => {
            put("labels.txt", names);
            put("filter_labels_test.txt", filter);
        }
        Layout::Lf => {
            put(
                "lbl.json",
                joined(COLUMNS.iter().map(|c| serde_json::json!({"uid": c, "title": c}).to_string())),
            );
            put("filter_labels_test.txt", filter);
        }
        Layout::Jsonl | Layout::Lines => {}
    }
    folder
}

fn options(path: &Path, cache: &Path) -> DataOptions {
    DataOptions {
        path: path.into(),
        format: None,
        text_field: TextField::TitleContent,
        augment: false,
        max_tokens: 6,
        special_tokens: false,
        tokenizer: TokenizerSource::Train(TokenizerSpec {
            kind: TokenizerKind::Word,
            vocab_size: 100,
            lowercase: true,
        }),
        cache_dir: cache.into(),
        fixed_labels: None,
        splits: Splits::All,
    }
}

fn open(options: &DataOptions) -> Result<Dataset> {
    Dataset::open(options, &|progress| assert!(progress.done <= progress.total))
}

/// Tokens as words and labels as sorted names, so that layouts with different ids can be compared.
fn spelt(data: &Dataset, split: &Split) -> Vec<(Vec<String>, Vec<String>)> {
    (0..split.len())
        .map(|d| {
            let words = split.tokens(d).iter().map(|&t| data.tokenizer.id_to_token(t).unwrap()).collect();
            let mut names: Vec<String> =
                split.labels(d).iter().map(|&l| data.labels.name(l).to_owned()).collect();
            names.sort_unstable();
            (words, names)
        })
        .collect()
}

#[test]
fn all_layouts_give_the_same_documents() {
    let strings = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    let cache = tempfile::tempdir().unwrap();
    for layout in Layout::ALL {
        let folder = write(layout);
        for warm in [false, true] {
            let data = open(&options(folder.path(), cache.path())).unwrap();
            assert_eq!(data.summary.layout, layout);
            let train = spelt(&data, &data.train);
            assert_eq!(train[0].0, ["how", "much", "starch", "for", "a", "cheese"], "{layout} {warm}");
            assert_eq!(train[0].1, ["cheese", "sauce"]);
            assert_eq!(train[1], (vec![], strings(&["acid"])));
            assert_eq!(
                train[2],
                (strings(&["cast", "iron", ":", "rust", "on", "a"]), strings(&["iron", "stove"]))
            );
            assert_eq!(train[3].1, strings(&[]));
            let test = spelt(&data, data.test.as_ref().unwrap());
            assert_eq!(test[0], (strings(&["rust", "on", "cheese"]), strings(&["iron", "zest"])));
            assert_eq!(test[1], (strings(&["sauce"]), strings(&["sauce"])));
            assert!(data.dev.is_none() && data.warnings.is_empty());
            let columns = matches!(layout, Layout::Matrix | Layout::Lf);
            let order: Vec<&str> = data.labels.names().collect();
            if columns {
                assert_eq!(order, COLUMNS);
                assert_eq!(data.filter, [(0, column("acid") as u32), (1, column("cheese") as u32)]);
            } else {
                assert_eq!(order, ["acid", "cheese", "iron", "sauce", "stove", "zest"]);
                assert!(data.filter.is_empty());
            }
            let summary = &data.summary;
            let train = summary.train.as_ref().unwrap();
            assert_eq!((train.documents, train.empty_texts, train.without_labels), (4, 1, 1));
            assert_eq!(
                (train.positives, train.duplicate_labels, train.truncated, train.longest),
                (5, 1, 2, 6)
            );
            assert_eq!(summary.test.as_ref().unwrap().unknown_tokens, 0);
            assert_eq!((summary.labels_in_train, summary.labels_only_elsewhere), (5, 1));
            assert_eq!(summary.labels_unused, u64::from(columns));
            assert_eq!(summary.vocabulary, u64::from(data.tokenizer.vocabulary()));
        }
    }
}

#[test]
fn labels_of_a_model_keep_their_ids() {
    let cache = tempfile::tempdir().unwrap();
    let model: Vec<&str> = vec!["stove", "iron", "other"];
    let mut fixed = LabelMap::new(super::super::labels::LabelOrder::File);
    for name in model {
        fixed.insert(name);
    }
    for layout in Layout::ALL {
        let folder = write(layout);
        let mut options = options(folder.path(), cache.path());
        options.fixed_labels = Some(fixed.clone());
        options.splits = Splits::Only(vec![SplitName::Test]);
        let data = open(&options).unwrap();
        assert_eq!(
            data.labels.names().collect::<Vec<_>>(),
            ["stove", "iron", "other", "zest", "sauce"],
            "{layout}"
        );
        assert_eq!(data.test.as_ref().unwrap().labels(0), [1, 3]);
        assert_eq!((data.train.len(), data.summary.labels_added), (0, 2));
        // Neither of the filtered labels is known to the model or stands in a test document.
        assert!(data.filter.is_empty());
    }
}

#[test]
fn a_damaged_cache_is_built_again() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), write(Layout::Jsonl));
    let options = options(folder.path(), cache.path());
    let first = open(&options).unwrap();
    let files = || {
        let mut paths: Vec<_> = std::fs::read_dir(cache.path()).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort_unstable();
        paths
    };
    let [tokenizer, tokens] = &files()[..] else { panic!("{:?}", files()) };
    let whole = std::fs::read(tokens).unwrap();
    let damage = |bytes: &[u8]| {
        std::fs::remove_file(tokens).unwrap();
        std::fs::write(tokens, bytes).unwrap();
        let again = open(&options).unwrap();
        assert_eq!(again.warnings.len(), 1, "{:?}", again.warnings);
        assert!(again.warnings[0].contains("built again"));
        assert!(again.train == first.train && again.test == first.test && again.labels == first.labels);
        assert_eq!(std::fs::read(tokens).unwrap(), whole);
        assert!(open(&options).unwrap().warnings.is_empty());
    };
    damage(b"");
    damage(&whole[..whole.len() - 8]);
    damage(&whole[..100]);
    let trailer = whole.len() - 512;
    for at in [
        0,
        trailer / 2,
        trailer - 1,
        trailer,
        trailer + 8,
        trailer + 20,
        trailer + 40,
        trailer + 50,
        trailer + 70,
        whole.len() - 1,
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        damage(&bytes);
    }
    let kept = std::fs::read(tokenizer).unwrap();
    std::fs::write(tokenizer, &kept[..kept.len() / 2]).unwrap();
    damage(b"");
    assert_eq!(std::fs::read(tokenizer).unwrap(), kept);
    // Nothing is left behind, and other options or other content are other caches.
    assert_eq!(files().len(), 2);
    open(&DataOptions { max_tokens: 7, ..options.clone() }).unwrap();
    assert_eq!(files().len(), 3);
    std::fs::write(folder.path().join("test.jsonl"), "{\"text\":\"new\",\"labels\":[]}\n").unwrap();
    assert_eq!(open(&options).unwrap().test.unwrap().len(), 1);
    assert_eq!(files().len(), 4);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let rows = (0..20_000)
        .map(|i| format!(r#"{{"text":"word{} and {}","labels":[{}]}}"#, i % 97, i * 31 % 1009, i % 53));
    std::fs::write(folder.path().join("train.jsonl"), joined(rows)).unwrap();
    let with = |threads: usize| {
        let cache = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut options = options(folder.path(), cache.path());
        if let TokenizerSource::Train(spec) = &mut options.tokenizer {
            spec.kind = TokenizerKind::Bpe;
            spec.vocab_size = 300;
        }
        // The callback of `open` is not for other threads, so only the path goes into the pool.
        pool.install(|| open(&options).map(drop)).unwrap();
        let mut files: HashMap<String, Vec<u8>> = HashMap::new();
        for entry in std::fs::read_dir(cache.path()).unwrap() {
            let path = entry.unwrap().path();
            files.insert(path.file_name().unwrap().to_string_lossy().into(), std::fs::read(&path).unwrap());
        }
        files
    };
    let one = with(1);
    assert_eq!(one.len(), 2);
    assert!(one == with(2));
    // All labels are integers: they are sorted by value.
    let data = open(&options(folder.path(), tempfile::tempdir().unwrap().path())).unwrap();
    assert_eq!(data.labels.order(), super::super::labels::LabelOrder::Numeric);
    assert_eq!((data.labels.len(), data.labels.name(10), data.train.len()), (53, "10", 20_000));
}

/// Opens a folder with these files and gives the error.
fn error_of(files: &[(&str, &[u8])]) -> String {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let message = open(&options(folder.path(), cache.path())).unwrap_err().to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    let jsonl = |text: &str| error_of(&[("train.jsonl", text.as_bytes())]);
    for (text, want) in [
        ("", "train.jsonl: holds no documents"),
        ("{\"text\":\"a\",\"labels\":[]}\n", "train.jsonl: no document has a label"),
        ("{\"text\":\"\",\"labels\":[\"a\"]}\n", "no words"),
        ("{\"text\":\"a\",\"labels\":[1]}\n{\"text\":\"a\"}\n", "train.jsonl:2: key \"labels\" is missing"),
        ("{\"labels\":[1]}\n", "train.jsonl:1: key \"text\" is missing; it should hold a string"),
        ("\n{\"text\":5,\"labels\":[1]}\n", "train.jsonl:2: key \"text\" should hold a string"),
        ("{\"text\":\"a\",\"labels\":\"b\"}\n", "train.jsonl:1: key \"labels\" should hold a list"),
        ("{\"text\":\"a\",\"labels\":[1.5]}\n", "train.jsonl:1: key \"labels\" should hold a list"),
        ("{\"text\":\"a\",\"labels\":[\"\"]}\n", "train.jsonl:1: an empty label"),
        ("{\"text\":\"a\",\n", "train.jsonl:1: is not valid JSON"),
        ("[1]\n", "train.jsonl:1: "),
    ] {
        let message = jsonl(text);
        assert!(message.contains(want), "{text}: {message}");
    }
    let matrix = |texts: &str, labels: &str| {
        error_of(&[("trn.raw.txt", texts.as_bytes()), ("Y.trn.txt", labels.as_bytes())])
    };
    for (texts, labels, want) in [
        ("a\nb\n", "2\n", "Y.trn.txt:1: expected the header"),
        ("a\nb\n", "", "Y.trn.txt:1: expected the header"),
        ("a\nb\n", "2 3\n0:1\n", "the header promises 2 rows but 1 follow"),
        ("a\nb\n", "2 3\n0:1\n1:1\n\n\n", "the header promises 2 rows but 4 follow"),
        ("a\nb\n", "2 3\n0:1\n3:1\n", "Y.trn.txt:3: label 3 is outside the header's 3 labels"),
        ("a\nb\n", "2 3\n0:1\n-1:1\n", "Y.trn.txt:3: expected `label:value`"),
        ("a\nb\n", "2 3\n0:1\n1\n", "Y.trn.txt:3: expected `label:value`"),
        ("a\nb\n", "2 3\n0:1\n1:nan\n", "Y.trn.txt:3: expected `label:value`"),
        ("a\nb\nc\n", "2 3\n0:1\n1:1\n", "trn.raw.txt: has 3 lines but"),
        ("a\n", "2 3\n0:1\n1:1\n", "has 2 rows"),
    ] {
        let message = matrix(texts, labels);
        assert!(message.contains(want), "{labels:?}: {message}");
    }
    let named = error_of(&[("trn.raw.txt", b"a\n"), ("Y.trn.txt", b"1 2\n0:1\n"), ("labels.txt", b"x\n")]);
    assert!(named.contains("names 1 labels but the label matrix has 2"), "{named}");
    let lines = error_of(&[("train_raw_texts.txt", b"a\nb\n"), ("train_labels.txt", b"x\n")]);
    assert!(lines.contains("has 2 lines") && lines.contains("train_labels.txt has 1"), "{lines}");
    let utf8 = error_of(&[("train_raw_texts.txt", b"a\n\xff\n"), ("train_labels.txt", b"x\ny\n")]);
    assert!(utf8.contains("train_raw_texts.txt:2: byte 1"), "{utf8}");
    let lf = |row: &str| {
        error_of(&[("trn.json", row.as_bytes()), ("lbl.json", b"{\"uid\":\"a\"}\n{\"uid\":\"b\"}\n")])
    };
    for (row, want) in [
        ("{\"title\":\"a\",\"target_ind\":[2]}", "trn.json:1: label number 2 is outside the 2 labels"),
        ("{\"title\":\"a\",\"target_ind\":[-1]}", "trn.json:1: key \"target_ind\" should hold"),
        ("{\"title\":\"a\"}", "trn.json:1: key \"target_ind\" is missing"),
        ("{\"target_ind\":[1]}", "trn.json:1: key \"title\" is missing"),
        (
            "{\"title\":\"a\",\"target_ind\":[1],\"target_rel\":[]}",
            "target_ind has 1 entries but target_rel has 0",
        ),
    ] {
        let message = lf(row);
        assert!(message.contains(want), "{row}: {message}");
    }
}

#[test]
fn lf_without_good_uids_uses_row_numbers() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put(
        "trn.json",
        "{\"title\":\"a title\",\"content\":\"some content\",\"target_ind\":[4, 0],\"target_rel\":[1.0, 0.0]}\n",
    );
    let mut options = options(folder.path(), cache.path());
    // No lbl.json: as many labels as the largest number says.
    let data = open(&options).unwrap();
    assert_eq!((data.labels.len(), data.train.labels(0)), (5, &[4][..]));
    put("lbl.json", "{\"uid\":\"a\"}\n{\"uid\":\"a\"}\n{}\n{}\n{}\n{}\n");
    let data = open(&options).unwrap();
    assert_eq!((data.labels.len(), data.labels.name(4)), (6, "4"));
    assert!(data.warnings[0].contains("uid `a` stands twice (line 2)"), "{:?}", data.warnings);
    for (field, want) in [(TextField::Title, 2), (TextField::Content, 2), (TextField::TitleContent, 4)] {
        options.text_field = field;
        assert_eq!(open(&options).unwrap().train.tokens(0).len(), want);
    }
}

#[test]
fn splits_are_read_as_asked_for() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("test.jsonl", "{\"text\":\"rust rust\",\"labels\":[\"a\"]}\n");
    let mut options = options(folder.path(), cache.path());
    let error = |options: &DataOptions| open(options).unwrap_err().to_string();
    assert!(error(&options).contains("no train split here: train.jsonl"));
    options.splits = Splits::Only(vec![SplitName::Test]);
    // The tokenizer still has to be trained on something.
    assert!(error(&options).contains("no train split here"));
    let trained = cache.path().join("tokenizer.json");
    put("train.jsonl", "{\"text\":\"rust\",\"labels\":[\"b\"]}\n");
    std::fs::write(&trained, open(&options).unwrap().tokenizer.json()).unwrap();
    std::fs::remove_file(folder.path().join("train.jsonl")).unwrap();
    options.tokenizer = TokenizerSource::File(trained.clone());
    let data = open(&options).unwrap();
    assert_eq!(data.split(SplitName::Test).unwrap().tokens(0), [4, 4]);
    assert!(data.split(SplitName::Train).is_none() && data.summary.train.is_none());
    assert_eq!(data.labels.names().collect::<Vec<_>>(), ["a"]);
    options.splits = Splits::Only(vec![SplitName::Dev, SplitName::Test]);
    assert!(error(&options).contains("no dev split here: dev.jsonl"));
    options.splits = Splits::Only(vec![]);
    assert!(error(&options).contains("no split"));
    options.splits = Splits::Only(vec![SplitName::Test]);
    std::fs::write(&trained, "{}").unwrap();
    assert!(error(&options).contains("tokenizer.json: is not a usable"));
    options.cache_dir = trained.join("below a file");
    options.tokenizer = TokenizerSource::Train(TokenizerSpec::default());
    put("train.jsonl", "{\"text\":\"rust\",\"labels\":[\"b\"]}\n");
    assert!(matches!(open(&options), Err(Error::Io { .. })));
}
