//! Gradients of the keys and of the values of attention: see `shaders/attention_key_value_gradient.wgsl`.

use rayon::prelude::*;

use super::attention::{self, Attention};
use super::attention_query_gradient::{BINDINGS, Pairs};
use super::workgroups;
use crate::device::{Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "attention_key_value_gradient",
    source: include_str!("../../shaders/attention_key_value_gradient.wgsl"),
    bindings: &BINDINGS,
    twin,
    variants: || {
        let both = |constants: Constants| [false, true].map(|value| of_gradient(constants.clone(), value));
        attention::variants().into_iter().flat_map(both).collect()
    },
};

fn of_gradient(mut constants: Constants, value: bool) -> Constants {
    constants.push(("VALUE", u32::from(value)));
    constants
}

/// `dk` [T, H] from q, k, v, dout [T, H], lse, delta [T, heads] and offsets [B + 1].
pub fn keys(attention: Attention, inputs: [&Slice; 7], dk: &Slice) -> Launch {
    launch(attention, inputs, dk, false)
}

/// `dv` [T, H] from the same.
pub fn values(attention: Attention, inputs: [&Slice; 7], dv: &Slice) -> Launch {
    launch(attention, inputs, dv, true)
}

fn launch(attention: Attention, inputs: [&Slice; 7], gradient: &Slice, value: bool) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: of_gradient(attention::constants(attention.head_size as u32), value),
        bindings: inputs.into_iter().chain([gradient]).cloned().collect(),
        params: words_of(&attention.params()),
        workgroups: workgroups(attention.tokens * attention.heads),
        work: attention.work(if value { 2 } else { 3 }),
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let pairs = Pairs::of(call);
    let value = call.constant("VALUE") == 1;
    let (heads, size) = (pairs.p.heads as usize, pairs.p.head_size());
    let gradient = &mut call.write::<f32>(7)[..pairs.p.tokens as usize * heads * size];
    gradient.par_chunks_mut(size).enumerate().for_each(|(row, gradient)| {
        let (key, head) = (row / heads, row % heads);
        let document = pairs.document(key);
        gradient.fill(0.0);
        for query in document.clone() {
            let (kept, ds) = pairs.gradient(query, key, head, document.start);
            let (weight, tensor) = if value { (kept, pairs.dout) } else { (pairs.p.scale * ds, pairs.q) };
            let other = pairs.row(tensor, query * heads + head);
            gradient.iter_mut().zip(other).for_each(|(sum, other)| *sum += weight * other);
        }
    });
}
