//! Other processors and systems: no unit.

use std::convert::Infallible;

use super::{Row, SIDE, Slab};

/// There is none here.
pub(crate) struct Unit(Infallible);

impl Unit {
    pub(crate) fn of_this_cpu() -> Option<Self> {
        None
    }

    pub(crate) fn product(&self, _: &[Slab], _: &[Slab], _: &mut [f32], _: usize, _: bool) {
        match self.0 {}
    }

    pub(crate) fn read_all(&self, _: &[f32], _: usize) -> Vec<Row> {
        match self.0 {}
    }

    pub(crate) fn read_rows<'a>(&self, _: &mut Slab, _: impl Fn(usize) -> Option<&'a [f32]>) {
        match self.0 {}
    }

    pub(crate) fn place_rows<'a>(&self, _: &mut Slab, _: impl Iterator<Item = &'a Row>) {
        match self.0 {}
    }

    pub(crate) fn pair(&self, _: &Slab, _: &mut Slab) {
        match self.0 {}
    }

    pub(crate) fn turn(&self, _: &Slab, _: &mut Slab) {
        match self.0 {}
    }

    pub(crate) fn turn_numbers(&self, _: &[f32; SIDE * SIDE], _: &mut [f32], _: usize) {
        match self.0 {}
    }

    pub(crate) fn add_rows(
        &self,
        _: &[f32; SIDE * SIDE],
        _: &mut [f32],
        _: impl Iterator<Item = usize>,
        _: usize,
    ) {
        match self.0 {}
    }
}
