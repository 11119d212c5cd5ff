// The inverted indices of windows of labels, feature -> its connections in ascending order, by a counting sort in five
// launches. A connection is row << 16 | slot, rows from its window's first on; its index is a feature in 16 bits.

struct InvertedIndexParams {
    u32 rows, fan_in, index_words, features, windows, window_rows, parts, part_rows, table_words;
};

// Calls take(place in the table, first row of the window, row, slot) for every connection of a thread's part of a window.
template <typename Take>
__device__ inline void each_connection(const InvertedIndexParams& p, const u32* indices, Take take) {
    u32 lane = lane_of();
    if (lane >= p.windows * p.parts) {
        return;
    }
    u32 window = lane / p.parts, part = lane % p.parts;
    u32 first_row = window * p.window_rows;
    u32 counts = window * p.table_words + part * p.features;
    u32 begin = first_row + part * p.part_rows;
    u32 end = smaller(begin + p.part_rows, smaller(first_row + p.window_rows, p.rows));
    for (u32 row = begin; row < end; row++) {
        for (u32 slot = 0; slot < p.fan_in; slot += 2) {
            u32 word = indices[row * p.index_words + slot / 2];
            take(counts + (word & 0xffff), first_row, row, slot);
            if (slot + 1 < p.fan_in) {
                take(counts + (word >> 16), first_row, row, slot + 1);
            }
        }
    }
}

// How often each feature occurs in each part of a window. The table holds zeros before.
KERNEL inverted_index_count(
    InvertedIndexParams p, const u32* __restrict__ indices, u32* __restrict__ table
) {
    each_connection(p, indices, [=](u32 place, u32, u32, u32) { table[place] += 1; });
}

struct ScanParams {
    u32 features, windows, parts, table_words, offset_words;
};

// How many entries each feature has, or, from where its list begins, where each part's entries begin. A thread owns a
// feature of a window.
KERNEL inverted_index_scan(ScanParams p, u32 starts, u32* __restrict__ table, u32* __restrict__ offsets) {
    u32 lane = lane_of();
    if (lane >= p.windows * p.features) {
        return;
    }
    u32 window = lane / p.features, feature = lane % p.features;
    u32* counts = table + window * p.table_words + feature;
    u32* offset = offsets + window * p.offset_words + feature;
    u32 sum = starts == 1 ? *offset : 0;
    for (u32 part = 0; part < p.parts; part++) {
        u32 count = counts[part * p.features];
        if (starts == 1) {
            counts[part * p.features] = sum;
        }
        sum += count;
    }
    if (starts == 0) {
        *offset = sum;
    }
}

struct OffsetsParams {
    u32 features, windows, offset_words;
};

// Where each feature's list begins. A thread owns a window: features are few.
KERNEL inverted_index_offsets(OffsetsParams p, u32* __restrict__ offsets) {
    u32 window = lane_of();
    if (window >= p.windows) {
        return;
    }
    u32* row = offsets + window * p.offset_words;
    u32 sum = 0;
    for (u32 feature = 0; feature < p.features; feature++) {
        u32 count = row[feature];
        row[feature] = sum;
        sum += count;
    }
    row[p.features] = sum;
}

// Every connection into the list of its feature, in ascending order.
KERNEL inverted_index_scatter(
    InvertedIndexParams p, const u32* __restrict__ indices, u32* __restrict__ table,
    u32* __restrict__ connections
) {
    each_connection(p, indices, [=](u32 place, u32 first_row, u32 row, u32 slot) {
        u32 at = table[place];
        connections[first_row * p.fan_in + at] = (row - first_row) << 16 | slot;
        table[place] = at + 1;
    });
}
