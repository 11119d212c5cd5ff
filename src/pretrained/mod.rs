//! Floor 2: where pretrained encoders come from. Knows files, not devices: the architecture in a `config.json`, the
//! weights in `model.safetensors`, model folders, the Hugging Face cache, and (feature `download`) the hub itself.
//!
//! ```no_run
//! use regrow::pretrained::{EncoderTensors, HubSettings, PretrainedModel, PretrainedWeights};
//!
//! # fn main() -> regrow::Result<()> {
//! let hub = HubSettings::from_env();
//! let id = "sentence-transformers/all-MiniLM-L6-v2";
//! let model = PretrainedModel::find(id, None, &hub, &mut |_| Ok(()))?;
//! let three_layers = model.architecture.first_layers(3)?;
//! let weights = PretrainedWeights::open(&model.folder, &three_layers, None)?;
//! for tensor in EncoderTensors::of(&three_layers).iter() {
//!     let numbers = weights.read(tensor)?;
//!     println!("{} {:?}: {} numbers", tensor.name, tensor.shape, numbers.len());
//! }
//! # Ok(())
//! # }
//! ```

mod architecture;
#[cfg(feature = "download")]
mod download;
mod folder;
#[cfg(feature = "download")]
mod http;
mod hub;
mod json;
mod model;
mod tensors;
mod weights;

pub use architecture::{Architecture, Family};
pub use folder::Pooling;
pub use hub::{Download, HubSettings};
pub use model::PretrainedModel;
pub use tensors::{EncoderTensor, EncoderTensors, TensorRole};
pub use weights::PretrainedWeights;
