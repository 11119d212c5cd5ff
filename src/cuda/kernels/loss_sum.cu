// Adds the losses of a block's labels to the step's place in the ring of losses, in a fixed order. One block.

struct LossSumParams {
    u32 rows, place;
    float scale;
};

KERNEL loss_sum(LossSumParams p, const float* __restrict__ label_loss, float* __restrict__ losses) {
    __shared__ float partial[64];
    u32 local = threadIdx.x;
    float sum = 0.0f;
    for (u32 row = local; row < p.rows; row += blockDim.x) {
        sum += label_loss[row];
    }
    partial[local] = sum;
    __syncthreads();
    for (u32 width = blockDim.x / 2; width > 0; width /= 2) {
        if (local < width) {
            partial[local] += partial[local + width];
        }
        __syncthreads();
    }
    if (local == 0) {
        losses[p.place] += p.scale * partial[0];
    }
}
