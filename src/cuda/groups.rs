//! Which groups of labels matrix units take.

/// Groups that matrix units are used for.
const GROUPS: [u32; 3] = [16, 32, 64];

/// Connections of all labels of a group at most: their gradients lie in the registers of a block.
const MOST_CONNECTIONS: u32 = 8192;

/// Shared memory that every device gives without being asked.
const MOST_SHARED_BYTES: u32 = 48 << 10;

/// The sizes of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepSizes {
    /// Labels.
    pub(super) rows: u32,
    /// Connections of a label.
    pub(super) fan_in: u32,
    /// Labels that share a row of indices.
    pub(super) group: u32,
}

/// Shared memory of a block of `fan_in_group_step`, where it can take groups of this size: see `GroupMemory` there.
pub(super) fn shared_bytes(StepSizes { fan_in, group, .. }: StepSizes) -> Option<u32> {
    const PAD: u32 = 4;
    const TILE: u32 = 32 + PAD;
    let fits = GROUPS.contains(&group)
        && fan_in.is_multiple_of(16)
        && group.saturating_mul(fan_in) <= MOST_CONNECTIONS;
    if !fits {
        return None;
    }
    let numbers = group * (fan_in + PAD) + fan_in * TILE + group * TILE + 9 * group;
    (4 * numbers <= MOST_SHARED_BYTES).then_some(4 * numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(group: u32, fan_in: u32) -> Option<u32> {
        shared_bytes(StepSizes { rows: 1000, fan_in, group })
    }

    #[test]
    fn matrix_units_take_whole_groups_that_fit() {
        // 32 labels of 64 connections: weights 32 · 68, features 64 · 36, gradients 32 · 36, the rest 9 · 32 numbers.
        assert_eq!(bytes(32, 64), Some(4 * (2176 + 2304 + 1152 + 288)));
        for (group, fan_in) in [(1, 16), (8, 16), (24, 16), (16, 17), (64, 256), (64, 112), (16, 1024)] {
            assert_eq!(bytes(group, fan_in), None, "{group} labels, {fan_in} connections");
        }
        assert_eq!(bytes(u32::MAX, 1 << 16), None);
        assert!(bytes(64, 64).is_some() && bytes(16, 128).is_some());
    }
}
