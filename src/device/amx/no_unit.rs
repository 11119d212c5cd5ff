//! Other processors and systems: no unit.

use std::convert::Infallible;

use super::Slab;

/// There is none here.
pub(crate) struct Unit(Infallible);

impl Unit {
    /// None.
    pub(crate) fn of_this_cpu() -> Option<Self> {
        None
    }

    pub(crate) fn product(&self, _: &[Slab], _: &[Slab], _: &mut [f32], _: usize, _: bool) {
        match self.0 {}
    }

    pub(crate) fn read_rows<'a>(&self, _: &mut Slab, _: impl Fn(usize) -> Option<&'a [f32]>) {
        match self.0 {}
    }
}
