// The optimizer's step of a label's bias, without weight decay. Who imports this has `bias`, `bias_first` and
// `bias_second`, and `rates` in `params`.

fn step_bias(row: u32, gradient: f32) {
    var rates = params.rates;
    rates.decay = 0.0;
    rates.keep = 1.0;
    var m = 0.0;
    var v = 0.0;
    if OPTIMIZER >= 1u { m = bias_first[row]; }
    if OPTIMIZER >= 2u { v = bias_second[row]; }
    let after = optimizer_step(rates, bias[row], gradient, m, v);
    bias[row] = after.x;
    if OPTIMIZER >= 1u { bias_first[row] = after.y; }
    if OPTIMIZER >= 2u { bias_second[row] = after.z; }
}
