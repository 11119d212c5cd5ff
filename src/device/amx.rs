//! The matrix unit of x86 processors from Sapphire Rapids on (AMX): products of f32 from products of bf16.
//!
//! An f32 is the sum of three bf16 exactly: its leading eight bits, the next eight, the rest, each rounded to nearest. Of
//! the nine products of two such sums the six largest are added up in f32 by the unit. What is left out is below 2⁻²⁴ of
//! a product, as much as rounding it once: such a product is as good as one of f32.
//!
//! The unit multiplies tiles of 16 rows of 64 bytes. Operands lie in [`Slab`]s, each 32 × 32 numbers in the order
//! in which the unit wants them; see `slab` for the ways from one order to the other.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod reorder;
mod slab;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod unit;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[path = "amx/no_unit.rs"]
mod unit;

pub(crate) use slab::{Row, SIDE, Slab, slabs};
pub(crate) use unit::Unit;

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests;
