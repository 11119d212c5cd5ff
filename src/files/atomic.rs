//! Writing a file so that its name never stands for half of it: beside the target, synced, then renamed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// Large enough that a model of gigabytes is not written in small calls.
const BUFFER: usize = 1 << 20;

/// Where the system does not say which processes live, a temporary file this old belongs to a dead one.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Writes the file at `path` with `fill`: into `<name>.tmp-<process id>` beside it, flushed and synced, then renamed
/// onto `path`.
///
/// # Errors
///
/// Whatever `fill` returns, or [`Error::Io`]. In both cases what stood at `path` before still stands there and the
/// temporary file is gone. (Errors of the given writer are for `fill` to wrap: `Error::io("writing", path)`.)
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    write_file_atomically(path, |file| fill(file))
}

/// [`write_atomically`] for those who also seek.
pub(super) fn write_file_atomically(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    let Some(name) = path.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "this is no file name");
        return Err(Error::io("writing", path)(source));
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let prefix = temporary_prefix(name);
    remove_abandoned(folder, &prefix);

    let mut temporary_name = prefix;
    temporary_name.push(std::process::id().to_string());
    let temporary = Temporary { path: folder.join(temporary_name) };
    let failed = || Error::io("writing", path);

    let file = File::create(&temporary.path).map_err(failed())?;
    let mut writer = BufWriter::with_capacity(BUFFER, file);
    if let Err(error) = fill(&mut writer) {
        // Dropping a BufWriter would write out what is left of a file that nobody wants any more.
        drop(writer.into_parts());
        return Err(error);
    }
    let file = writer.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.sync_all().map_err(failed())?;
    drop(file); // Windows renames closed files only
    fs::rename(&temporary.path, path).map_err(failed())?;
    sync_folder(folder).map_err(failed())
}

/// Removes its file when it goes, also in a panic; after the rename there is nothing left to remove.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn temporary_prefix(name: &OsStr) -> OsString {
    let mut prefix = name.to_os_string();
    prefix.push(".tmp-");
    prefix
}

/// Removes the temporary files that killed runs left for the same target. Failing to is no reason not to write.
fn remove_abandoned(folder: &Path, prefix: &OsStr) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes())
            .and_then(|rest| std::str::from_utf8(rest).ok()?.parse::<u32>().ok());
        if process.is_some_and(|process| is_abandoned(process, &entry)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_abandoned(process: u32, entry: &fs::DirEntry) -> bool {
    if process == std::process::id() {
        return false; // about to be overwritten anyway
    }
    if Path::new("/proc/self").exists() {
        return !Path::new("/proc").join(process.to_string()).exists();
    }
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED))
}

/// Makes the rename itself survive a power cut. Only Unix lets a folder be opened and synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn write(path: &Path, text: &str) -> Result<()> {
        write_atomically(path, |w| w.write_all(text.as_bytes()).map_err(Error::io("writing", path)))
    }

    #[test]
    fn replaces_whole_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, "old").unwrap();
        let failed = write_atomically(&path, |w| {
            w.write_all(b"half").unwrap();
            Err(Error::Usage("stopped".into()))
        });
        assert_eq!(failed.unwrap_err().to_string(), "stopped");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_panic_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let caught = std::panic::catch_unwind(|| write_atomically(&path, |_| panic!("on purpose")));
        assert!(caught.is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn errors_name_the_target() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("a.txt");
        let message = write(&path, "").unwrap_err().to_string();
        assert!(message.starts_with(&format!("writing {}: ", path.display())), "{message}");
        assert!(matches!(write(Path::new("/"), ""), Err(Error::Io { .. })));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn dead_runs_are_cleaned_up() {
        let folder = tempfile::tempdir().unwrap();
        let dead = u32::MAX; // above every limit of process ids
        let alive = std::os::unix::process::parent_id();
        let kept = [format!("a.txt.tmp-{alive}"), format!("b.txt.tmp-{dead}"), "a.txt.tmp-notes".to_string()];
        for name in kept.iter().chain([&format!("a.txt.tmp-{dead}")]) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        write(&folder.path().join("a.txt"), "new").unwrap();
        let mut expected = vec!["a.txt".to_string()];
        expected.extend(kept);
        expected.sort();
        assert_eq!(names(folder.path()), expected);
    }
}
