// The inverted index of a window of labels, feature -> its connections in ascending order, by a counting sort in four
// kernels. A connection is row << 16 | slot; its index is a feature in 16 bits.

struct InvertedIndexParams {
    u32 connections, fan_in, index_words, features, chunks, chunk;
};

struct ScanParams {
    u32 features, chunks;
};

// The feature of a connection.
__device__ inline u32 feature_of(const InvertedIndexParams& p, const u32* indices, u32 connection) {
    u32 index_row = connection / p.fan_in;
    u32 slot = connection - index_row * p.fan_in;
    return IndexRows{0, 1}.at(indices + index_row * p.index_words, slot);
}

// How often each feature occurs in each chunk of the connections. A thread owns a chunk.
KERNEL inverted_index_count(
    InvertedIndexParams p, const u32* __restrict__ indices, u32* __restrict__ table
) {
    u32 chunk = lane_of();
    if (chunk >= p.chunks) {
        return;
    }
    for (u32 d = 0; d < p.features; d++) {
        table[d * p.chunks + chunk] = 0;
    }
    u32 end = smaller((chunk + 1) * p.chunk, p.connections);
    for (u32 c = chunk * p.chunk; c < end; c++) {
        table[feature_of(p, indices, c) * p.chunks + chunk] += 1;
    }
}

// Within each feature, where each chunk's entries begin, and how many there are. A thread owns a feature.
KERNEL inverted_index_scan(ScanParams p, u32* __restrict__ table, u32* __restrict__ offsets) {
    u32 feature = lane_of();
    if (feature >= p.features) {
        return;
    }
    u32 sum = 0;
    for (u32 chunk = 0; chunk < p.chunks; chunk++) {
        u32 count = table[feature * p.chunks + chunk];
        table[feature * p.chunks + chunk] = sum;
        sum += count;
    }
    offsets[feature] = sum;
}

struct OffsetsParams {
    u32 features;
};

// Where each feature's list begins. One thread: features are few.
KERNEL inverted_index_offsets(OffsetsParams p, u32* __restrict__ offsets) {
    u32 sum = 0;
    for (u32 feature = 0; feature < p.features; feature++) {
        u32 count = offsets[feature];
        offsets[feature] = sum;
        sum += count;
    }
    offsets[p.features] = sum;
}

// Every connection into the list of its feature, in ascending order. A thread owns a chunk.
KERNEL inverted_index_scatter(
    InvertedIndexParams p, const u32* __restrict__ indices, const u32* __restrict__ offsets,
    u32* __restrict__ table, u32* __restrict__ connections
) {
    u32 chunk = lane_of();
    if (chunk >= p.chunks) {
        return;
    }
    u32 end = smaller((chunk + 1) * p.chunk, p.connections);
    for (u32 c = chunk * p.chunk; c < end; c++) {
        u32 feature = feature_of(p, indices, c);
        u32 place = feature * p.chunks + chunk;
        connections[offsets[feature] + table[place]] = c / p.fan_in << 16 | c % p.fan_in;
        table[place] += 1;
    }
}
