//! Downloads a model into the Hugging Face cache, in the layout that its other users know: contents under `blobs`, by
//! digest; under `snapshots/<commit>` links with the files' names; under `refs` what a branch meant.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;

use ring::digest;
use serde_json::Value;

use super::architecture::Architecture;
use super::folder::{self, CONFIG, INDEX, Layout, MODULES, SENTENCE_CONFIG, SINGLE, TOKENIZER};
use super::http::{Client, Reply};
use super::hub::{self, Download, HubSettings};
use super::json;
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// Attempts in a row that brought nothing before a download is given up.
const ATTEMPTS: u32 = 4;
/// Bytes between two reports of progress.
const PIECE: usize = 1 << 18;
/// The list of the files of a repository.
const LISTING_LIMIT: u64 = 16 << 20;

/// Downloads what regrow needs of a model and returns the commit.
pub(super) fn download(
    id: &str,
    revision: &str,
    hub: &HubSettings,
    progress: &mut dyn FnMut(Download<'_>) -> Result<()>,
) -> Result<String> {
    let client = Client::new(hub);
    // Another process may fetch the same model; then this one finds what that one brought. Where files cannot be
    // locked, the digests tell.
    let lock = hub.lock_of(id);
    create_folder_of(&lock)?;
    let lock = File::create(&lock).map_err(Error::io("writing", &lock))?;
    let _ = lock.lock();
    let (commit, files) = list(&client, hub, id, revision)?;
    let place = format!("{}/{id}", hub.endpoint);
    let refused = |message: String| Error::Download { url: place.clone(), message };
    let root = hub.folder_of(id);
    let snapshot = hub.snapshot(id, &commit);
    let url = format!("{place}/resolve/{commit}");
    let mut job = Job { client, url, root, snapshot, pause: hub.retry_pause, progress };

    let mut layout = Layout::default();
    if files.contains(MODULES) {
        job.fetch(MODULES)?;
        layout = Layout::read(&job.snapshot)?;
    }
    let name = |file: &str| format!("{}{file}", layout.transformer);
    let has = |file: &str| files.contains(&name(file));

    // Whatever makes the model unusable shows before its weights are fetched.
    let local = id.rsplit('/').next().unwrap_or(id);
    if !has(CONFIG) {
        return Err(refused(format!("this model has no {CONFIG}, so it is no encoder for regrow")));
    }
    if !has(SINGLE) && !has(INDEX) {
        let message = if folder::has_pickle(has) {
            format!("{}, and then give the folder {local:?}", folder::convert_weights(id, local))
        } else {
            format!("this model has neither {SINGLE} nor {INDEX}; choose another")
        };
        return Err(refused(message));
    }
    if !has(TOKENIZER) {
        let weights = folder::save_weights(id, local);
        let message = folder::make_tokenizer(id, local);
        return Err(refused(format!("{message}, then {weights}, and then give the folder {local:?}")));
    }
    job.fetch(&name(CONFIG))?;
    Architecture::read(&job.snapshot.join(name(CONFIG)))?;
    job.fetch(&name(TOKENIZER))?;
    let optional = [layout.pooling.clone(), Some(name(SENTENCE_CONFIG))];
    for file in optional.into_iter().flatten().filter(|file| files.contains(file)) {
        job.fetch(&file)?;
    }
    if has(SINGLE) {
        job.fetch(&name(SINGLE))?;
    } else {
        job.fetch(&name(INDEX))?;
        let index = job.snapshot.join(name(INDEX));
        let shards: BTreeSet<String> =
            folder::shards_of(&json::read(&index)?, &index)?.into_values().collect();
        for shard in shards {
            job.fetch(&name(&shard))?;
        }
    }
    // Last, so that a branch never points at a snapshot that is not whole.
    if revision != commit {
        let path = job.root.join("refs").join(revision);
        create_folder_of(&path)?;
        write_atomically(&path, |w| w.write_all(commit.as_bytes()).map_err(Error::io("writing", &path)))?;
    }
    Ok(commit)
}

/// The commit that a revision means now, and the names of its files.
fn list(
    client: &Client<'_>,
    hub: &HubSettings,
    id: &str,
    revision: &str,
) -> Result<(String, BTreeSet<String>)> {
    let url = format!("{}/api/models/{id}/revision/{}", hub.endpoint, revision.replace('/', "%2F"));
    let failed = |message: String| Error::Download { url: url.clone(), message };
    let body = client.get(&url, 0)?.body.into_with_config().limit(LISTING_LIMIT).read_to_vec();
    let body = body.map_err(|error| failed(format!("{error}; try again")))?;
    let listing: Value = serde_json::from_slice(&body)
        .map_err(|error| failed(format!("the answer is not JSON ({error}); is HF_ENDPOINT right?")))?;
    let commit = listing["sha"].as_str().filter(|commit| hub::is_commit(commit));
    let files: Option<BTreeSet<String>> = listing["siblings"]
        .as_array()
        .and_then(|files| files.iter().map(|file| Some(file["rfilename"].as_str()?.to_string())).collect());
    match (commit, files) {
        (Some(commit), Some(files)) => Ok((commit.to_string(), files)),
        _ => Err(failed("the answer names no commit or no files; is HF_ENDPOINT right?".into())),
    }
}

/// The download of one model.
struct Job<'a> {
    client: Client<'a>,
    /// What stands before the names of files.
    url: String,
    /// The model's folder in the cache.
    root: PathBuf,
    snapshot: PathBuf,
    pause: std::time::Duration,
    progress: &'a mut dyn FnMut(Download<'_>) -> Result<()>,
}

impl Job<'_> {
    /// Brings a file into the snapshot, if it is not there.
    fn fetch(&mut self, file: &str) -> Result<()> {
        let target = self.snapshot.join(file);
        if target.is_file() {
            return Ok(());
        }
        let url = format!("{}/{}", self.url, encoded(file));
        let failed = |message: String| Error::Download { url: url.clone(), message };
        let reply = self.client.get(&url, 0)?;
        let digest = reply.etag.clone().filter(|etag| is_file_name(etag));
        let digest =
            digest.ok_or_else(|| failed("the server gives no ETag; is HF_ENDPOINT right?".into()))?;
        let blob = self.root.join("blobs").join(&digest);
        if !blob.is_file() {
            let part = self.root.join("blobs").join(format!("{digest}.regrow-part"));
            self.receive(file, &url, reply, &digest, &part, &blob)?;
        }
        link(&self.root, &blob, &target, file)
    }

    /// Downloads the contents of a file into `part`, goes on where an earlier attempt stopped, compares the digest
    /// and names it `blob`.
    fn receive(
        &mut self,
        file: &str,
        url: &str,
        reply: Reply,
        digest: &str,
        part: &Path,
        blob: &Path,
    ) -> Result<()> {
        let writing = || Error::io("writing", part);
        let failed = |message: String| Error::Download { url: url.to_string(), message };
        create_folder_of(part)?;
        let options = File::options().read(true).write(true).create(true).truncate(false).open(part);
        let mut out = options.map_err(writing())?;
        let total = reply.total;
        let mut done = out.metadata().map_err(writing())?.len();
        if total.is_none_or(|total| done > total) {
            done = 0;
        }
        let mut reply = if done == 0 { Some(reply) } else { None };
        let (mut furthest, mut failures) = (done, 0);
        while reply.is_some() || total != Some(done) {
            let opened = reply.take().map_or_else(|| self.client.get(url, done), Ok);
            let broken = match opened {
                Ok(mut reply) => {
                    done = reply.from.min(done);
                    if reply.from > done || reply.etag.as_deref() != Some(digest) {
                        return Err(failed("the server sends another part or file than asked for".into()));
                    }
                    out.set_len(done).map_err(writing())?;
                    out.seek(SeekFrom::Start(done)).map_err(writing())?;
                    self.pour(file, &mut reply, &mut out, &mut done, total).map_err(|stop| match stop {
                        Stop::Disk(error) => writing()(error),
                        Stop::Asked(error) => error,
                    })?
                }
                Err(error) => Some(error.to_string()),
            };
            let Some(broken) = broken else { break };
            failures = if done > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(done);
            if failures >= ATTEMPTS {
                let of = total.map_or(String::new(), |total| format!(" of {total}"));
                return Err(failed(format!(
                    "the download broke off after {done}{of} bytes ({broken}); the same command resumes it"
                )));
            }
            thread::sleep(self.pause * (1 << (failures - 1)));
        }
        let sum = digest_of(&mut out, digest).map_err(Error::io("reading", part))?;
        if total.is_some_and(|total| total != done) || sum.as_deref().is_some_and(|sum| sum != digest) {
            out.set_len(0).map_err(writing())?;
            let sum = sum.unwrap_or_else(|| format!("{done} bytes"));
            let message = format!(
                "what arrived has checksum {sum}, the hub promises {digest}; it is thrown away: try again"
            );
            return Err(failed(message));
        }
        out.sync_all().map_err(writing())?;
        fs::rename(part, blob).map_err(Error::io("writing", blob))
    }

    /// Writes a body to a file. Returns what broke it off, if something did.
    fn pour(
        &mut self,
        file: &str,
        reply: &mut Reply,
        out: &mut File,
        done: &mut u64,
        total: Option<u64>,
    ) -> Result<Option<String>, Stop> {
        let mut body = reply.body.as_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read = match body.read(&mut piece) {
                Ok(0) if total.is_some_and(|total| *done < total) => {
                    return Ok(Some("the server closed the connection".into()));
                }
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Some(error.to_string())),
            };
            out.write_all(&piece[..read]).map_err(Stop::Disk)?;
            *done += read as u64;
            if total.is_some_and(|total| *done > total) {
                return Ok(None); // the comparison of sizes says the rest
            }
            (self.progress)(Download { file, done: *done, total }).map_err(Stop::Asked)?;
        }
    }
}

/// Why a body is not read on, though the server would send more.
enum Stop {
    Disk(io::Error),
    Asked(Error),
}

/// The digest of a file, of the kind that `like` is: SHA-256, or SHA-1 as git names contents; none if it is neither.
fn digest_of(file: &mut File, like: &str) -> io::Result<Option<String>> {
    if !like.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut context = match like.len() {
        64 => digest::Context::new(&digest::SHA256),
        40 => {
            let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
            context.update(format!("blob {}\0", file.metadata()?.len()).as_bytes());
            context
        }
        _ => return Ok(None),
    };
    file.seek(SeekFrom::Start(0))?;
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => context.update(&piece[..read]),
        }
    }
    Ok(Some(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Gives a blob its name in the snapshot: a relative link, as in every cache of the hub. Where links are not for
/// everybody (Windows) the file itself moves there, as the hub's own tools do.
fn link(root: &Path, blob: &Path, target: &Path, file: &str) -> Result<()> {
    create_folder_of(target)?;
    // A link to a blob that somebody removed.
    let _ = fs::remove_file(target);
    let linked = if cfg!(unix) {
        let below = blob.strip_prefix(root).unwrap_or(blob);
        let up = "../".repeat(2 + file.matches('/').count());
        symlink(&Path::new(&up).join(below), target)
    } else {
        fs::rename(blob, target)
    };
    match linked {
        // Other tools do not know this lock.
        Err(_) if target.is_file() => Ok(()),
        linked => linked.map_err(Error::io("writing", target)),
    }
}

#[cfg(unix)]
fn symlink(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn create_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(Error::io("creating folder", folder))
}

/// Whether an ETag can name a file.
fn is_file_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A name as it stands in a URL.
fn encoded(file: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    file.bytes().map(encode).collect()
}
