// What all kernels have in common.
//
// A kernel's arguments are its parameters, the constants that select a variant of the shader, and its bindings.
// Features lie transposed, x[D][columns], columns = batch rounded up to 16 with zeros.

typedef unsigned int u32;
typedef unsigned long long u64;

#define KERNEL extern "C" __global__ void

// Shared memory of as many bytes as the launch asks for.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(name) extern __shared__ float4 name[]
#endif

// Number of this thread in the grid.
__device__ inline u32 lane_of() { return blockIdx.x * blockDim.x + threadIdx.x; }

__device__ inline u32 smaller(u32 a, u32 b) { return a < b ? a : b; }

__device__ inline float4 splat(float value) { return make_float4(value, value, value, value); }

__device__ inline void add_product(float4& sum, float factor, float4 values) {
    sum.x += factor * values.x;
    sum.y += factor * values.y;
    sum.z += factor * values.z;
    sum.w += factor * values.w;
}

__device__ inline void add(float4& sum, float4 values) {
    sum.x += values.x;
    sum.y += values.y;
    sum.z += values.z;
    sum.w += values.w;
}

__device__ inline float sum_of(float4 values) { return values.x + values.y + values.z + values.w; }

// The sum of four products, added to `sum`.
__device__ inline float add_dot(float sum, float4 a, float4 b) {
    sum += a.x * b.x;
    sum += a.y * b.y;
    sum += a.z * b.z;
    sum += a.w * b.w;
    return sum;
}
