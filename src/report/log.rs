//! Reading a run's log, `metrics.jsonl`: a line for each epoch and each rewiring, in any version of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The lines that the page shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Log {
    /// Ends of epochs, in order.
    pub(super) epochs: Vec<Epoch>,
    /// Rewirings, in order.
    pub(super) rewirings: Vec<Rewiring>,
    /// Whether the last line was cut off, as a killed run leaves it; it is not among the others.
    pub(super) unfinished: bool,
}

/// The end of an epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Epoch {
    /// Its number, from 1.
    pub(super) epoch: u64,
    /// Optimizer steps done.
    pub(super) step: u64,
    /// The split that was ranked, if one was.
    pub(super) split: Option<String>,
    /// Whether this was the best model so far on dev.
    pub(super) best: bool,
    /// The slices of the labels by frequency, if they were logged.
    pub(super) slices: Vec<Slice>,
    /// Everything that is a number, by its key; not finite where the log says null.
    pub(super) numbers: BTreeMap<String, f64>,
}

/// How labels of like frequency fared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slice {
    /// Which labels: `head`, `torso`, `tail`.
    pub(super) name: String,
    /// The least and the greatest training frequency among them.
    pub(super) train_frequency: Option<[u64; 2]>,
    /// Everything that is a number, by its key: `labels`, `positives_share` and metrics, in percent.
    pub(super) numbers: BTreeMap<String, f64>,
}

/// A rewiring.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rewiring {
    /// Optimizer steps done.
    pub(super) step: u64,
    /// Everything that is a number, by its key.
    pub(super) numbers: BTreeMap<String, f64>,
}

impl Epoch {
    /// A logged number; not finite if it was not logged.
    pub(super) fn number(&self, key: &str) -> f64 {
        self.numbers.get(key).copied().unwrap_or(f64::NAN)
    }
}

impl Log {
    /// Reads the log at `path`. Events of other names are left out.
    ///
    /// # Errors
    /// [`Error::Line`] for a line that is no event; [`Error::Io`].
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut reader = BufReader::new(File::open(path).map_err(Error::io("reading", path))?);
        let mut log = Self::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(Error::io("reading", path))? == 0 {
                break;
            }
            match (log.add(&line), line.ends_with(b"\n")) {
                (Ok(()), _) => {}
                (Err(_), false) => log.unfinished = true,
                (Err(what), true) => {
                    return Err(Error::line(path, number, format!("this is no event of a run: {what}")));
                }
            }
        }
        Ok(log)
    }

    fn add(&mut self, line: &[u8]) -> Result<(), String> {
        let line = line.trim_ascii_end();
        // The one line that the parser sees is not the line of the file.
        let wrong = |error: serde_json::Error| error.to_string().replace(" at line 1 column", " at column");
        let object: Map<String, Value> = serde_json::from_slice(line).map_err(wrong)?;
        match object.get("event").and_then(Value::as_str) {
            Some("epoch") => {
                let epoch = read_epoch(&object)?;
                if let Some(before) = self.epochs.last().filter(|before| before.epoch >= epoch.epoch) {
                    return Err(format!("epoch {} comes after epoch {}", epoch.epoch, before.epoch));
                }
                self.epochs.push(epoch);
            }
            Some("rewire") => {
                let step = whole(&object, "step")?;
                if let Some(before) = self.rewirings.last().filter(|before| before.step >= step) {
                    return Err(format!("step {step} comes after step {}", before.step));
                }
                self.rewirings.push(Rewiring { step, numbers: numbers(&object) });
            }
            Some(_) => {}
            None => return Err("it lacks \"event\"".into()),
        }
        Ok(())
    }

    /// The last epoch that was ranked.
    pub(super) fn last_ranked(&self) -> Option<&Epoch> {
        self.epochs.iter().rev().find(|epoch| epoch.split.is_some())
    }

    /// The best epoch: the one that dev chose, else the one of highest P@1 on the ranked split.
    pub(super) fn best_ranked(&self) -> Option<&Epoch> {
        let chosen = self.epochs.iter().rev().find(|epoch| epoch.best);
        let p1 = |epoch: &&Epoch| epoch.number("P@1");
        let ranked = self.epochs.iter().filter(|epoch| p1(epoch).is_finite());
        // The first one where several are equal, as the run itself would choose.
        chosen.or_else(|| ranked.rev().max_by(|a, b| p1(a).total_cmp(&p1(b))))
    }

    /// The slices of the last epoch that has some.
    pub(super) fn slices(&self) -> &[Slice] {
        self.epochs.iter().rev().map(|epoch| epoch.slices.as_slice()).find(|s| !s.is_empty()).unwrap_or(&[])
    }
}

fn read_epoch(object: &Map<String, Value>) -> Result<Epoch, String> {
    let numbers = numbers(object);
    if !numbers.contains_key("loss") {
        return Err("it lacks \"loss\"".into());
    }
    Ok(Epoch {
        epoch: whole(object, "epoch")?,
        step: whole(object, "step")?,
        split: object.get("split").and_then(Value::as_str).map(str::to_owned),
        best: object.get("best").and_then(Value::as_bool).unwrap_or(false),
        slices: read_slices(object.get("slices")),
        numbers,
    })
}

/// `slices`: an object of objects by name, the most frequent labels first.
fn read_slices(slices: Option<&Value>) -> Vec<Slice> {
    let Some(Value::Object(slices)) = slices else { return Vec::new() };
    let read = |(name, slice): (&String, &Value)| {
        let range = slice.get("train_frequency").and_then(Value::as_array).map(Vec::as_slice);
        Slice {
            name: name.clone(),
            train_frequency: match range {
                Some([least, greatest]) => least.as_u64().zip(greatest.as_u64()).map(Into::into),
                _ => None,
            },
            numbers: slice.as_object().map(numbers).unwrap_or_default(),
        }
    };
    slices.iter().map(read).collect()
}

fn whole(object: &Map<String, Value>, key: &str) -> Result<u64, String> {
    object.get(key).and_then(Value::as_u64).ok_or_else(|| format!("it lacks \"{key}\", a whole number"))
}

/// The numbers of a line; JSON has null for what is not finite.
fn numbers(object: &Map<String, Value>) -> BTreeMap<String, f64> {
    let number = |value: &Value| if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
    object.iter().filter_map(|(key, value)| Some((key.clone(), number(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Log> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        Log::read(&path)
    }

    const REWIRE: &str =
        r#"{"event":"rewire","step":2,"pruned":9,"pruned_again":1,"regrown":9,"turnover":0.25}"#;
    const EPOCH: &str = r#"{"event":"epoch","epoch":1,"step":3,"loss":2.5,"encoder_lr":0.1,"split":"dev","best":true,"P@1":40.5}"#;

    #[test]
    fn lines_become_numbers() {
        let log = read(&format!("{REWIRE}\n{EPOCH}\n{{\"event\":\"later\"}}\n")).unwrap();
        assert_eq!((log.rewirings.len(), log.epochs.len(), log.unfinished), (1, 1, false));
        assert_eq!((log.rewirings[0].step, log.rewirings[0].numbers["turnover"]), (2, 0.25));
        let epoch = &log.epochs[0];
        assert_eq!((epoch.epoch, epoch.step, epoch.best, epoch.split.as_deref()), (1, 3, true, Some("dev")));
        assert_eq!((epoch.number("loss"), epoch.number("P@1")), (2.5, 40.5));
        assert!(epoch.number("P@3").is_nan());
        assert_eq!(read("").unwrap(), Log::default());
    }

    #[test]
    fn a_loss_that_was_not_finite_is_null() {
        let log = read("{\"event\":\"epoch\",\"epoch\":1,\"step\":3,\"loss\":null}\n").unwrap();
        assert!(log.epochs[0].number("loss").is_nan());
    }

    #[test]
    fn damaged_lines_are_named() {
        let end = |epoch| format!("{{\"event\":\"epoch\",\"epoch\":{epoch},\"step\":3,\"loss\":1}}");
        for (bad, word) in [
            ("{\"event\":\"epo", "EOF while parsing a string at column 13"),
            ("\u{0}\u{0}", "expected value"),
            ("[1]", "expected a map"),
            ("{\"step\":1}", "lacks \"event\""),
            ("{\"event\":\"epoch\",\"epoch\":2,\"step\":3}", "lacks \"loss\""),
            ("{\"event\":\"epoch\",\"epoch\":-2,\"step\":3,\"loss\":1}", "lacks \"epoch\""),
            ("{\"event\":\"rewire\"}", "lacks \"step\""),
            (&end(1), "epoch 1 comes after epoch 1"),
        ] {
            let error = read(&format!("{EPOCH}\n{bad}\n{}\n", end(2))).unwrap_err().to_string();
            assert!(error.contains("metrics.jsonl:2: ") && error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_last_line_that_was_cut_off_is_left_out() {
        let log = read(&format!("{EPOCH}\n{}", &EPOCH[..30])).unwrap();
        assert_eq!((log.epochs.len(), log.unfinished), (1, true));
    }

    #[test]
    fn the_best_epoch_is_that_of_dev_or_the_first_highest() {
        let epoch = |number: u64, p1: f64, best| Epoch {
            epoch: number,
            best,
            numbers: [("P@1".to_owned(), p1)].into(),
            ..Epoch::default()
        };
        let best = |epochs: &[Epoch]| {
            let log = Log { epochs: epochs.to_vec(), ..Log::default() };
            log.best_ranked().map(|epoch| epoch.epoch)
        };
        assert_eq!(best(&[epoch(1, 4.0, true), epoch(2, 5.0, true), epoch(3, 5.0, false)]), Some(2));
        assert_eq!(best(&[epoch(1, 4.0, false), epoch(2, 5.0, false), epoch(3, 5.0, false)]), Some(2));
        assert_eq!(best(&[epoch(1, f64::NAN, false)]), None);
    }

    #[test]
    fn slices_keep_their_order() {
        let line =
            r#"{"torso":{"labels":3,"train_frequency":[2,9],"R@5":50.0},"head":{"train_frequency":null}}"#;
        let slices = read_slices(Some(&serde_json::from_str(line).unwrap()));
        assert_eq!((slices[0].name.as_str(), slices[1].name.as_str()), ("torso", "head"));
        assert_eq!((slices[0].train_frequency, slices[1].train_frequency), (Some([2, 9]), None));
        assert_eq!((slices[0].numbers["labels"], slices[0].numbers["R@5"]), (3.0, 50.0));
        assert_eq!((read_slices(None), read_slices(Some(&Value::Null))), (vec![], vec![]));
    }
}
