//! The small JSON files of a model folder.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A config has a few kB, the list of the shards of a large model some hundred; parsed, JSON takes many times that.
const LIMIT: u64 = 16 << 20;

/// Reads a file that holds one JSON value.
pub(super) fn read(path: &Path) -> Result<Value> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("reading", path))?;
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::data(
            path,
            format!("has more than {LIMIT} bytes; this is not the file of a model"),
        ));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::data(path, format!("is not JSON ({error}); restore it or download it again")))
}

/// Reads a file that holds one JSON object.
pub(super) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    match read(path)? {
        Value::Object(object) => Ok(object),
        _ => Err(Error::data(path, "is no JSON object; restore it or download it again")),
    }
}

/// [`read`], if there is such a file.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Value>> {
    match fs::metadata(path) {
        Ok(_) => read(path).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("reading", path)(error)),
    }
}
