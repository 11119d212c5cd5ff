// Sums of the columns of a matrix. A block owns 16 columns; 16 of its threads share a column, and their sums are added in
// order.

struct ColumnSumParams {
    u32 rows, columns;
};

#define SUM_COLUMNS 16
#define SUM_ROWS 16

KERNEL column_sum(ColumnSumParams p, u32 accumulate, const float* __restrict__ matrix, float* __restrict__ sums) {
    __shared__ float partial[SUM_ROWS][SUM_COLUMNS];
    u32 at = threadIdx.x % SUM_COLUMNS, share = threadIdx.x / SUM_COLUMNS;
    u32 column = blockIdx.x * SUM_COLUMNS + at;
    float sum = 0.0f;
    for (u32 row = share; row < p.rows && column < p.columns; row += SUM_ROWS) {
        sum += matrix[row * p.columns + column];
    }
    partial[share][at] = sum;
    __syncthreads();
    if (share == 0 && column < p.columns) {
        for (u32 i = 1; i < SUM_ROWS; i++) {
            sum += partial[i][at];
        }
        sums[column] = accumulate == 1 ? sum + sums[column] : sum;
    }
}
