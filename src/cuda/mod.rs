//! Floor 0: NVIDIA GPUs through CUDA, the third engine. It runs the recordings of the classifier; the encoder stays on
//! another device. `driver.rs` is the only file that calls the driver.
//!
//! Every kernel of the classifier has a CUDA form of the same name, with the same bindings and the same parameters, in
//! `src/cuda/kernels/*.cu`; the constants that select a variant of a shader are arguments here. `fan_in_step` has a second
//! form, for groups of labels on matrix units.

mod compiled;
#[expect(unsafe_code, reason = "the driver's interface is one of raw pointers; this file makes it safe")]
mod driver;
mod engine;
mod groups;
mod kernels;
mod source;
mod staging;

pub(crate) use engine::{CudaEngine, CudaMemory, InFlight};

use crate::error::{Error, Result};
use driver::Card;

/// What `regrow devices` tells about an NVIDIA GPU.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CudaSummary {
    /// What to give to `--device`: `cuda:` and a number.
    pub device: String,
    /// Name as the driver gives it.
    pub name: String,
    /// Compute capability, `major.minor`.
    pub capability: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl CudaSummary {
    fn of((number, card): (usize, &Card)) -> Self {
        Self {
            device: format!("cuda:{number}"),
            name: card.name.clone(),
            capability: format!("{}.{}", card.capability[0], card.capability[1]),
            memory_bytes: card.memory,
        }
    }
}

/// The NVIDIA GPUs, in the order of their numbers.
///
/// # Errors
/// [`Error::Device`] when there is no driver, or one that is too old.
pub fn list_cuda_devices() -> Result<Vec<CudaSummary>> {
    driver::start()?;
    Ok(Card::list()?.iter().enumerate().map(CudaSummary::of).collect())
}

/// The card that `wanted` names, `cuda` or `cuda:NUMBER`, and the version of the driver.
fn find(wanted: &str) -> Result<(Card, i32)> {
    let number = match wanted.to_ascii_lowercase().strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|number| number.parse::<usize>().ok()),
        None => None,
    };
    let number = number
        .ok_or_else(|| Error::Device(format!("`{wanted}` names no CUDA device; write cuda:0, cuda:1, …")))?;
    let version = driver::start()?;
    let mut cards = Card::list()?;
    if number >= cards.len() {
        let names: Vec<String> =
            cards.iter().enumerate().map(|(i, card)| format!("cuda:{i} = {}", card.name)).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(Error::Device(format!("there is no cuda:{number}; CUDA devices: {there}")));
    }
    Ok((cards.swap_remove(number), version))
}
