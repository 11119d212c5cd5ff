//! Features rounded to f16 for the classifier's step: see `shaders/half_features.wgsl`.

use rayon::prelude::*;

use super::storage::Storage;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "half_features",
    source: include_str!("../../shaders/half_features.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || [false, true].map(constants).to_vec(),
};

fn constants(packed: bool) -> Constants {
    vec![("PACKED", u32::from(packed)), ("WORKGROUP", WORKGROUP)]
}

/// Rounds `x`, `count` numbers (an even count), to the nearest f16: `packed` into `halves` [count / 2], two in a word, else as
/// f32 into `halves` \[count\].
pub fn launch(count: usize, packed: bool, x: &Slice, halves: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: constants(packed),
        bindings: vec![x.clone(), halves.clone()],
        params: words_of(&((count / 2) as u32)),
        workgroups: workgroups(count / 2),
        work: count as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let pairs = call.params::<u32>() as usize;
    let (x, packed) = (&call.read::<f32>(0)[..2 * pairs], call.constant("PACKED") == 1);
    let halves = call.write::<u32>(1);
    let nearest = |x: f32| Storage::F16.nearest(x);
    if packed {
        let words = halves.par_iter_mut().zip(x.par_chunks_exact(2));
        words.for_each(|(word, x)| *word = nearest(x[0]) | nearest(x[1]) << 16);
    } else {
        let words = halves.par_iter_mut().zip(x);
        words.for_each(|(word, x)| *word = Storage::F16.decode(nearest(*x)).to_bits());
    }
}
