// Adds a bias to each row of a matrix whose columns are the samples; columns beyond the batch become zero. A thread owns
// one element.

struct RowBiasParams {
    u32 rows, batch, columns;
};

KERNEL row_bias(RowBiasParams p, const float* __restrict__ bias, float* __restrict__ z) {
    u32 lane = lane_of();
    u32 row = lane / p.columns;
    if (row < p.rows) {
        z[lane] = lane - row * p.columns < p.batch ? z[lane] + bias[row] : 0.0f;
    }
}
