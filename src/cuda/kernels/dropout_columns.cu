// Dropout of the features, which are transposed on the way, and the way back. A thread owns one element.

struct DropoutColumnsParams {
    Dropout dropout;
    u32 batch, features, columns;
};

KERNEL dropout_columns(DropoutColumnsParams p, const float* __restrict__ features, float* __restrict__ x) {
    u32 lane = lane_of();
    if (lane >= p.features * p.columns) {
        return;
    }
    u32 d = lane / p.columns, b = lane % p.columns;
    u32 element = b * p.features + d;
    x[lane] = b < p.batch ? dropped_element(p.dropout, features[element], element) : 0.0f;
}

KERNEL dropout_columns_backward(
    DropoutColumnsParams p, const float* __restrict__ dx, float* __restrict__ dfeatures
) {
    u32 element = lane_of();
    if (element < p.batch * p.features) {
        u32 b = element / p.features, d = element % p.features;
        dfeatures[element] = dropped_element(p.dropout, dx[d * p.columns + b], element);
    }
}
