//! The matrix unit of x86 processors from Sapphire Rapids on (AMX): products of bf16, added up in f32.
//!
//! The unit multiplies tiles of 16 rows of 64 bytes. Operands lie in [`Slab`]s, each 32 × 32 numbers in the order in
//! which the unit wants them; `reorder` has the ways from one order to the other.

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
