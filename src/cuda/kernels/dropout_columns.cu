// Dropout of the features, which are transposed on the way. A thread owns one element.

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
