// Adds the losses of a block's labels to the step's place in the ring of losses, in a fixed order.
//
// One workgroup: each lane sums a stride of labels, then the lanes are added as a tree.

const LANES: u32 = 64u;

struct Params {
    rows: u32,
    place: u32,  // in the ring
    scale: f32,  // what the reduction divides by
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> label_loss: array<f32>;   // [rows]
@group(0) @binding(1) var<storage, read_write> losses: array<f32>; // the ring

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    for (var row = local; row < params.rows; row += LANES) {
        sum += label_loss[row];
    }
    partial[local] = sum;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        if local < width {
            partial[local] += partial[local + width];
        }
        workgroupBarrier();
    }
    if local == 0u {
        losses[params.place] += params.scale * partial[0];
    }
}
