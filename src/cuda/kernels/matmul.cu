// Product of two matrices, c[M,N] = a * b, each operand as stored or transposed.
//
// A block of eight warps owns 32 x 32 elements of c. 32 steps of the depth at a time lie in shared memory; four slices of
// the block, of 64 threads each, take eight of these steps, a thread 4 x 4 elements, and their sums are added in order.

struct ProductParams {
    u32 m, n, k;
};

#define PRODUCT_TILE 32
// Numbers between rows in shared memory: whole vectors of four.
#define PRODUCT_STRIDE 36
#define PRODUCT_SLICES 4

KERNEL __launch_bounds__(256) matmul(
    ProductParams p, u32 transpose_a, u32 transpose_b, u32 epilogue, const float* __restrict__ a,
    const float* __restrict__ b, const float* __restrict__ bias, float* __restrict__ c
) {
    // [depth][row], [depth][column]
    __shared__ float4 left[PRODUCT_TILE * PRODUCT_STRIDE / 4];
    __shared__ float4 right[PRODUCT_TILE * PRODUCT_STRIDE / 4];
    __shared__ float sums[PRODUCT_TILE * PRODUCT_TILE];
    float* left_at = (float*)left;
    float* right_at = (float*)right;
    u32 across = (p.n + PRODUCT_TILE - 1) / PRODUCT_TILE;
    u32 first_row = blockIdx.x / across * PRODUCT_TILE, first_column = blockIdx.x % across * PRODUCT_TILE;
    u32 slice = threadIdx.x / 64;
    u32 row = threadIdx.x % 64 / 8 * 4, column = threadIdx.x % 8 * 4;
    float4 mine[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    for (u32 k = 0; k < p.k; k += PRODUCT_TILE) {
        for (u32 i = threadIdx.x; i < PRODUCT_TILE * PRODUCT_TILE; i += blockDim.x) {
            // Neighbours read neighbouring memory.
            u32 fast = i % PRODUCT_TILE, slow = i / PRODUCT_TILE;
            u32 depth = transpose_a == 1 ? slow : fast, r = transpose_a == 1 ? fast : slow;
            bool inside = k + depth < p.k && first_row + r < p.m;
            u64 at = transpose_a == 1 ? (u64)(k + depth) * p.m + first_row + r
                                      : (u64)(first_row + r) * p.k + k + depth;
            left_at[depth * PRODUCT_STRIDE + r] = inside ? a[at] : 0.0f;
            depth = transpose_b == 1 ? fast : slow;
            r = transpose_b == 1 ? slow : fast;
            inside = k + depth < p.k && first_column + r < p.n;
            at = transpose_b == 1 ? (u64)(first_column + r) * p.k + k + depth
                                  : (u64)(k + depth) * p.n + first_column + r;
            right_at[depth * PRODUCT_STRIDE + r] = inside ? b[at] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (u32 step = 0; step < PRODUCT_TILE / PRODUCT_SLICES; step++) {
            u32 depth = slice * (PRODUCT_TILE / PRODUCT_SLICES) + step;
            float4 x = left[(depth * PRODUCT_STRIDE + row) / 4], y = right[(depth * PRODUCT_STRIDE + column) / 4];
            add_product(mine[0], x.x, y);
            add_product(mine[1], x.y, y);
            add_product(mine[2], x.z, y);
            add_product(mine[3], x.w, y);
        }
        __syncthreads();
    }
    for (u32 turn = 0; turn < PRODUCT_SLICES; turn++) {
        if (slice == turn) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                float* at = sums + (row + i) * PRODUCT_TILE + column;
                float4 before = turn == 0 ? splat(0.0f) : make_float4(at[0], at[1], at[2], at[3]);
                add(before, mine[i]);
                at[0] = before.x;
                at[1] = before.y;
                at[2] = before.z;
                at[3] = before.w;
            }
        }
        __syncthreads();
    }
    for (u32 i = threadIdx.x; i < PRODUCT_TILE * PRODUCT_TILE; i += blockDim.x) {
        u32 r = first_row + i / PRODUCT_TILE, s = first_column + i % PRODUCT_TILE;
        if (r < p.m && s < p.n) {
            float* out = c + (u64)r * p.n + s;
            *out = sums[i] + (epilogue == 1 ? bias[s] : epilogue == 2 ? *out : 0.0f);
        }
    }
}
