// How fast memory, arithmetic and gathering are on this device: the same work as shaders/probe_*.wgsl.

struct CopyParams {
    u32 quads;
};

// A thread owns four words.
KERNEL probe_copy(CopyParams p, const uint4* __restrict__ source, uint4* __restrict__ target) {
    u32 lane = lane_of();
    if (lane < p.quads) {
        target[lane] = source[lane];
    }
}

struct FmaParams {
    u32 lanes, rounds;
    float half; // 0.5, unknown to the compiler
};

#define CHAINS 32

// A thread owns 32 chains, enough to hide the latency of each.
KERNEL probe_fma(FmaParams p, float* __restrict__ sums) {
    u32 lane = lane_of();
    if (lane >= p.lanes) {
        return;
    }
    float chains[CHAINS];
#pragma unroll
    for (u32 i = 0; i < CHAINS; i++) {
        chains[i] = (float)(i / 4);
    }
    for (u32 round = 0; round < p.rounds; round++) {
#pragma unroll
        for (u32 i = 0; i < CHAINS; i++) {
            chains[i] = fmaf(chains[i], p.half, p.half);
        }
    }
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < CHAINS; i++) {
        sum += chains[i];
    }
    sums[lane] = sum;
}

struct GatherParams {
    u32 lanes, rounds, features;
    u32 quads; // columns / 4, a multiple of 4
};

// Four threads share what an invocation of the shader owns, side by side.
KERNEL probe_gather(GatherParams p, const float4* __restrict__ x, float4* __restrict__ sums) {
    u32 lane = lane_of() / 4, part = lane_of() % 4;
    if (lane >= p.lanes) {
        return;
    }
    float4 sum = splat(0.0f);
    u32 state = lane * 2654435761u;
    for (u32 round = 0; round < p.rounds; round++) {
        state = state * 1664525u + 1013904223u;
        u32 row = ((state >> 16) * p.features >> 16) * p.quads;
        for (u32 tile = 0; tile < p.quads; tile += 4) {
            add(sum, x[row + tile + part]);
        }
    }
    sums[4 * lane + part] = sum;
}
