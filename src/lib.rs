//! regrow trains text classifiers with very many labels: an encoder, end to end with a fixed fan-in sparse output
//! layer that is rewired while it trains (SPARTEX, NeurIPS 2024), in WGSL on any GPU or on the CPU.
//!
//! The program `regrow` is a thin shell over this library. The rooms, from the ground up: [`device`] (buffers,
//! recordings, two engines, with the feature `cuda` a third), [`kernels`] (a launch and a CPU twin for each shader), [`data`], [`pretrained`],
//! [`encoder`], [`classifier`], [`optimize`], [`evaluate`] and [`files`], then [`train`], [`report`] and [`mod@bench`], then [`cli`].
//! `docs/architecture.md` draws the house.
//!
//! ```
//! use regrow::classifier::{FanIn, FanInOptions, Loss, Positives, Step, StepScale};
//! use regrow::device::{Device, DeviceOptions, Recording};
//! use regrow::kernels::columns_of;
//! use regrow::kernels::storage::Precision;
//! use regrow::optimize::{Optimizer, Rule, Schedule};
//!
//! # fn main() -> regrow::Result<()> {
//! // Six labels over four features, two connections each; one document, whose label is 5.
//! let device = Device::cpu(DeviceOptions::default())?;
//! let layer = FanIn::new(&device, FanInOptions {
//!     labels: 6, features: 4, fan_in: 2, group: 1, max_batch: 1, rule: Rule::Sgd,
//!     precision: Precision::default(), train_bias: true, init_scale: 0.1, bias_init: 0.0, seed: 7, max_block_rows: 0,
//!     inverted_index: Default::default(),
//! })?;
//! let optimizer = Optimizer {
//!     rule: Rule::Sgd, learning_rate: 0.5, weight_decay: 0.0, beta1: 0.0, beta2: 0.0, epsilon: 1e-8,
//!     schedule: Schedule::Constant { warmup: 0 },
//! };
//! // Features lie transposed, [D, columns], with the batch rounded up.
//! let columns = columns_of(1);
//! let mut x = vec![0.0_f32; 4 * columns];
//! (0..4).for_each(|d| x[d * columns] = 1.0);
//! let x = device.upload("x", &x)?.whole();
//! let dx = device.allocate("dx", x.bytes())?.whole();
//! let losses = device.allocate("losses", 16)?;
//! let positives = Positives { count: 1, pairs: device.upload("positives", &[5_u32, 0, 0, 0])?.whole() };
//! let scale = StepScale { gradient: 1.0, loss: 1.0, place: 0 };
//! let mut step = |number| -> regrow::Result<f32> {
//!     let mut recording = Recording::new();
//!     recording.clear(dx.clone());
//!     recording.clear(&losses);
//!     layer.record_step(&mut recording, &Step {
//!         batch: 1, loss: Loss::Bce, scale, step: number, rates: optimizer.rates(number),
//!         positives: &positives, x: &x, dx: &dx, losses: &losses.whole(),
//!     });
//!     device.submit(recording)?;
//!     Ok(device.read_vec::<f32>(&losses, 1)?[0])
//! };
//! let first = step(0)?;
//! let last = (1..20).map(&mut step).last().unwrap()?;
//! assert!(last < 0.1 * first);
//! # Ok(())
//! # }
//! ```

pub mod bench;
pub mod classifier;
pub mod cli;
pub mod config;
#[cfg(feature = "cuda")]
mod cuda;
pub mod data;
pub mod device;
pub mod encoder;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod kernels;
pub mod optimize;
pub mod pretrained;
pub mod random;
pub mod report;
pub mod train;

pub use error::{Error, Result};
