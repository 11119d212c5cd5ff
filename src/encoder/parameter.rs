//! Trained tensors: values, gradient, optimizer states, starting numbers.

use crate::device::{Buffer, Device, Recording, Slice};
use crate::error::Result;
use crate::kernels::storage::{Rounding, StateStorage, Storage};
use crate::kernels::{embedding_update, optimizer_step};
use crate::optimize::{Rates, Rule};
use crate::random::{Purpose, unit, words};

/// A trained tensor with its optimizer states.
#[derive(Clone)]
pub struct Parameter {
    /// Name in the model file.
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// Values, f32.
    pub values: Buffer,
    /// First optimizer state, if the rule has one.
    pub first: Buffer,
    /// Second optimizer state, if the rule has one.
    pub second: Buffer,
    /// What its states are; none: it is never trained.
    pub states: Option<States>,
}

/// The optimizer states of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States {
    /// The update rule that they are for.
    pub rule: Rule,
    /// How they are stored: f32 or bf16.
    pub moments: Storage,
}

impl Parameter {
    /// A tensor of zeros with its states; none: it is never trained.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when it does not fit.
    pub fn allocate(
        device: &Device,
        name: String,
        shape: Vec<usize>,
        states: Option<States>,
    ) -> Result<Self> {
        let count = shape.iter().product::<usize>();
        let bytes = count as u64 * 4;
        let state = |number| match states {
            Some(States { rule, moments }) if rule.states() >= number => {
                (count.div_ceil(moments.per_word()) * 4) as u64
            }
            _ => 0,
        };
        Ok(Self {
            values: device.allocate(&name, bytes)?,
            first: device.allocate(&format!("first moment of {name}"), state(1))?,
            second: device.allocate(&format!("second moment of {name}"), state(2))?,
            name,
            shape,
            states,
        })
    }

    /// Records one step by `gradient` of the same shape. `number`: its place among the tensors that are rounded with this
    /// seed. Neither norms nor biases decay, whatever their names: only matrices do.
    pub(super) fn record_step(
        &self,
        recording: &mut Recording,
        gradient: &Slice,
        rates: Rates,
        (rounding, number): (Rounding, usize),
    ) {
        let Some(States { rule, moments }) = self.states else { return };
        let rates = if self.shape.len() == 2 { rates } else { rates.without_decay() };
        let [values, first, second] = [&self.values, &self.first, &self.second].map(Slice::from);
        let states = StateStorage { moments, rounding, tensor: number as u32 };
        let bindings = [gradient, &values, &first, &second];
        recording.launch(optimizer_step::launch(self.len(), rule, rates, states, bindings));
    }

    /// Records one step of an embedding table [V, H], whose gradient [U, H] belongs to the rows `unique_tokens` \[U\].
    pub(super) fn record_table_step(
        &self,
        recording: &mut Recording,
        [gradient, unique_tokens]: [&Slice; 2],
        unique: usize,
        rates: Rates,
        (rounding, number): (Rounding, usize),
    ) {
        let Some(States { rule, moments }) = self.states else { return };
        let [vocabulary, hidden] = [self.shape[0], self.shape[1]];
        let [values, first, second] = [&self.values, &self.first, &self.second].map(Slice::from);
        let states = StateStorage { moments, rounding, tensor: number as u32 };
        let bindings = [gradient, unique_tokens, &values, &first, &second];
        recording.launch(embedding_update::launch(vocabulary, hidden, unique, rule, rates, states, bindings));
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Overwrites the values.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn write(&self, device: &Device, values: &[f32]) -> Result<()> {
        assert_eq!(values.len(), self.len(), "values of {}", self.name);
        device.write(&self.values, 0, bytemuck::cast_slice(values))
    }
}

/// `count` normal numbers (Box–Muller) of a stream of the seed.
#[must_use]
pub(super) fn normal(seed: u64, stream: u32, count: usize, deviation: f32) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 3);
    for i in 0..count.div_ceil(4) {
        let words = words(seed, Purpose::EncoderInit, 0, i as u32, stream);
        for pair in words.chunks_exact(2) {
            // 1 - u lies in (0, 1], so that its logarithm is finite.
            let radius = (-2.0 * (1.0 - f64::from(unit(pair[0]))).ln()).sqrt();
            let (sine, cosine) = (std::f64::consts::TAU * f64::from(unit(pair[1]))).sin_cos();
            values.extend([(radius * cosine) as f32 * deviation, (radius * sine) as f32 * deviation]);
        }
    }
    values.truncate(count);
    values
}
