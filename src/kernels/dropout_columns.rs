//! Dropout of the features, transposed on the way: see `shaders/dropout_columns.wgsl`.

use rayon::prelude::*;

use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};
use crate::random::{Purpose, words};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    pub(super) batch: u32,
    pub(super) features: u32,
    pub(super) columns: u32,
    drop_below: u32,
    scale: f32,
    step: u32,
    seed_low: u32,
    seed_high: u32,
}

/// Which elements a dropout keeps: a function of the seed, the step and the element's place.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share of the elements that become zero, in [0, 1).
    pub probability: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Optimizer step, from 0.
    pub step: u32,
}

impl Dropout {
    /// No dropout, as in evaluation.
    pub const OFF: Self = Self { probability: 0.0, seed: 0, step: 0 };

    pub(super) fn params(self, batch: usize, features: usize) -> Params {
        Params {
            batch: batch as u32,
            features: features as u32,
            columns: columns_of(batch) as u32,
            drop_below: (f64::from(self.probability) * 4_294_967_296.0) as u32,
            scale: (1.0 / (1.0 - f64::from(self.probability))) as f32,
            step: self.step,
            seed_low: self.seed as u32,
            seed_high: (self.seed >> 32) as u32,
        }
    }
}

impl Params {
    /// What element number `element` is multiplied by.
    #[inline]
    pub(super) fn factors(&self, element: u32) -> [f32; 4] {
        if self.drop_below == 0 {
            return [1.0; 4];
        }
        let seed = u64::from(self.seed_low) | u64::from(self.seed_high) << 32;
        let words = words(seed, Purpose::Dropout, self.step, element / 4, 0);
        words.map(|word| if word < self.drop_below { 0.0 } else { self.scale })
    }
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "dropout_columns",
    source: include_str!("../../shaders/dropout_columns.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `x` [D, columns] from `features` [B, D].
pub fn launch(batch: usize, features: usize, dropout: Dropout, from: &Slice, x: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![from.clone(), x.clone()],
        params: words_of(&dropout.params(batch, features)),
        workgroups: workgroups(features * columns_of(batch)),
        work: (features * batch * 40) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (batch, features, columns) = (p.batch as usize, p.features as usize, p.columns as usize);
    let from = call.read::<f32>(0);
    let x = &mut call.write::<f32>(1)[..features * columns];
    // Masked in the order of the features, four at a time as the generator gives them, then transposed.
    let mut kept = vec![0.0_f32; batch * features];
    kept.par_chunks_mut(1024).zip(from.par_chunks(1024)).enumerate().for_each(|(chunk, (kept, from))| {
        for (i, (kept, from)) in kept.chunks_mut(4).zip(from.chunks(4)).enumerate() {
            let factors = p.factors((chunk * 1024 + i * 4) as u32);
            kept.iter_mut().zip(from).zip(factors).for_each(|((kept, from), factor)| {
                *kept = if factor == 0.0 { 0.0 } else { from * factor };
            });
        }
    });
    x.par_chunks_mut(columns).enumerate().for_each(|(d, x)| {
        x[batch..].fill(0.0);
        x[..batch].iter_mut().enumerate().for_each(|(b, x)| *x = kept[b * features + d]);
    });
}
