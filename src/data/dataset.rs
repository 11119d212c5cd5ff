//! Opening a data set: from a folder of raw files, or from the token cache if the same was opened before.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::build::{Build, train_tokenizer};
use super::document::TextField;
use super::labels::LabelMap;
use super::layout::{DataFiles, Layout, SplitName};
use super::progress::{Progress, Reporter, Stage};
use super::split::Split;
use super::summary::Summary;
use super::token_cache::{self, Cached, Opened};
use super::tokenizer::{Tokenizer, TokenizerSource};
use super::train_tokenizer::TokenizerSpec;
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// Which splits to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Splits {
    /// Train, which must be there, and dev and test where they are there.
    #[default]
    All,
    /// These, and each must be there.
    Only(Vec<SplitName>),
}

/// What to open and how.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// The folder with the raw files.
    pub path: PathBuf,
    /// The layout; none: found from the files.
    pub format: Option<Layout>,
    /// Which part of an `lf` record is the text; the other layouts have but one.
    pub text_field: TextField,
    /// Whether the title of each row of `lbl.json` is one more training document with that label, after the others;
    /// layout `lf` only.
    pub augment: bool,
    /// Longest document in tokens, special tokens included.
    pub max_tokens: usize,
    /// Whether the tokenizer's special tokens are added.
    pub special_tokens: bool,
    /// Where the tokenizer comes from.
    pub tokenizer: TokenizerSource,
    /// Where token caches and trained tokenizers are kept; made if missing.
    pub cache_dir: PathBuf,
    /// The labels of a model that the data is evaluated on. Labels that it lacks get higher ids in the order in which
    /// they are first seen, so that recall counts them as missed.
    pub fixed_labels: Option<LabelMap>,
    /// Which splits to read.
    pub splits: Splits,
}

/// A data set, tokenised.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Label names and ids.
    pub labels: LabelMap,
    /// Training documents; empty if the split was not asked for.
    pub train: Split,
    /// Documents to decide on, if there are any.
    pub dev: Option<Split>,
    /// How many of dev's documents were taken from train ([`Dataset::hold_out`]): all or none.
    pub held_out: usize,
    /// Documents to report on, if there are any.
    pub test: Option<Split>,
    /// (test row, label id) pairs to leave out of the evaluation, sorted.
    pub filter: Vec<(u32, u32)>,
    /// The tokenizer that made the token ids.
    pub tokenizer: Tokenizer,
    /// What was read.
    pub summary: Summary,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
}

impl Dataset {
    /// Opens a data set. `progress` is called now and then, on the calling thread.
    ///
    /// The raw files are hashed; if the same content was opened before with the same options, the token cache is
    /// used, else it is built. A damaged cache is built again, with a warning.
    ///
    /// # Errors
    /// [`Error::Data`] and [`Error::Line`] for what is wrong with the data, [`Error::Io`] for what cannot be read or
    /// written, [`Error::Artefact`] for a tokenizer that is none, [`Error::Config`] for options that cannot work.
    pub fn open(options: &DataOptions, progress: &dyn Fn(Progress)) -> Result<Self> {
        let files = DataFiles::find(&options.path, options.format)?;
        let splits = wanted(&files, &options.splits)?;
        let label_texts = options.augment.then(|| files.label_texts()).transpose()?;
        let loaded = match &options.tokenizer {
            TokenizerSource::File(path) => {
                Some(Tokenizer::from_file(path, options.max_tokens, options.special_tokens)?)
            }
            TokenizerSource::Train(_) => {
                files.split(SplitName::Train)?;
                None
            }
        };
        let keys = Keys::of(options, &files, &splits, loaded.as_ref(), progress)?;
        std::fs::create_dir_all(&options.cache_dir)
            .map_err(Error::io("creating folder", &options.cache_dir))?;
        let target = options.cache_dir.join(format!("tokens-{:032x}.bin", keys.data));
        let mut warnings = Vec::new();
        let cached = match token_cache::open(&target, keys.data)? {
            Opened::Whole(cached) => cached,
            opened => {
                if let Opened::Damaged(why) = opened {
                    warnings.push(format!("{}: the token cache was built again: {why}", target.display()));
                }
                let tokenizer = match (&options.tokenizer, &loaded) {
                    (_, Some(tokenizer)) => tokenizer.clone(),
                    (TokenizerSource::Train(spec), None) => {
                        trained(options, &files, label_texts, spec, &keys, progress)?
                    }
                    (TokenizerSource::File(path), None) => {
                        Tokenizer::from_file(path, options.max_tokens, options.special_tokens)?
                    }
                };
                let build = Build {
                    files: &files,
                    splits: &splits,
                    field: options.text_field,
                    label_texts,
                    fixed: options.fixed_labels.as_ref(),
                    key: keys.data,
                    target: target.clone(),
                };
                let total = splits.iter().map(|&split| size_of_split(&files, split)).sum::<u64>();
                let total = total + label_texts.map_or(0, size_of);
                build.run(&tokenizer, &Reporter::new(progress, total))?;
                match token_cache::open(&target, keys.data)? {
                    Opened::Whole(cached) => cached,
                    _ => {
                        return Err(Error::artefact(
                            &target,
                            "was damaged right after it was written; check the disk of the cache folder",
                        ));
                    }
                }
            }
        };
        Self::from_cached(*cached, loaded, options, &target, warnings)
    }

    fn from_cached(
        cached: Cached,
        loaded: Option<Tokenizer>,
        options: &DataOptions,
        target: &Path,
        mut warnings: Vec<String>,
    ) -> Result<Self> {
        let tokenizer = match loaded {
            Some(tokenizer) => tokenizer,
            None => {
                Tokenizer::from_json(cached.tokenizer, target, options.max_tokens, options.special_tokens)?
            }
        };
        warnings.extend(cached.meta.warnings);
        let [train, dev, test] = cached.splits;
        Ok(Self {
            labels: cached.labels,
            train: train.unwrap_or_else(Split::empty),
            dev,
            held_out: 0,
            test,
            filter: cached.filter.into_iter().map(|[row, label]| (row, label)).collect(),
            tokenizer,
            summary: cached.meta.summary,
            warnings,
        })
    }

    /// A split by name; none if it is not there or was not asked for.
    #[must_use]
    pub fn split(&self, name: SplitName) -> Option<&Split> {
        match name {
            SplitName::Train => Some(&self.train).filter(|train| !train.is_empty()),
            SplitName::Dev => self.dev.as_ref(),
            SplitName::Test => self.test.as_ref(),
        }
    }
}

fn wanted(files: &DataFiles, splits: &Splits) -> Result<Vec<SplitName>> {
    let names: Vec<SplitName> = match splits {
        Splits::All => {
            files.split(SplitName::Train)?;
            SplitName::ALL.into_iter().filter(|&split| files.splits[split as usize].is_some()).collect()
        }
        Splits::Only(names) => {
            let mut names = names.clone();
            names.sort_unstable();
            names.dedup();
            names
        }
    };
    names.iter().try_for_each(|&split| files.split(split).map(drop))?;
    if names.is_empty() {
        return Err(Error::Usage("no split of the data set was asked for; name train, dev or test".into()));
    }
    Ok(names)
}

fn size_of_split(files: &DataFiles, split: SplitName) -> u64 {
    let paths = files.splits[split as usize].iter().flat_map(|s| [Some(&s.documents), s.labels.as_ref()]);
    paths.flatten().map(|path| size_of(path)).sum()
}

fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

/// What names the cached files.
struct Keys {
    data: u128,
    tokenizer: u128,
}

impl Keys {
    fn of(
        options: &DataOptions,
        files: &DataFiles,
        splits: &[SplitName],
        loaded: Option<&Tokenizer>,
        progress: &dyn Fn(Progress),
    ) -> Result<Self> {
        let spec = match &options.tokenizer {
            TokenizerSource::Train(spec) => Some(format!("{spec:?}")),
            TokenizerSource::File(_) => None,
        };
        // Training texts count for a trained tokenizer even if the split itself is not wanted.
        let mut read = splits.to_vec();
        if spec.is_some() && !read.contains(&SplitName::Train) {
            read.push(SplitName::Train);
        }
        let others = [&files.labels, &files.filter].into_iter().flatten();
        let sizes = others.clone().map(|path| size_of(path)).sum::<u64>();
        let total = sizes + read.iter().map(|&split| size_of_split(files, split)).sum::<u64>();
        let reporter = Reporter::new(progress, total);
        let mut done = 0;
        let mut hash_of = |path: &Path| hash_file(path, &mut done, &reporter);
        let mut data = Xxh3::new();
        let mut tokenizer = Xxh3::new();
        let fields = format!("{}|{}|{}", token_cache::VERSION, files.layout, options.text_field.as_str());
        data.update(fields.as_bytes());
        tokenizer.update(fields.as_bytes());
        for &split in &read {
            let paths = files.split(split)?;
            let digest = hash_of(&paths.documents)?;
            data.update(split.as_str().as_bytes());
            data.update(&digest.to_le_bytes());
            if split == SplitName::Train {
                tokenizer.update(&digest.to_le_bytes());
            }
            if let Some(labels) = &paths.labels {
                data.update(&hash_of(labels)?.to_le_bytes());
            }
        }
        for (role, path) in [("labels", &files.labels), ("filter", &files.filter)] {
            data.update(role.as_bytes());
            if let Some(path) = path {
                let digest = hash_of(path)?;
                data.update(&digest.to_le_bytes());
                if options.augment && role == "labels" {
                    data.update(b"augment");
                    tokenizer.update(&digest.to_le_bytes());
                }
            }
        }
        let fixed = options.fixed_labels.as_ref().map(LabelMap::digest);
        let rest =
            format!("|{splits:?}|{spec:?}|{}|{}|{fixed:?}|", options.max_tokens, options.special_tokens);
        data.update(rest.as_bytes());
        tokenizer.update(format!("{spec:?}").as_bytes());
        if let Some(loaded) = loaded {
            data.update(loaded.json().as_bytes());
        }
        Ok(Self { data: data.digest128(), tokenizer: tokenizer.digest128() })
    }
}

fn hash_file(path: &Path, done: &mut u64, reporter: &Reporter<'_>) -> Result<u64> {
    let mut file = File::open(path).map_err(Error::io("reading", path))?;
    let mut buffer = vec![0; 1 << 20];
    let mut hash = Xxh3::new();
    loop {
        match file.read(&mut buffer).map_err(Error::io("reading", path))? {
            0 => return Ok(hash.digest()),
            n => {
                hash.update(&buffer[..n]);
                *done += n as u64;
                reporter.report(Stage::Hash, None, *done);
            }
        }
    }
}

/// The trained tokenizer, from the cache folder or by training it. The cached file is the hash of the JSON in its first
/// line and the JSON after it, so that a damaged one is trained again.
fn trained(
    options: &DataOptions,
    files: &DataFiles,
    label_texts: Option<&Path>,
    spec: &TokenizerSpec,
    keys: &Keys,
    progress: &dyn Fn(Progress),
) -> Result<Tokenizer> {
    let path = options.cache_dir.join(format!("tokenizer-{:032x}.cache", keys.tokenizer));
    let known = std::fs::read_to_string(&path).ok().and_then(|text| {
        let (hash, json) = text.split_once('\n')?;
        (hash == format!("{:016x}", xxh3_64(json.as_bytes()))).then(|| json.to_owned())
    });
    let json = match known {
        Some(json) => json,
        None => {
            let total = size_of_split(files, SplitName::Train) + label_texts.map_or(0, size_of);
            let reporter = Reporter::new(progress, total);
            let json = train_tokenizer(files, options.text_field, label_texts, spec, &reporter)?;
            let text = format!("{:016x}\n{json}", xxh3_64(json.as_bytes()));
            write_atomically(&path, |file| {
                file.write_all(text.as_bytes()).map_err(Error::io("writing", &path))
            })?;
            json
        }
    };
    Tokenizer::from_json(json, &path, options.max_tokens, options.special_tokens)
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
