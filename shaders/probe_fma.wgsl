// Chains of multiply-adds in registers, v <- v / 2 + 1 / 2, which comes to 1: how fast this adapter computes in f32.
//
// An invocation owns 32 chains, enough to hide the latency of each.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    lanes: u32,
    rounds: u32,
    half: f32, // 0.5, unknown to the compiler
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> sums: array<f32>; // [lanes]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.lanes {
        return;
    }
    let half = vec4<f32>(params.half);
    var chains: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        chains[i] = vec4<f32>(f32(i));
    }
    for (var round = 0u; round < params.rounds; round++) {
        for (var i = 0u; i < 8u; i++) {
            chains[i] = fma(chains[i], half, half);
        }
    }
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < 8u; i++) {
        sum += chains[i];
    }
    sums[lane] = dot(sum, vec4<f32>(1.0));
}
