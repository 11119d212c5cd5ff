//! The training loop; what it does to connections between two steps is in `trainer/rewiring.rs`.

mod rewiring;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::assess::{Assessment, assess, propensities, training_counts};
use super::auxiliary::auxiliary_clusters;
use super::calendar::Calendar;
use super::checkpoint::{self, Progress};
use super::devices::Devices;
use super::encoder_source::EncoderSource;
use super::grouping::row_order;
use super::host_memory::HostSizes;
use super::model::Model;
use super::model_folder::{ModelInfo, write_description, write_weights};
use super::plan::{Plan, process_peak};
use super::run_folder::RunFolder;
use super::schedules::Schedules;
use super::selection;
use super::sizes::{evaluated_split, model_sizes};
use super::step::StepOutcome;
use crate::classifier::RewireCounts;
use crate::config::Config;
use crate::data::clusters::ClusterProgress;
use crate::data::{Batch, Dataset, LabelClusters, epoch_order};
use crate::error::{Error, Result};
use crate::evaluate::{Filter, Metrics};

/// Steps that may be on their way before their losses are waited for.
const STEPS_IN_FLIGHT: usize = 2;

/// What happens during training, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run begins, or goes on after `step` steps.
    Started {
        /// Its counts.
        calendar: &'a Calendar,
        /// Steps done before.
        step: u64,
        /// What the device's buffers will take at most.
        planned_bytes: u64,
        /// What the process will take at most: what the host holds, and the buffers that lie in its memory.
        planned_process_bytes: u64,
    },
    /// Labels are put into clusters, before the run begins.
    Clusters(ClusterProgress),
    /// A step's loss is known.
    Step {
        /// Steps done.
        step: u64,
        /// Documents done in this epoch.
        documents: usize,
        /// Mean loss of this epoch so far.
        loss: f64,
    },
    /// Connections were rewired.
    Rewired {
        /// Steps done.
        step: u64,
        /// What was done.
        counts: RewireCounts,
    },
    /// Documents are encoded for connections to follow ([`Model::follow_documents`]).
    FollowingDocuments {
        /// So many.
        done: usize,
        /// Of so many.
        total: usize,
    },
    /// Documents of an evaluation are done.
    Evaluating {
        /// So many.
        done: usize,
        /// Of so many.
        total: usize,
    },
    /// An epoch is over.
    Epoch {
        /// Its number, from 1.
        epoch: u32,
        /// Mean loss.
        loss: f64,
        /// Training documents a second.
        documents_per_second: f64,
        /// Seconds of training, without evaluation.
        seconds: f64,
        /// Metrics and the split they belong to, if it was evaluated.
        metrics: Option<(&'a Metrics, &'static str)>,
        /// Whether this is the best model so far on dev.
        best: bool,
    },
    /// The run ends, or has ended before, because dev gained no more.
    EarlyStop {
        /// The last epoch, from 1.
        epoch: u32,
        /// Evaluations on dev since the last gain.
        evaluations: u32,
    },
}

/// What a run needs besides its config.
pub struct TrainOptions<'a> {
    /// Where it runs.
    pub devices: Devices<'a>,
    /// What to do.
    pub config: &'a Config,
    /// What the encoder is made of.
    pub encoder: &'a EncoderSource,
    /// On what.
    pub dataset: &'a Dataset,
    /// Where everything is written.
    pub folder: &'a RunFolder,
    /// Go on from the folder's checkpoint, if there is one.
    pub resume: bool,
    /// Becomes true when the run shall stop.
    pub stop: &'a AtomicBool,
    /// Upper limit of labels in a block; 0: what the device allows.
    pub max_block_rows: usize,
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// Metrics of the last evaluation and their split.
    pub metrics: Option<(Metrics, &'static str)>,
    /// Optimizer steps.
    pub steps: u64,
    /// Mean loss of the last epoch.
    pub loss: f64,
}

/// What an epoch took here; after a resume, since then.
struct Spent {
    seconds: f64,
    documents: u64,
}

struct Trainer<'a> {
    o: TrainOptions<'a>,
    calendar: Calendar,
    schedules: Schedules,
    /// Of the auxiliary objective, if there is one.
    clusters: Option<LabelClusters>,
    model: Model,
    info: ModelInfo,
    progress: Progress,
    propensities: Assessment,
    filter: Filter,
    planned_bytes: u64,
    planned_process_bytes: u64,
    /// Steps whose losses are not known yet.
    in_flight: VecDeque<(u64, StepOutcome)>,
}

/// Trains until the last epoch, until dev gains no more (`train.patience`), a stop, or an error.
///
/// # Errors
/// [`Error::Diverged`] when a loss is not finite (the last checkpoint stays); [`Error::Interrupted`] after a stop and
/// its checkpoint; [`Error::Device`], [`Error::Io`], [`Error::Artefact`].
pub fn train(options: TrainOptions<'_>, observer: &mut dyn FnMut(Event<'_>)) -> Result<Finished> {
    let mut trainer = Trainer::new(options, observer)?;
    observer(Event::Started {
        calendar: &trainer.calendar,
        step: trainer.progress.step,
        planned_bytes: trainer.planned_bytes,
        planned_process_bytes: trainer.planned_process_bytes,
    });
    trainer.run(observer)
}

impl<'a> Trainer<'a> {
    fn new(o: TrainOptions<'a>, observer: &mut dyn FnMut(Event<'_>)) -> Result<Self> {
        let (config, dataset) = (o.config, o.dataset);
        let calendar = Calendar::new(config, dataset.train.len());
        let schedules = Schedules::new(config, &calendar);
        let clusters =
            auxiliary_clusters(config, dataset, &mut |progress| observer(Event::Clusters(progress)))?;
        let labels = dataset.labels.len();
        let vocabulary = dataset.tokenizer.vocabulary() as usize;
        let evaluated = evaluated_split(config, dataset)?;
        let sizes = model_sizes(config, o.encoder, dataset, o.max_block_rows)?;
        let plan =
            Plan::new(o.devices, config, sizes)?.with_host(config, HostSizes::of_dataset(config, dataset)?);
        plan.check()?;
        let path = o.folder.checkpoint_path();
        let resumes = o.resume && path.is_file();
        // Tables of all labels are made before the model is there: what making them takes is free again by then.
        let (train_frequency, counted) = training_counts(config, dataset);
        let train_frequency: Arc<[u32]> = train_frequency.into();
        let mut report = |progress| observer(Event::Clusters(progress));
        let order = if resumes { None } else { row_order(config, dataset, &mut report)? };
        let mut model = Model::new(o.devices, config, sizes)?;
        let e = &config.evaluate;
        let documents = dataset.train.len() as u64;
        let propensities =
            propensities(Arc::clone(&train_frequency), counted, e.propensity_a, e.propensity_b);
        let info = ModelInfo {
            config: config.clone(),
            labels: dataset.labels.clone(),
            tokenizer: dataset.tokenizer.json().to_owned(),
            vocabulary,
            train_frequency,
            train_documents: counted,
        };
        let data = format!(
            "{documents} documents with digest {:016x}, {labels} labels with digest {:016x}, vocabulary {vocabulary}",
            dataset.train.digest(),
            dataset.labels.digest()
        );
        let mut progress = Progress { data: data.clone(), ..Progress::default() };
        if resumes {
            progress = checkpoint::load(&path, o.devices, &mut model, &data)?;
        } else {
            model.row_order = order;
            o.encoder.load(o.devices.encoder, config, model.encoder.parameters())?;
        }
        o.folder.cut_log(progress.log_lines)?;
        o.folder.write_devices(o.devices, &model)?;
        o.folder.write_plan(&plan)?;
        write_description(&o.folder.last_model(), &model, &info)?;
        let filter = if config.evaluate.filter && matches!(evaluated, Some((_, "test"))) {
            Filter::new(dataset.filter.clone())
        } else {
            Filter::default()
        };
        Ok(Self {
            calendar,
            schedules,
            clusters,
            model,
            info,
            progress,
            propensities,
            filter,
            planned_bytes: plan.peak_bytes(),
            planned_process_bytes: plan.process_bytes(o.devices),
            in_flight: VecDeque::new(),
            o,
        })
    }

    fn run(&mut self, observer: &mut dyn FnMut(Event<'_>)) -> Result<Finished> {
        let mut finished = Finished { metrics: None, steps: self.progress.step, loss: f64::NAN };
        let total = self.calendar.total_steps();
        while self.progress.step < total && !self.progress.selection.stopped {
            let epoch = (self.progress.step / self.calendar.steps_per_epoch) as u32;
            self.follow_documents_if_due(epoch, observer)?;
            let spent = self.run_epoch(epoch, observer)?;
            finished = self.end_epoch(epoch, spent, observer)?;
        }
        if self.progress.selection.stopped {
            let epoch = (self.progress.step / self.calendar.steps_per_epoch) as u32;
            observer(Event::EarlyStop { epoch, evaluations: self.progress.selection.waited });
        }
        Ok(finished)
    }

    /// Steps to the end of the epoch.
    fn run_epoch(&mut self, epoch: u32, observer: &mut dyn FnMut(Event<'_>)) -> Result<Spent> {
        let began = Instant::now();
        let before = self.progress.documents;
        let dataset = self.o.dataset;
        let order = epoch_order(self.o.config.train.seed, epoch, dataset.train.len());
        let done_before = (self.progress.step % self.calendar.steps_per_epoch) as usize;
        let every = self.o.config.train.checkpoint_every;
        for documents in order.chunks(self.calendar.step_documents).skip(done_before) {
            if self.o.stop.load(Ordering::Relaxed) {
                self.drain(0, observer)?;
                self.save_checkpoint()?;
                return Err(Error::Interrupted(format!(
                    "stopped after step {}; the checkpoint in {} is up to date",
                    self.progress.step,
                    self.o.folder.path().display()
                )));
            }
            let mut batch = Batch::assemble(&dataset.train, documents, self.model.micro_batch);
            let step = self.progress.step;
            if let Some(clusters) = &self.clusters
                && self.schedules.auxiliary_weight(step).is_some()
            {
                batch.find_clusters(clusters);
            }
            let outcome =
                self.model.train_step(self.o.devices, self.o.config, &self.schedules, &batch, step)?;
            self.progress.step += 1;
            let trained = outcome.batch();
            self.in_flight.push_back((self.progress.step, outcome));
            self.drain(STEPS_IN_FLIGHT, observer)?;
            self.rewire_if_due(&trained, observer)?;
            // At its end, an epoch saves what it is without its sums: a run that goes on must find them still there.
            let ended = self.progress.step.is_multiple_of(self.calendar.steps_per_epoch);
            if every > 0 && self.progress.step.is_multiple_of(every) && !ended {
                self.drain(0, observer)?;
                self.save_checkpoint()?;
            }
        }
        self.drain(0, observer)?;
        Ok(Spent { seconds: began.elapsed().as_secs_f64(), documents: self.progress.documents - before })
    }

    /// Collects losses until at most `left` steps are on their way.
    fn drain(&mut self, left: usize, observer: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        while self.in_flight.len() > left {
            let Some((step, outcome)) = self.in_flight.pop_front() else { break };
            let documents = outcome.documents;
            let losses = outcome.losses(self.o.devices)?;
            for (name, loss) in [("loss", Some(losses.main)), ("auxiliary loss", losses.auxiliary)] {
                if let Some(loss) = loss.filter(|loss| !loss.is_finite()) {
                    return Err(diverged(&format!("the {name} became {loss}"), step));
                }
            }
            self.progress.loss_sum += f64::from(losses.main) * documents as f64;
            self.progress.auxiliary_loss_sum += f64::from(losses.auxiliary.unwrap_or(0.0)) * documents as f64;
            self.progress.documents += documents as u64;
            let loss = self.progress.loss_sum / self.progress.documents as f64;
            observer(Event::Step { step, documents: self.progress.documents as usize, loss });
        }
        Ok(())
    }

    fn end_epoch(
        &mut self,
        epoch: u32,
        spent: Spent,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<Finished> {
        let last = epoch + 1 == self.calendar.epochs;
        let every = self.o.config.train.evaluate_every;
        let due = last || (every > 0 && (epoch + 1).is_multiple_of(every));
        let evaluated = if due { self.evaluate(observer)? } else { None };
        let loss = self.progress.loss_sum / self.progress.documents.max(1) as f64;
        let seconds = spent.seconds;
        let documents_per_second = spent.documents as f64 / seconds.max(1e-9);
        let best = match &evaluated {
            Some((metrics, split)) if selection::may_choose(split) => {
                self.progress.selection.judge(metrics, &self.o.config.train, last)
            }
            _ => false,
        };
        let [rewirings, pruned, pruned_again] = self.progress.rewired;
        let last_step = self.progress.step - 1;
        let mut line = json!({
            "event": "epoch", "epoch": epoch + 1, "step": self.progress.step, "loss": loss,
            "encoder_lr": self.schedules.encoder.learning_rate_at(last_step),
            "classifier_lr": self.schedules.classifier.learning_rate_at(last_step),
            "rewirings": rewirings, "pruned": pruned, "pruned_again": pruned_again,
            "seconds": seconds, "documents_per_second": documents_per_second,
        });
        // The objective ends with an epoch: it was on in all steps of this one, or in none.
        if let (Some(weight), Some(object)) =
            (self.schedules.auxiliary_weight(last_step), line.as_object_mut())
        {
            let auxiliary = self.progress.auxiliary_loss_sum / self.progress.documents.max(1) as f64;
            object.insert("auxiliary_loss".into(), auxiliary.into());
            object.insert("auxiliary_weight".into(), weight.into());
        }
        if let (Some((metrics, split)), Some(object)) = (&evaluated, line.as_object_mut()) {
            object.insert("split".into(), (*split).into());
            object.insert("best".into(), best.into());
            object.extend(metrics.json_object());
        }
        self.o.folder.log(&line)?;
        if let Some(line) = self.progress.selection.stop_line(self.o.config, epoch + 1, self.progress.step) {
            self.o.folder.log(&line)?;
        }
        if best {
            write_description(&self.o.folder.best_model(), &self.model, &self.info)?;
            self.save_model(&self.o.folder.best_model())?;
        }
        self.save_model(&self.o.folder.last_model())?;
        self.progress.loss_sum = 0.0;
        self.progress.auxiliary_loss_sum = 0.0;
        self.progress.documents = 0;
        self.progress.rewired = [0; 3];
        self.save_checkpoint()?;
        self.o.folder.write_memory(self.o.devices.peak_bytes(), process_peak())?;
        observer(Event::Epoch {
            epoch: epoch + 1,
            loss,
            documents_per_second,
            seconds,
            metrics: evaluated.as_ref().map(|(metrics, split)| (metrics, *split)),
            best,
        });
        Ok(Finished { metrics: evaluated, steps: self.progress.step, loss })
    }

    fn evaluate(&mut self, observer: &mut dyn FnMut(Event<'_>)) -> Result<Option<(Metrics, &'static str)>> {
        let Some((split, name)) = evaluated_split(self.o.config, self.o.dataset)? else { return Ok(None) };
        let total = split.len();
        let metrics = assess(
            self.o.devices,
            &self.model,
            split,
            &self.filter,
            self.o.config.evaluate.batch_size,
            &self.propensities,
            &mut |done| observer(Event::Evaluating { done, total }),
        )?;
        Ok(Some((metrics, name)))
    }

    fn save_checkpoint(&mut self) -> Result<()> {
        self.progress.log_lines = self.o.folder.log_lines()?;
        let path = self.o.folder.checkpoint_path();
        checkpoint::save(&path, self.o.devices, &self.model, &self.progress)
            .map_err(|error| self.in_step(error))
    }

    fn save_model(&self, folder: &Path) -> Result<()> {
        write_weights(folder, self.o.devices, &self.model, &self.info).map_err(|error| self.in_step(error))
    }

    /// Adds the step to what was found to have diverged.
    fn in_step(&self, error: Error) -> Error {
        match error {
            Error::Diverged(what) => diverged(&what, self.progress.step),
            other => other,
        }
    }
}

fn diverged(what: &str, step: u64) -> Error {
    Error::Diverged(format!(
        "{what} at step {step}: try a smaller learning rate (optimizer.classifier.lr, optimizer.encoder.lr) or a longer \
         warm-up; the last checkpoint is untouched"
    ))
}
