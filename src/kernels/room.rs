//! Memory of the CPU's threads, which stays in a thread's cache from task to task.

use std::cell::Cell;

thread_local! {
    static ROOM: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Memory of a thread, which holds anything.
pub(super) struct Room(Vec<f32>);

impl Room {
    /// That of this thread, with room for so many numbers.
    pub(super) fn borrow(numbers: usize) -> Self {
        let mut room = ROOM.take();
        if room.len() < numbers + 16 {
            room.resize(numbers + 16, 0.0);
        }
        Self(room)
    }

    /// From a cache line on.
    pub(super) fn numbers(&mut self) -> &mut [f32] {
        let start = self.0.as_ptr().align_offset(64).min(16);
        &mut self.0[start..]
    }

    /// For the thread's next task.
    pub(super) fn give_back(self) {
        ROOM.set(self.0);
    }
}

/// The first `numbers` numbers of what is left of a room.
#[inline(always)]
pub(super) fn take<'a>(room: &mut &'a mut [f32], numbers: usize) -> &'a mut [f32] {
    room.split_off_mut(..numbers).expect("a room has as many numbers as were asked for")
}
