// The sum over a workgroup that owns a row.

const LANES: u32 = 64u;

var<workgroup> partial: array<f32, LANES>;

// The sum of every lane's value, added as a tree; all lanes call it together.
fn row_sum(local: u32, value: f32) -> f32 {
    partial[local] = value;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        if local < width {
            partial[local] += partial[local + width];
        }
        workgroupBarrier();
    }
    let sum = partial[0];
    workgroupBarrier();
    return sum;
}
