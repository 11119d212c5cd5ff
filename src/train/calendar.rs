//! When things happen: steps, epochs, rewirings.

use crate::classifier::Prune;
use crate::config::{Config, HeadKind, RewireMode, ScheduleKind};
use crate::optimize::{cosine, rewire_threshold};

/// The counts that a config and a number of documents decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Training documents, N.
    pub documents: usize,
    /// Documents in an optimizer step: batch times accumulation.
    pub step_documents: usize,
    /// Optimizer steps in an epoch; the last one may be smaller.
    pub steps_per_epoch: u64,
    /// Epochs.
    pub epochs: u32,
    /// Optimizer steps between rewirings; 0: none.
    pub rewire_interval: u64,
    /// Rewiring ends with this epoch.
    pub rewire_epochs: u32,
    /// The auxiliary objective ends with this epoch; 0: there is none.
    pub auxiliary_epochs: u32,
}

impl Calendar {
    /// The calendar of a run.
    #[must_use]
    pub fn new(config: &Config, documents: usize) -> Self {
        let step_documents = config.train.batch_size * config.train.accumulate;
        // A dense layer has nothing to rewire.
        let off = config.rewire.mode == RewireMode::Off || config.classifier.head != HeadKind::FanIn;
        Self {
            documents,
            step_documents,
            steps_per_epoch: documents.div_ceil(step_documents) as u64,
            epochs: config.train.epochs,
            rewire_interval: if off { 0 } else { config.rewire.interval },
            rewire_epochs: (f64::from(config.train.epochs) * config.rewire.until).floor() as u32,
            auxiliary_epochs: if config.has_auxiliary() { config.auxiliary.cutoff_epoch } else { 0 },
        }
    }

    /// Optimizer steps of the whole run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.steps_per_epoch * u64::from(self.epochs)
    }

    /// Optimizer steps until rewiring ends.
    #[must_use]
    pub fn rewire_steps(&self) -> u64 {
        self.steps_per_epoch * u64::from(self.rewire_epochs)
    }

    /// Optimizer steps until the auxiliary objective ends, whatever a step accumulates.
    #[must_use]
    pub fn auxiliary_steps(&self) -> u64 {
        self.steps_per_epoch * u64::from(self.auxiliary_epochs)
    }

    /// Rewirings of the whole run.
    #[must_use]
    pub fn rewirings(&self) -> u64 {
        self.rewire_steps().checked_div(self.rewire_interval).unwrap_or(0)
    }

    /// What is pruned after `done` optimizer steps, if it is time for it (SPARTEX §2.2, appendix C; the cosine of the
    /// fraction is RigL's, Evci et al. 2020).
    #[must_use]
    pub fn prune_after(&self, done: u64, config: &Config) -> Option<Prune> {
        if self.rewire_interval == 0
            || !done.is_multiple_of(self.rewire_interval)
            || done > self.rewire_steps()
        {
            return None;
        }
        let rewire = &config.rewire;
        match rewire.mode {
            RewireMode::Off => None,
            RewireMode::Fraction => {
                let fraction = match rewire.fraction_schedule {
                    ScheduleKind::Constant => rewire.fraction,
                    ScheduleKind::Cosine => cosine(rewire.fraction, 0.0, done, self.rewire_steps()),
                };
                Some(if rewire.per_row { Prune::FractionPerRow(fraction) } else { Prune::Fraction(fraction) })
            }
            RewireMode::Threshold => Some(Prune::Threshold(match rewire.schedule {
                ScheduleKind::Constant => rewire.threshold,
                ScheduleKind::Cosine => {
                    rewire_threshold(rewire.threshold, rewire.threshold_end, done, self.rewire_steps())
                }
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(settings: &[&str], documents: usize) -> Calendar {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        Calendar::new(&Config::with_settings(&settings).unwrap(), documents)
    }

    /// Rewirings of the reference's configs, counted from its loop (spec §3.4), with the set sizes of its table.
    #[test]
    fn rewirings_of_the_paper() {
        let count = |documents, batch: usize, epochs: u32, interval: u64| {
            let settings = [
                format!("train.batch_size={batch}"),
                format!("train.epochs={epochs}"),
                format!("rewire.interval={interval}"),
            ];
            calendar(&settings.each_ref().map(String::as_str), documents).rewirings()
        };
        // LF-AmazonTitles-131K with label texts: 425,878 documents; 66 of 100 epochs.
        assert_eq!(count(425_878, 512, 100, 1000), 54);
        assert_eq!(count(14_146, 32, 100, 300), 97);
    }

    #[test]
    fn a_partial_batch_is_a_step_and_rewiring_ends() {
        let settings = ["train.batch_size=4", "train.accumulate=2", "train.epochs=3", "rewire.interval=2"];
        let calendar = calendar(&settings, 17);
        assert_eq!((calendar.steps_per_epoch, calendar.total_steps(), calendar.rewirings()), (3, 9, 1));
        let config = Config::with_settings(&settings.map(str::to_owned)).unwrap();
        let pruned: Vec<bool> = (1..=9).map(|done| calendar.prune_after(done, &config).is_some()).collect();
        assert_eq!(pruned, [false, true, false, false, false, false, false, false, false]);
    }
    /// Four rewirings in eight steps: ½ · (1 + cos(π · t / 8)) by hand.
    #[test]
    fn the_fraction_follows_its_cosine() {
        let settings = ["train.batch_size=4", "train.epochs=4", "rewire.interval=2", "rewire.until=1"];
        for (more, want) in [
            ("rewire.fraction_schedule=constant", [0.4; 4]),
            ("rewire.fraction_schedule=cosine", [0.341_421_356, 0.2, 0.058_578_644, 0.0]),
        ] {
            let settings: Vec<String> =
                settings.into_iter().chain(["rewire.fraction=0.4", more]).map(str::to_owned).collect();
            let config = Config::with_settings(&settings).unwrap();
            let calendar = Calendar::new(&config, 8);
            let pruned: Vec<f64> = (1..=8)
                .filter_map(|done| match calendar.prune_after(done, &config) {
                    Some(Prune::Fraction(fraction)) => Some(fraction),
                    _ => None,
                })
                .collect();
            assert!(
                pruned.len() == 4 && pruned.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-8),
                "{pruned:?}"
            );
        }
    }
}
