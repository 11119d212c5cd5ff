//! Floor 3: the model put together, the training loop, checkpoints, evaluation and prediction with a run.

mod assess;
mod auxiliary;
mod build_encoder;
mod calendar;
mod checkpoint;
mod crossing;
mod devices;
mod documents;
mod dry_run;
mod encoder_source;
mod feed;
mod grouping;
mod heads;
mod host_memory;
mod model;
mod model_folder;
mod parameter_counts;
mod plan;
mod purposes;
mod row_order;
mod run_folder;
mod schedules;
mod selection;
mod sizes;
mod step;
mod stored;
mod text_encoder;
mod trainer;

pub use assess::{Assessment, assess, judge, propensities};
pub use auxiliary::{auxiliary_cluster_count, auxiliary_clusters};
pub use build_encoder::micro_batch;
pub use calendar::Calendar;
pub use devices::Devices;
pub use dry_run::{
    AuxiliaryCourse, DryRun, EvaluationCourse, Parameters, RateCourse, RewiringCourse, held_out_documents,
    label_texts, prune_rule,
};
pub use encoder_source::{EncoderSource, special_tokens};
pub use feed::{Fed, Feed, FeedSizes};
pub use grouping::row_order;
pub use host_memory::HostSizes;
pub use model::Model;
pub use model_folder::{LoadedModel, ModelInfo, load_model, model_labels};
pub use parameter_counts::{ParameterCounts, parameter_counts};
pub use plan::{Plan, Purpose, megabytes, process_peak, sizes_without_data};
pub use row_order::{RankedLabels, RowOrder};
pub use run_folder::{RunFolder, Start};
pub use schedules::Schedules;
pub use sizes::{AuxiliarySizes, EncoderSizes, ModelSizes, check_run, model_sizes};
pub use step::{StepLosses, StepOutcome, TrainedBatch};
pub use text_encoder::{TextEncoder, no_text_encoder};
pub use trainer::{Event, Finished, TrainOptions, train};
