// Dropout, residual connection and LayerNorm in one.
//
//   sum[r,h] = residual[r,h] + dropout(x)[r,h],   y[r,h] = (sum[r,h] - mean_r) * rstd_r * gamma[h] + beta[h]
//
// with mean, biased variance and rstd = 1 / sqrt(variance + epsilon) of a row of sum. The number of an element is
// r * H + h.
//
// A workgroup owns one row. A lane takes the four elements of a counter together; it reads no sum but its own.
//!import dropout
//!import row_sum

struct Params {
    @size(32) dropout: Dropout, // uniform buffers want what follows a struct at a multiple of 16
    rows: u32,
    hidden: u32,
    epsilon: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;           // [rows, H]
@group(0) @binding(1) var<storage, read> residual: array<f32>;    // [rows, H]
@group(0) @binding(2) var<storage, read> gamma: array<f32>;       // [H]
@group(0) @binding(3) var<storage, read> beta: array<f32>;        // [H]
@group(0) @binding(4) var<storage, read_write> sum: array<f32>;   // [rows, H]
@group(0) @binding(5) var<storage, read_write> y: array<f32>;     // [rows, H]
@group(0) @binding(6) var<storage, read_write> stats: array<f32>; // [rows, 2]: mean, rstd

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = workgroup.x + workgroup.y * grid.x;
    if row >= params.rows {
        return;
    }
    let begin = row * params.hidden;
    let end = begin + params.hidden;
    var total = 0.0;
    for (var quad = begin / 4u + local; quad * 4u < end; quad += LANES) {
        var words = vec4<u32>(0xffffffffu);
        if params.dropout.drop_below > 0u {
            words = dropout_words(params.dropout, quad);
        }
        for (var i = 0u; i < 4u; i++) {
            let element = quad * 4u + i;
            if element >= begin && element < end {
                let value = residual[element] + dropped(params.dropout, x[element], words[i]);
                sum[element] = value;
                total += value;
            }
        }
    }
    let mean = row_sum(local, total) / f32(params.hidden);
    var squares = 0.0;
    for (var quad = begin / 4u + local; quad * 4u < end; quad += LANES) {
        for (var element = max(begin, quad * 4u); element < min(end, quad * 4u + 4u); element++) {
            let d = sum[element] - mean;
            squares += d * d;
        }
    }
    let rstd = 1.0 / sqrt(row_sum(local, squares) / f32(params.hidden) + params.epsilon);
    for (var quad = begin / 4u + local; quad * 4u < end; quad += LANES) {
        for (var element = max(begin, quad * 4u); element < min(end, quad * 4u + 4u); element++) {
            let h = element - begin;
            y[element] = (sum[element] - mean) * rstd * gamma[h] + beta[h];
        }
    }
    if local == 0u {
        stats[row * 2u] = mean;
        stats[row * 2u + 1u] = rstd;
    }
}
