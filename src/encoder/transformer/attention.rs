//! The attention part of a layer: queries, keys, values, heads, output, residual, norm.

use super::{Pass, Transformer};
use crate::device::{Recording, Slice};
use crate::kernels::products::Epilogue;
use crate::kernels::{add_norm, attention};

/// Places of the dropouts of the attention probabilities and of the output.
fn dropout_places(layer: usize) -> [usize; 2] {
    [2 + 3 * layer, 3 + 3 * layer]
}

impl Transformer {
    fn heads(&self, pass: &Pass<'_>, layer: usize) -> attention::Attention {
        let a = self.o.architecture;
        attention::Attention {
            documents: pass.batch.documents,
            tokens: pass.batch.count,
            heads: a.heads,
            head_size: a.hidden / a.heads,
            max_length: a.positions,
            dropout: self.dropout(pass, self.o.attention_dropout, dropout_places(layer)[0]),
        }
    }

    /// normed = LayerNorm(x + dropout(heads(x)·Wᵀ + b)), x the layer's input.
    pub(super) fn attention_forward(&self, recording: &mut Recording, pass: &Pass<'_>, layer: usize) {
        let (a, act) = (self.o.architecture, &self.activations);
        let (inner, places) = (&act.inner[layer], self.parameters.layers[layer]);
        let (rows, hidden) = (pass.batch.count, a.hidden);
        let x = Slice::from(&act.outputs[layer]);
        let [query, key, value, context, log_sums] =
            [&inner.query, &inner.key, &inner.value, &inner.context, &inner.log_sums].map(Slice::from);
        let sizes = [rows, hidden, hidden];
        for (places, y) in [(places.query, &query), (places.key, &key), (places.value, &value)] {
            self.dense_forward(recording, places, sizes, &x, y);
        }
        let heads = self.heads(pass, layer);
        recording.launch(attention::forward(
            heads,
            &query,
            &key,
            &value,
            &pass.batch.offsets,
            &context,
            &log_sums,
        ));
        let projected = Slice::from(&act.scratch.projected);
        self.dense_forward(recording, places.attention_output, sizes, &context, &projected);
        let [sum, normed, stats] =
            [&inner.attention_sum, &inner.attention_normed, &inner.attention_stats].map(Slice::from);
        let dropout = self.hidden_dropout(pass, dropout_places(layer)[1]);
        let [gamma, beta] = [places.attention_norm.weight, places.attention_norm.bias]
            .map(|place| self.parameters.values(place));
        let bindings = [&projected, &x, &gamma, &beta, &sum, &normed, &stats];
        recording.launch(add_norm::launch(rows, hidden, a.norm_epsilon as f32, dropout, bindings));
    }

    /// From the gradient of the part's output, in `middle`, to that of the layer's input, in `grad`.
    pub(super) fn attention_backward(&self, recording: &mut Recording, pass: &Pass<'_>, layer: usize) {
        let (act, back) = (&self.activations, &self.activations.backward);
        let (inner, places) = (&act.inner[layer], self.parameters.layers[layer]);
        let (rows, hidden) = (pass.batch.count, self.o.architecture.hidden);
        let [dy, dsum] = [&back.middle, &back.grad].map(Slice::from);
        let saved = [&inner.attention_sum, &inner.attention_stats].map(Slice::from);
        self.norm_backward(recording, pass, places.attention_norm, saved.each_ref(), &dy, &dsum);
        let dprojected = self.dropout_backward(recording, pass, dropout_places(layer)[1], &dsum);

        let [x, query, key, value, context, log_sums] =
            [&act.outputs[layer], &inner.query, &inner.key, &inner.value, &inner.context, &inner.log_sums]
                .map(Slice::from);
        // The gradient of the part's output is no longer needed: its place takes that of the heads' results.
        let [dcontext, delta, dquery, dkey, dvalue] =
            [&back.middle, &back.delta, &back.query, &back.key, &back.value].map(Slice::from);
        let sizes = [rows, hidden, hidden];
        let output = places.attention_output;
        self.dense_parameter_gradients(recording, pass, output, sizes, &dprojected, &context);
        self.dense_input_gradient(recording, output, sizes, &dprojected, &dcontext, Epilogue::None);
        attention::record_backward(
            recording,
            self.heads(pass, layer),
            attention::Saved {
                q: &query,
                k: &key,
                v: &value,
                out: &context,
                lse: &log_sums,
                offsets: &pass.batch.offsets,
            },
            attention::Gradients { dout: &dcontext, delta: &delta, dq: &dquery, dk: &dkey, dv: &dvalue },
        );
        for (places, dy) in [(places.query, &dquery), (places.key, &dkey), (places.value, &dvalue)] {
            self.dense_parameter_gradients(recording, pass, places, sizes, dy, &x);
            self.dense_input_gradient(recording, places, sizes, dy, &dsum, Epilogue::Accumulate);
        }
    }
}
