//! What dev decides: which model is the best one, and when a run has nothing more to gain. The test split decides
//! neither.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Config, Train};
use crate::error::{Error, Result};
use crate::evaluate::Metrics;

/// The name of a dev split.
pub(super) const DEV: &str = "dev";
/// The name of a dev split that was taken from the training documents.
pub(super) const HELD_OUT: &str = "dev (held out)";

/// Whether the split of this name may choose the best model and end a run.
pub(super) fn may_choose(split: &str) -> bool {
    [DEV, HELD_OUT].contains(&split)
}

/// Whether what the config wants decided can be decided on the split that is evaluated, by its name.
///
/// # Errors
/// [`Error::Config`] when a run shall end by patience, but dev is not evaluated.
pub(super) fn check(config: &Config, evaluated: Option<&str>) -> Result<()> {
    if config.train.patience == 0 || evaluated.is_some_and(may_choose) {
        return Ok(());
    }
    let found = evaluated.unwrap_or("nothing");
    Err(Error::config(
        "train.patience",
        format!(
            "only dev ends a run, but {found} is evaluated: add a dev split, hold one out with train.holdout = 0.1, check \
             train.evaluate_on, or say 0"
        ),
    ))
}

/// What dev has chosen so far; part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Selection {
    /// The greatest value of the metric, as a fraction: that of the best model.
    best: Option<f64>,
    /// The value at the last gain of more than `train.min_delta`.
    reference: Option<f64>,
    /// Evaluations since then.
    pub(super) waited: u32,
    /// Whether the run has ended early.
    pub(super) stopped: bool,
}

impl Selection {
    /// Takes the metrics of an evaluation on dev; true if its model is the best so far. After the `last` epoch there is
    /// nothing left to stop.
    pub(super) fn judge(&mut self, metrics: &Metrics, rules: &Train, last: bool) -> bool {
        // The config was checked: the metric has this name.
        let value = metrics.get(&rules.select_metric).unwrap_or(0.0);
        let best = self.best.is_none_or(|best| value > best);
        if best {
            self.best = Some(value);
        }
        if self.reference.is_none_or(|reference| value > reference + rules.min_delta / 100.0) {
            self.reference = Some(value);
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        self.stopped = !last && rules.patience > 0 && self.waited >= rules.patience;
        best
    }

    /// The line of `metrics.jsonl` that tells of the early end, if this is one.
    pub(super) fn stop_line(&self, config: &Config, epoch: u32, step: u64) -> Option<Value> {
        self.stopped.then(|| {
            json!({
                "event": "early_stop", "epoch": epoch, "step": step, "metric": config.train.select_metric,
                "best": self.best.map(|best| 100.0 * best), "evaluations_without_gain": self.waited,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds values of P@1 in percent; gives the best flags and the number of the evaluation after which it stopped.
    fn judged(values: &[f64], patience: u32, min_delta: f64) -> (Vec<bool>, Option<usize>) {
        let settings = [format!("train.patience={patience}"), format!("train.min_delta={min_delta}")];
        let rules = Config::with_settings(&settings).unwrap().train;
        let mut selection = Selection::default();
        let mut best = Vec::new();
        for (number, value) in values.iter().enumerate() {
            let precision = [value / 100.0, 0.9, 0.9, 0.9, 0.9];
            let metrics = Metrics { precision, ..Metrics::default() };
            best.push(selection.judge(&metrics, &rules, number + 1 == values.len()));
            if selection.stopped {
                return (best, Some(number + 1));
            }
        }
        (best, None)
    }

    #[test]
    fn the_best_is_strictly_better() {
        let values = [10.0, 10.0, 12.0, 11.0, 13.0];
        assert_eq!(judged(&values, 0, 0.0), (vec![true, false, true, false, true], None));
        assert_eq!(judged(&[0.0, 0.0], 0, 0.0).0, [true, false]);
    }

    #[test]
    fn patience_runs_out() {
        let values = [10.0, 12.0, 11.0, 12.0, 11.0, 11.0, 20.0];
        assert_eq!(judged(&values, 1, 0.0).1, Some(3));
        assert_eq!(judged(&values, 3, 0.0).1, Some(5));
        assert_eq!(judged(&values, 4, 0.0).1, Some(6));
        // A gain comes first.
        assert_eq!(judged(&values, 5, 0.0).1, None);
        // After the last epoch there is nothing to stop.
        assert_eq!(judged(&[10.0, 9.0], 1, 0.0).1, None);
    }

    /// Steps of 0.75 never gain 1 over the last reference but once in two evaluations.
    #[test]
    fn small_gains_do_not_count_for_patience_but_for_the_best() {
        let values = [10.0, 10.75, 11.5, 12.25, 13.0, 13.75];
        assert_eq!(judged(&values, 2, 1.0), (vec![true; 6], None));
        assert_eq!(judged(&values, 1, 1.0), (vec![true; 2], Some(2)));
        assert_eq!(judged(&values, 3, 10.0).1, Some(4));
    }

    #[test]
    fn only_dev_decides() {
        let config = Config::with_settings(&["train.patience=2".into()]).unwrap();
        check(&config, Some(DEV)).unwrap();
        check(&config, Some(HELD_OUT)).unwrap();
        for split in [Some("test"), Some("train"), None] {
            assert!(!split.is_some_and(may_choose));
            let message = check(&config, split).unwrap_err().to_string();
            assert!(
                message.starts_with("config train.patience: ") && message.contains("holdout"),
                "{message}"
            );
            check(&Config::with_settings(&[]).unwrap(), split).unwrap();
        }
    }

    #[test]
    fn another_metric_decides() {
        let rules = Config::with_settings(&["train.select_metric=nDCG@5".into()]).unwrap().train;
        let mut selection = Selection::default();
        let with =
            |ndcg| Metrics { precision: [0.5; 5], ndcg: [0.0, 0.0, 0.0, 0.0, ndcg], ..Metrics::default() };
        let flags = [0.2, 0.1, 0.3].map(|ndcg| selection.judge(&with(ndcg), &rules, false));
        assert_eq!(flags, [true, false, true]);
    }
}
