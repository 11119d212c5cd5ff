//! The `safetensors` crate is the independent reader and writer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use xxhash_rust::xxh3::xxh3_64;

use super::{Dtype, TensorFile, TensorSpec, write_tensors};
use crate::error::{Error, Result};

fn specs() -> Vec<TensorSpec> {
    vec![
        TensorSpec::new("odd", Dtype::U8, [3]),
        TensorSpec::new("w", Dtype::F32, [2, 2]),
        TensorSpec::new("none", Dtype::F32, [0, 7]),
        TensorSpec::new("i", Dtype::U16, [2]),
        TensorSpec::new("ids", Dtype::U32, [1]),
    ]
}

fn bytes_of(tensor: usize) -> Vec<u8> {
    match tensor {
        0 => vec![1, 2, 3],
        1 => [1.5f32, -2.0, 0.25, 1e30].iter().flat_map(|x| x.to_le_bytes()).collect(),
        3 => [7u16, 40_000].iter().flat_map(|x| x.to_le_bytes()).collect(),
        4 => 4_000_000_000u32.to_le_bytes().to_vec(),
        _ => Vec::new(),
    }
}

fn write(path: &Path) -> Result<()> {
    let metadata = BTreeMap::from([
        ("format".to_string(), "regrow".to_string()),
        ("a\"xxh3\":\"0".to_string(), "tricky".to_string()),
        ("xxh3".to_string(), "of another file".to_string()),
    ]);
    write_tensors(path, &metadata, &specs(), &mut |i, w| {
        // In two pieces, as a stream comes.
        let bytes = bytes_of(i);
        let (a, b) = bytes.split_at(bytes.len() / 2);
        w.write_all(a).and_then(|()| w.write_all(b)).map_err(Error::io("writing", path))
    })
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Err(error @ Error::Artefact { .. }) => error.to_string(),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn others_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
    let read = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.len(), 5);
    assert_eq!(read.tensor("w").unwrap().shape(), [2, 2]);
    assert_eq!(read.tensor("w").unwrap().data(), bytes_of(1));
    assert_eq!(read.tensor("i").unwrap().data(), bytes_of(3));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = metadata.metadata().as_ref().unwrap();
    assert_eq!(metadata["format"], "regrow");
    // Computed once more over all tensor bytes in one piece.
    let data: Vec<u8> = (0..5).flat_map(bytes_of).collect();
    assert_eq!(metadata["xxh3"], format!("{:016x}", xxh3_64(&data)));
}

#[test]
fn reads_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write(&path).unwrap();
    let file = TensorFile::open(&path).unwrap();
    file.verify().unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["i", "ids", "none", "odd", "w"]);
    assert_eq!(file.metadata()["a\"xxh3\":\"0"], "tricky");
    assert_eq!(file.f32s("w", &[2, 2]).unwrap(), [1.5, -2.0, 0.25, 1e30]);
    assert_eq!(file.f32s("none", &[0, 7]).unwrap(), [0f32; 0]);
    assert_eq!(file.u16s("i", &[2]).unwrap(), [7, 40_000]);
    assert_eq!(file.u32s("ids", &[1]).unwrap(), [4_000_000_000]);
    assert_eq!(file.get("odd").unwrap().bytes, [1, 2, 3]);

    let text = message(file.f32s("w", &[4, 2]));
    assert!(text.contains("F32 [2, 2]") && text.contains("F32 [4, 2]"), "{text}");
    let text = message(file.f32s("i", &[2]));
    assert!(text.contains("U16 [2]") && text.contains("F32 [2]"), "{text}");
    let text = message(file.get("bias"));
    assert!(text.contains("tensor bias is wanted") && text.contains("i, ids, none, odd, w"), "{text}");
}

/// One flipped bit anywhere is found, by opening or by verifying.
#[test]
fn any_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write(&path).unwrap();
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        let text = message(TensorFile::open(&path).and_then(|file| file.verify()));
        assert!(text.starts_with(&path.display().to_string()), "{text}");
        if at >= good.len() - 4 {
            assert!(text.contains("is damaged (checksum differs)"), "{text}");
        }
    }
}

#[test]
fn any_cut_or_extension_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write(&path).unwrap();
    let good = fs::read(&path).unwrap();
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        message(TensorFile::open(&path));
    }
    fs::write(&path, [&good[..], &[0]].concat()).unwrap();
    message(TensorFile::open(&path));
}

#[test]
fn lying_headers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let huge = usize::MAX;
    let headers = [
        "[]".to_string(),
        "{\"__metadata__\":{\"a\":1}}".to_string(),
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}".to_string(),
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}".to_string(),
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}".to_string(),
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}".to_string(),
        format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":[{huge},{huge}],\"data_offsets\":[0,4]}}}}"),
        format!("{{\"x\":{{\"dtype\":\"U8\",\"shape\":[{huge}],\"data_offsets\":[0,{huge}]}}}}"),
        // Two tensors on the same bytes, and one that leaves a gap.
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\
          \"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
            .to_string(),
        "{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}".to_string(),
        "[".repeat(100_000),
    ];
    for header in headers {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 4]);
        fs::write(&path, bytes).unwrap();
        message(TensorFile::open(&path));
    }
    fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    message(TensorFile::open(&path));
}

/// A file of others opens; its unknown format is an error only when asked for, and it has no checksums.
#[test]
fn files_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let (ids, weights) = ([0u8; 16], [0u8; 8]);
    let tensor = |dtype, bytes| safetensors::tensor::TensorView::new(dtype, vec![2], bytes).unwrap();
    let tensors = [
        ("position_ids", tensor(safetensors::Dtype::F64, &ids[..])),
        ("w", tensor(safetensors::Dtype::F32, &weights[..])),
    ];
    fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.f32s("w", &[2]).unwrap(), [0.0, 0.0]);
    assert!(message(file.get("position_ids")).contains("F64"));
    assert!(message(file.verify()).contains("no checksums"));
}

#[test]
fn wrong_amounts_are_refused_and_the_old_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write(&path).unwrap();
    let good = fs::read(&path).unwrap();
    for (amount, word) in [(3, "fewer than its 4"), (5, "more than its 4")] {
        let specs = [TensorSpec::new("x", Dtype::F32, [1])];
        let text = message(write_tensors(&path, &BTreeMap::new(), &specs, &mut |_, w| {
            w.write_all(&vec![0; amount]).map_err(Error::io("writing", "x"))
        }));
        assert!(text.contains(word), "{text}");
    }
    for names in [["x", "x"], ["x", "__metadata__"]] {
        let specs = names.map(|name| TensorSpec::new(name, Dtype::U8, [0]));
        message(write_tensors(&path, &BTreeMap::new(), &specs, &mut |_, _| Ok(())));
    }
    let specs = [TensorSpec::new("x", Dtype::F32, [usize::MAX, 2])];
    message(write_tensors(&path, &BTreeMap::new(), &specs, &mut |_, _| Ok(())));
    assert_eq!(fs::read(&path).unwrap(), good);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
