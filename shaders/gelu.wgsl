// GELU with the error function, 0.5 x (1 + erf(x / sqrt 2)), or its gradient.
//
// An invocation owns one element.
//!import linear

// 0: out = gelu(x); 1: out = other * gelu'(x)
const BACKWARD: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> other: array<f32>; // gradient of the output, if BACKWARD
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

// Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    let y = 1.0 - p * exp(-a * a);
    return select(y, -y, x < 0.0);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.count {
        return;
    }
    let value = x[lane];
    let phi = 0.5 * (1.0 + erf(value * 0.70710678));
    if BACKWARD == 0u {
        out[lane] = value * phi;
    } else {
        out[lane] = other[lane] * (phi + value * 0.39894228 * exp(-0.5 * value * value));
    }
}
