//! Files that regrow writes itself: whole or not at all, and checked when read again.

mod atomic;
mod tensors;

pub use atomic::write_atomically;
pub use tensors::{Dtype, TensorFile, TensorSpec, TensorView, write_tensors};
