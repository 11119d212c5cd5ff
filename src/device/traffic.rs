//! Bytes between memory and a cache, as a model has it.

use std::collections::{HashMap, VecDeque};

use super::{Access, Slice};

/// What comes and goes as one. Slices of parts of it count what they hold.
const PAGE: u64 = 4096;

/// A cache that holds any pages, of which the one that was not used for longest goes first.
pub(super) struct Cache {
    pages: HashMap<Key, Page>,
    most_pages: usize,
    /// Pages in the order of their uses, with those that were used again since.
    uses: VecDeque<(Key, u64)>,
    used: u64,
    moved: u64,
}

/// A buffer's address and the number of the page in it.
type Key = (usize, u64);

struct Page {
    last_use: u64,
    /// The part of the page that is here, in bytes.
    held: [u64; 2],
    /// Bytes that memory does not have yet.
    changed: u64,
}

impl Cache {
    pub(super) fn new(bytes: u64) -> Self {
        let most_pages = (bytes / PAGE) as usize;
        Self { pages: HashMap::new(), most_pages, uses: VecDeque::new(), used: 0, moved: 0 }
    }

    /// Bytes that were moved when all that is here has been stored.
    pub(super) fn moved_in_all(self) -> u64 {
        self.moved + self.pages.values().map(|page| page.changed).sum::<u64>()
    }

    /// A launch's access to a slice: what is not here is fetched, and what is changed is stored when it goes. Textures are
    /// written without being read.
    pub(super) fn access(&mut self, access: Access, slice: &Slice) {
        let buffer = std::sync::Arc::as_ptr(&slice.buffer.0) as usize;
        let [first, end] = [slice.offset, slice.offset + slice.bytes];
        for page in first / PAGE..end.div_ceil(PAGE) {
            let part = [first.max(page * PAGE), end.min((page + 1) * PAGE)];
            self.access_page((buffer, page), access, part);
        }
    }

    fn access_page(&mut self, key: Key, access: Access, part: [u64; 2]) {
        self.used += 1;
        let here = self.pages.entry(key).or_insert(Page { last_use: 0, held: [part[0]; 2], changed: 0 });
        let both = [here.held[0].min(part[0]), here.held[1].max(part[1])];
        let new = (both[1] - both[0]) - (here.held[1] - here.held[0]);
        here.held = both;
        here.last_use = self.used;
        if access != Access::WriteTexture {
            self.moved += new;
        }
        if matches!(access, Access::Write | Access::WriteTexture) {
            here.changed = here.changed.max(part[1] - part[0]);
        }
        self.uses.push_back((key, self.used));
        while self.pages.len() > self.most_pages {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((key, used)) = self.uses.pop_front() else { return };
        if self.pages.get(&key).is_some_and(|page| page.last_use == used)
            && let Some(page) = self.pages.remove(&key)
        {
            self.moved += page.changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, PAGE};
    use crate::device::{Access, Device};

    /// Two pages of cache, three of a buffer.
    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let device = Device::open(Some("cpu"), Default::default()).unwrap();
        let buffer = device.allocate("pages", 3 * PAGE).unwrap();
        let mut cache = Cache::new(2 * PAGE);
        let mut moved = |access, page: u64, bytes: u64| {
            cache.access(access, &buffer.range(page * PAGE, bytes));
            std::mem::take(&mut cache.moved)
        };
        assert_eq!(moved(Access::Read, 0, 256), 256);
        // Of a page that is here in part, the rest.
        assert_eq!(moved(Access::Read, 0, PAGE), PAGE - 256);
        assert_eq!(moved(Access::Write, 1, PAGE), PAGE);
        assert_eq!(moved(Access::Read, 0, PAGE), 0);
        // Page 1 goes and is stored; page 0 goes and is not.
        assert_eq!(moved(Access::Read, 2, PAGE), 2 * PAGE);
        assert_eq!(moved(Access::WriteTexture, 1, PAGE), 0);
        assert_eq!(moved(Access::Read, 0, PAGE), PAGE);
        // What was written into a texture is stored, too.
        assert_eq!(moved(Access::ReadTexture, 2, PAGE), 2 * PAGE);
    }

    #[test]
    fn a_slice_larger_than_the_cache_is_fetched_again() {
        let device = Device::open(Some("cpu"), Default::default()).unwrap();
        let buffer = device.allocate("pages", 8 * PAGE).unwrap();
        let mut cache = Cache::new(4 * PAGE);
        for _ in 0..2 {
            cache.access(Access::Read, &buffer.whole());
            assert_eq!(std::mem::take(&mut cache.moved), 8 * PAGE);
        }
        cache.access(Access::Read, &buffer.range(5 * PAGE + 256, 3 * PAGE - 256));
        cache.access(Access::Write, &buffer.range(7 * PAGE, 512));
        assert_eq!(cache.moved_in_all(), 512);
    }
}
