// The sum of the squares of a tensor in PARTS parts, for the norm of a gradient that consists of many tensors.
//
//   partials[first + i] = sum over part i of x: x[e]^2
//
// A workgroup owns one part, of `part` consecutive elements; its lanes sum strides of it.
//!import row_sum

struct Params {
    count: u32,
    part: u32,
    first: u32, // where the tensor's partial sums begin
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let begin = min(workgroup.x * params.part, params.count);
    let end = min(begin + params.part, params.count);
    var sum = 0.0;
    for (var i = begin + local; i < end; i += LANES) {
        sum += x[i] * x[i];
    }
    let total = row_sum(local, sum);
    if local == 0u {
        partials[params.first + workgroup.x] = total;
    }
}
