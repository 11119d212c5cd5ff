// Matrix units and copies that do not wait. Who compiles this for a processor gives these functions itself.
//
// A matrix of 16 x 16 numbers (A) or 16 x 8 (B) lies in the registers of a warp, two bf16 in a word:
//   A  words 0..3 of lane l: rows l/4, l/4 + 8, l/4, l/4 + 8; columns 2(l%4), the last two words 8 further, and the next
//   B  words 0..1 of lane l: rows 2(l%4), the last word 8 further, and the next; column l/4
//   C  numbers 0..3 of lane l: rows l/4, l/4, l/4 + 8, l/4 + 8; columns 2(l%4) and the next

#ifndef ON_HOST
// Two numbers, each rounded to the nearest bf16, the first in the lower half.
__device__ inline u32 pack_bf16(float low, float high) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

// c += a * b; all lanes call it together.
__device__ inline void multiply_add(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Begins to copy four numbers into shared memory.
__device__ inline void begin_copy(float* shared, const float4* from) {
    u32 to = (u32)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

// Waits for the copies that this thread began.
__device__ inline void wait_for_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.wait_group 0;" ::: "memory");
}
#endif

// Pairs of numbers as sums of three bf16, which is all of an f32: 8 bits in each.
struct Parts { u32 words[3]; };

__device__ inline Parts split(float first, float second) {
    Parts out;
#pragma unroll
    for (u32 i = 0; i < 3; i++) {
        out.words[i] = pack_bf16(first, second);
        first -= __uint_as_float(out.words[i] << 16);
        second -= __uint_as_float(out.words[i] & 0xffff0000u);
    }
    return out;
}

// A part of a row-major matrix in shared memory as A: rows and columns from (row, column) on. [part][word]
struct SplitA {
    u32 parts[3][4];

    __device__ inline void load(const float* matrix, u32 stride, u32 row, u32 column, u32 lane) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float* at = matrix + (row + lane / 4 + i % 2 * 8) * stride + column + lane % 4 * 2 + i / 2 * 8;
            Parts pair = split(at[0], at[1]);
            parts[0][i] = pair.words[0];
            parts[1][i] = pair.words[1];
            parts[2][i] = pair.words[2];
        }
    }
};

// The same as B; `down` and `across` are the distances of neighbours in a column and in a row.
struct SplitB {
    u32 parts[3][2];

    __device__ inline void load(const float* matrix, u32 down, u32 across, u32 row, u32 column, u32 lane) {
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            const float* at = matrix + (row + lane % 4 * 2 + i * 8) * down + (column + lane / 4) * across;
            Parts pair = split(at[0], at[down]);
            parts[0][i] = pair.words[0];
            parts[1][i] = pair.words[1];
            parts[2][i] = pair.words[2];
        }
    }
};

// c += a * b, the smallest products first; those left out are below 2^-24 of the whole.
__device__ inline void multiply_add(float (&c)[4], const SplitA& a, const SplitB& b) {
    multiply_add(c, a.parts[2], b.parts[0]);
    multiply_add(c, a.parts[1], b.parts[1]);
    multiply_add(c, a.parts[0], b.parts[2]);
    multiply_add(c, a.parts[1], b.parts[0]);
    multiply_add(c, a.parts[0], b.parts[1]);
    multiply_add(c, a.parts[0], b.parts[0]);
}
