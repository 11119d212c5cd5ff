//! Trained tensors: values, gradient, optimizer states, starting numbers.

use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::optimize::Rule;
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
}

impl Parameter {
    /// A tensor of zeros with the states of `rule`; none: it is never trained.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when it does not fit.
    pub fn allocate(device: &Device, name: String, shape: Vec<usize>, rule: Option<Rule>) -> Result<Self> {
        let bytes = shape.iter().product::<usize>() as u64 * 4;
        let states = rule.map_or(0, Rule::states);
        let state = |number| if states >= number { bytes } else { 0 };
        Ok(Self {
            values: device.allocate(&name, bytes)?,
            first: device.allocate(&format!("first moment of {name}"), state(1))?,
            second: device.allocate(&format!("second moment of {name}"), state(2))?,
            name,
            shape,
        })
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
