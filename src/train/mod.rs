//! Floor 3: the model put together, the training loop, checkpoints, evaluation and prediction with a run.

mod assess;
mod calendar;
mod checkpoint;
mod encoder_source;
mod feed;
mod model;
mod model_folder;
mod plan;
mod run_folder;
mod sizes;
mod stored;
mod text_encoder;
mod trainer;

pub use assess::{Assessment, assess, propensities};
pub use calendar::Calendar;
pub use encoder_source::{EncoderSource, special_tokens};
pub use feed::{Fed, Feed, FeedSizes};
pub use model::{EncoderSizes, Model, ModelSizes, StepOutcome, micro_batch};
pub use model_folder::{LoadedModel, ModelInfo, load_model};
pub use plan::{Plan, Purpose, megabytes, process_peak, sizes_without_data};
pub use run_folder::{RunFolder, Start};
pub use sizes::{check_run, model_sizes};
pub use text_encoder::{TextEncoder, no_text_encoder};
pub use trainer::{Event, Finished, TrainOptions, train};
