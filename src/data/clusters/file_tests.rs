use std::path::PathBuf;

use super::*;
use crate::data::labels::LabelOrder;

/// Labels with everything in their names that a line could not hold.
const NAMES: [&str; 6] =
    ["plain", "two words", "back\\slash", "tab\there", "line\nfeed\r", "caf\u{e9}\u{2028}"];

fn map(names: &[&str]) -> LabelMap {
    let mut map = LabelMap::new(LabelOrder::FirstSeen);
    names.iter().for_each(|name| {
        map.insert(name);
    });
    map
}

fn file(name: &str, contents: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, contents).unwrap();
    (folder, path)
}

#[test]
fn both_forms_come_back() {
    let map = map(&NAMES);
    let clusters = LabelClusters::new(vec![1, 0, 1, 2, 0, 2]).unwrap();
    for name in ["c.txt", "c.safetensors"] {
        let (_folder, path) = file(name, "");
        clusters.to_file(&path, &map).unwrap();
        assert_eq!(LabelClusters::from_file(&path, &map).unwrap(), clusters, "{name}");
    }
    let (_folder, path) = file("c.txt", "");
    clusters.to_file(&path, &map).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = ["two\\swords line\\nfeed\\r", "plain back\\\\slash", "tab\\there caf\u{e9}\u{2028}"];
    assert_eq!(text, lines.join("\n") + "\n");
    assert!(
        clusters.to_file(&path.with_extension("csv"), &map).unwrap_err().to_string().contains(".safetensors")
    );
}

#[test]
fn a_text_by_hand() {
    let map = map(&["3", "1", "0", "2"]);
    let (_folder, path) = file("lists.dat", "0  1\t\r\n\n 3 2");
    assert_eq!(LabelClusters::from_file(&path, &map).unwrap().of_label(), [1, 0, 0, 1]);
}

#[test]
fn tensors_of_others() {
    let map = map(&["a", "b", "c"]);
    let write = |dtype: safetensors::Dtype, bytes: &[u8], shape: Vec<usize>| {
        let view = safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap();
        file("c.safetensors", safetensors::serialize([(CLUSTER_OF_LABEL, view)], None).unwrap())
    };
    let read = |(_folder, path): (tempfile::TempDir, PathBuf)| LabelClusters::from_file(&path, &map);
    let long = |numbers: [i64; 3]| write(safetensors::Dtype::I64, bytemuck::bytes_of(&numbers), vec![3]);
    assert_eq!(read(long([0, 1, 0])).unwrap().of_label(), [0, 1, 0]);
    let whole: [i32; 3] = [1, 0, 1];
    let whole = write(safetensors::Dtype::I32, bytemuck::bytes_of(&whole), vec![3]);
    assert_eq!(read(whole).unwrap().of_label(), [1, 0, 1]);

    let wrong = |file, what: &[&str]| {
        let message = read(file).unwrap_err().to_string();
        assert!(what.iter().all(|part| message.contains(part)), "{message}");
    };
    wrong(long([0, -1, 0]), &["c.safetensors", "label b", "cluster -1"]);
    wrong(long([0, 1, 3]), &["label c", "cluster 3", "3 labels"]);
    wrong(long([2, 0, 0]), &["no label is in cluster 1"]);
    let short = bytemuck::bytes_of(&[0_i64, 0]).to_vec();
    wrong(write(safetensors::Dtype::I64, &short, vec![2]), &["[2]", "3 labels"]);
    let floats = bytemuck::bytes_of(&[0_f32, 0.0, 0.0]).to_vec();
    wrong(write(safetensors::Dtype::F32, &floats, vec![3]), &["F32", "U32, I32 or I64"]);
}

#[test]
fn tensors_for_other_labels_are_told() {
    let (_folder, path) = file("c.safetensors", "");
    LabelClusters::new(vec![0, 1]).unwrap().to_file(&path, &map(&["a", "b"])).unwrap();
    let message = LabelClusters::from_file(&path, &map(&["b", "a"])).unwrap_err().to_string();
    assert!(message.contains("other labels"), "{message}");
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    let map = map(&["a", "b", "c d"]);
    let cases: [(&str, &[u8], &[&str]); 8] = [
        ("c.txt", b"a b\nx\n", &["c.txt:2: ", "label x", "not a label"]),
        ("c.txt", b"a b\n\nc\\sd a\n", &["c.txt:3: ", "label a", "line 1 already"]),
        ("c.txt", b"a a b\n", &["c.txt:1: ", "label a", "line 1 already"]),
        ("c.txt", b"a\n", &["c.txt: ", "2 of 3 labels", "the first is b"]),
        ("c.txt", b"", &["3 of 3 labels", "the first is a"]),
        ("c.txt", b"a\\q\n", &["c.txt:1: ", "a\\q", "backslash"]),
        ("c.txt", b"a\n\xff\n", &["c.txt:2: ", "UTF-8"]),
        ("c.safetensors", b"a b\n", &["c.safetensors", "no intact safetensors"]),
    ];
    for (name, bytes, what) in cases {
        let (_folder, path) = file(name, bytes);
        let message = LabelClusters::from_file(&path, &map).unwrap_err().to_string();
        assert!(what.iter().all(|part| message.contains(part)), "{message}");
    }
    for name in ["label_group0.npy", "groups.pkl"] {
        let (_folder, path) = file(name, b"\x93NUMPY");
        let message = LabelClusters::from_file(&path, &map).unwrap_err().to_string();
        assert!(message.contains("python3 -c") && message.contains(name), "{message}");
        assert!(!message.contains('\n'), "one line: {message}");
    }
}
