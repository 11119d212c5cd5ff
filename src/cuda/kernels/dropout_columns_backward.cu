// The way back through dropout_columns, with the same mask. A thread owns one element of the features.

KERNEL dropout_columns_backward(DropoutColumnsParams p, const float* __restrict__ dx, float* __restrict__ dfeatures) {
    u32 element = lane_of();
    if (element >= p.batch * p.features) {
        return;
    }
    u32 b = element / p.features, d = element % p.features;
    dfeatures[element] = dropped_element(p.dropout, dx[d * p.columns + b], element);
}
