// Largest magnitudes of a matrix, as one number for each workgroup: by their bits, so that a NaN counts as largest.
//!import linear

const WORKGROUP: u32 = 256u;

struct Params {
    count: u32,
    // workgroups * WORKGROUP
    lanes: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> maxima: array<u32>;

var<workgroup> shared_maxima: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    var maximum = 0u;
    for (var i = lane_of(workgroup, grid, WORKGROUP, local); i < params.count; i += params.lanes) {
        maximum = max(maximum, bitcast<u32>(a[i]) & 0x7fffffffu);
    }
    shared_maxima[local] = maximum;
    for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if local < width {
            shared_maxima[local] = max(shared_maxima[local], shared_maxima[local + width]);
        }
    }
    if local == 0u {
        maxima[workgroup.x + workgroup.y * grid.x] = shared_maxima[0];
    }
}
