//! How much memory a device's buffers take: counted at every allocation, given back when a buffer is dropped.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Buffers of one name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BufferUse {
    /// What they are for.
    pub name: String,
    /// How many there are.
    pub count: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// What a device's buffers take.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MemoryUse {
    /// Bytes of the buffers that are there now.
    pub bytes: u64,
    /// The most that there ever were at once.
    pub peak_bytes: u64,
    /// The buffers that are there now, the largest first.
    pub buffers: Vec<BufferUse>,
}

#[derive(Default)]
pub(crate) struct Ledger(Mutex<State>);

#[derive(Default)]
struct State {
    now: u64,
    peak: u64,
    by_name: BTreeMap<String, (usize, u64)>,
}

impl Ledger {
    pub(crate) fn add(&self, name: &str, bytes: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += bytes;
        state.peak = state.peak.max(state.now);
        let (count, sum) = state.by_name.entry(name.to_owned()).or_default();
        *count += 1;
        *sum += bytes;
    }

    pub(crate) fn remove(&self, name: &str, bytes: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.now -= bytes;
        if let Some((count, sum)) = state.by_name.get_mut(name) {
            *count -= 1;
            *sum -= bytes;
            if *count == 0 {
                state.by_name.remove(name);
            }
        }
    }

    pub(super) fn report(&self) -> MemoryUse {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffers: Vec<BufferUse> = state
            .by_name
            .iter()
            .map(|(name, (count, bytes))| BufferUse { name: name.clone(), count: *count, bytes: *bytes })
            .collect();
        buffers.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        MemoryUse { bytes: state.now, peak_bytes: state.peak, buffers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_counts_what_is_there_and_what_was() {
        let ledger = Ledger::default();
        ledger.add("weights", 100);
        ledger.add("weights", 50);
        ledger.add("scratch", 200);
        ledger.remove("scratch", 200);
        let report = ledger.report();
        assert_eq!((report.bytes, report.peak_bytes), (150, 350));
        assert_eq!(report.buffers, [BufferUse { name: "weights".into(), count: 2, bytes: 150 }]);
    }
}
