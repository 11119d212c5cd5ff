//! A layer's numbers as plain vectors: for tests, tools, and models made elsewhere.

use super::fan_in::FanIn;
use crate::device::Device;
use crate::error::{Error, Result};

/// Weights [L, F], indices [L / group, F] and biases \[L\], row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// [L, F].
    pub weights: Vec<f32>,
    /// [L / group, F].
    pub indices: Vec<u16>,
    /// \[L\].
    pub bias: Vec<f32>,
}

impl FanIn {
    /// Overwrites the layer, weights rounded to the nearest that its storage has; indices may repeat within a row, their weights then add. Optimizer states stay.
    ///
    /// # Errors
    /// [`Error::Usage`] when a length does not fit the layer, an index names no feature or lies outside its slot's stratum;
    /// [`Error::Device`].
    pub fn set_contents(&self, device: &Device, contents: &Contents) -> Result<()> {
        let o = &self.options;
        let wanted = [o.labels * o.fan_in, o.labels.div_ceil(o.group) * o.fan_in, o.labels];
        let given = [contents.weights.len(), contents.indices.len(), contents.bias.len()];
        if given != wanted {
            return Err(Error::Usage(format!(
                "the layer needs {wanted:?} weights, indices and biases, not {given:?}"
            )));
        }
        if let Some(index) = contents.indices.iter().find(|index| usize::from(**index) >= o.features) {
            return Err(Error::Usage(format!("index {index} names none of the {} features", o.features)));
        }
        if let Some(wrong) = o.precision.indices.misplaced(o.fan_in, 0, &contents.indices) {
            return Err(Error::Usage(format!("indices: {wrong}")));
        }
        for block in &self.blocks {
            let shape = block.shape;
            let first_row = shape.first_label - self.first_label();
            let weights = &contents.weights[first_row * o.fan_in..][..shape.rows * o.fan_in];
            let packed = o.precision.weights.pack(weights, o.fan_in, shape.weight_words());
            device.write(&block.weights, 0, bytemuck::cast_slice(&packed))?;
            let bias = &contents.bias[first_row..][..shape.rows];
            device.write(&block.bias, 0, bytemuck::cast_slice(bias))?;
            let first = first_row / o.group * o.fan_in;
            let packed = shape.indices().pack(&contents.indices[first..][..shape.index_rows() * o.fan_in]);
            device.write(&block.indices, 0, bytemuck::cast_slice(&packed))?;
        }
        self.rebuild_inverted(device)
    }

    /// Reads the layer back.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost.
    pub fn contents(&self, device: &Device) -> Result<Contents> {
        let fan_in = self.options.fan_in;
        let mut out = Contents::default();
        for block in &self.blocks {
            let shape = block.shape;
            let words = shape.weight_words();
            let packed = device.read_vec::<u32>(&block.weights, shape.rows * words)?;
            out.weights.extend(self.options.precision.weights.unpack(&packed, fan_in, words));
            out.bias.extend(device.read_vec::<f32>(&block.bias, shape.rows)?);
            let packed = device.read_vec::<u32>(&block.indices, shape.index_rows() * shape.index_words())?;
            out.indices.extend(shape.indices().unpack(&packed));
        }
        Ok(out)
    }

    /// The optimizer's states as (first of weights, second of weights, first of biases, second of biases); empty
    /// where the rule keeps none.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost.
    pub fn states(&self, device: &Device) -> Result<[Vec<f32>; 4]> {
        let mut out: [Vec<f32>; 4] = Default::default();
        for block in &self.blocks {
            let (shape, moments) = (block.shape, self.options.precision.moments);
            let (words, rule) = (shape.moment_words(), self.options.rule);
            let [first, second, bias_first, bias_second] = &mut out;
            for (out, buffer, number) in [(first, &block.first, 1), (second, &block.second, 2)] {
                if rule.states() >= number {
                    let packed = device.read_vec::<u32>(buffer, shape.rows * words)?;
                    out.extend(moments.unpack(&packed, shape.fan_in, words));
                }
            }
            for (out, buffer, number) in
                [(bias_first, &block.bias_first, 1), (bias_second, &block.bias_second, 2)]
            {
                if rule.states() >= number {
                    out.extend(device.read_vec::<f32>(buffer, shape.rows)?);
                }
            }
        }
        Ok(out)
    }
}
