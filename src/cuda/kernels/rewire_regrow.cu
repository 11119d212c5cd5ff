// Pruned connections grow again elsewhere: a new index, drawn at random among those that the row does not have, in a
// stratified row from the slot's own stratum; a new weight (zero, or uniform within +-bound), and optimizer states of
// zero. A thread owns one row of indices, and of it the
// slots from first_slot to before end_slot.

struct RegrowParams {
    u32 rows, index_rows, first_index_row, fan_in, index_words, weight_words, moment_words, mask_words, group, features;
    float bound;
    u32 step, purpose, first_wiring, seed_low, seed_high, first_slot, end_slot;
};

// Bits that round to the nearest.
#define NEAREST 0x8000u

// A feature of the slot's stratum, not the one that it has; the only one there is stays.
__device__ inline u32 fresh_in_stratum(
    const RegrowParams& p, const IndexRows& index_rows, const u32* row, u32 index_row, u32 slot
) {
    Choices choices = choices_of(p, index_rows, row, slot, p.first_wiring == 0);
    return choices.count == 0 ? choices.first : choices.at(drawn_below(p, index_row, slot, 0, choices.count));
}

// An index that the row, one of features, does not have. With every index in use, the slot keeps its own.
__device__ inline u32 fresh_index(
    const RegrowParams& p, const IndexRows& index_rows, const u32* row, u32 index_row, u32 slot
) {
    u32 end = p.first_wiring == 1 ? slot : p.fan_in;
    u32 candidate = 0;
    for (u32 i = 0; i < MAX_DRAWS; i++) {
        candidate = drawn_below(p, index_row, slot, i, p.features);
        if (!row_has(row, end, candidate)) {
            return candidate;
        }
    }
    for (u32 i = 0; i < p.features; i++) {
        candidate = candidate + 1 >= p.features ? 0 : candidate + 1;
        if (!row_has(row, end, candidate)) {
            return candidate;
        }
    }
    return index_rows.at(row, slot);
}

// Adds the row to the counts; its mask becomes the one of the last rewiring.
__device__ inline void count_slots(const u32* mask, u32* regrown, u32 words, u32* counts) {
    u32 pruned = 0, again = 0;
    for (u32 word = 0; word < words; word++) {
        pruned += __popc(mask[word]);
        again += __popc(mask[word] & regrown[word]);
        regrown[word] = mask[word];
    }
    if (pruned > 0) {
        atomicAdd(&counts[0], pruned);
        atomicAdd(&counts[1], again);
        atomicAdd(&counts[2], pruned);
    }
}

KERNEL rewire_regrow(
    RegrowParams p, u32 states, u32 draws, u32 storage, u32 moments, u32 stratified, u32 stratified_features,
    u32 strata, const u32* __restrict__ mask, u32* __restrict__ regrown, u32* __restrict__ weights, u32* __restrict__ indices, u32* __restrict__ first,
    u32* __restrict__ second, u32* __restrict__ counts
) {
    IndexRows index_rows = {stratified_features, strata};
    u32 index_row = lane_of();
    if (index_row >= p.index_rows) {
        return;
    }
    const u32* row_mask = mask + index_row * p.mask_words;
    u32* index = indices + index_row * p.index_words;
    if (p.first_slot == 0) {
        count_slots(row_mask, regrown + index_row * p.mask_words, p.mask_words, counts);
    }
    u32 first_row = index_row * p.group;
    u32 end_row = smaller(first_row + p.group, p.rows);
    for (u32 slot = p.first_slot; slot < p.end_slot; slot++) {
        if (!is_marked(row_mask, slot)) {
            continue;
        }
        if (draws == 1) {
            u32 fresh = stratified == 1 ? fresh_in_stratum(p, index_rows, index, index_row, slot)
                                        : fresh_index(p, index_rows, index, index_row, slot);
            index_rows.put(index, slot, fresh);
        }
        for (u32 row = first_row; row < end_row; row++) {
            float weight = 0.0f;
            if (p.bound > 0.0f) {
                u32 member = (row - first_row) * p.fan_in + slot;
                u32 word = component(draw(p, index_row, 0x80000000u + member / 4), member % 4);
                weight = p.bound * (2.0f * unit(word) - 1.0f);
            }
            u32* at = weights + row * p.weight_words + slot / per_word(storage);
            *at = (*at & ~place_mask(storage, slot)) | rounded(storage, weight, slot, NEAREST);
            u32 state = row * p.moment_words + slot / per_word(moments);
            if (states >= 1) { first[state] &= ~place_mask(moments, slot); }
            if (states >= 2) { second[state] &= ~place_mask(moments, slot); }
        }
    }
}
