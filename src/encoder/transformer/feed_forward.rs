//! The feed-forward part of a layer: two dense layers with an activation between them, residual, norm.

use super::parameters::Pair;
use super::{Pass, Transformer};
use crate::device::{Recording, Slice};
use crate::kernels::matmul::Layout;
use crate::kernels::products::{Epilogue, Operand, Product};
use crate::kernels::{
    activation, add_norm, column_sum, dropout_rows, layer_norm_backward, layer_norm_parameters,
};

/// Place of the dropout of a layer's output.
fn dropout_place(layer: usize) -> usize {
    4 + 3 * layer
}

impl Transformer {
    /// output = LayerNorm(x + dropout(act(x·W₁ᵀ + b₁)·W₂ᵀ + b₂)), x the attention part's output.
    pub(super) fn feed_forward_forward(&self, recording: &mut Recording, pass: &Pass<'_>, layer: usize) {
        let (a, act) = (self.o.architecture, &self.activations);
        let (inner, scratch, places) = (&act.inner[layer], &act.scratch, self.parameters.layers[layer]);
        let (rows, hidden) = (pass.batch.count, a.hidden);
        let [x, before, activated, projected] =
            [&inner.attention_normed, &inner.intermediate, &scratch.activated, &scratch.projected]
                .map(Slice::from);
        let bias = self.parameters.values(places.intermediate.bias);
        self.o.products.record(
            recording,
            Product {
                sizes: [rows, a.intermediate, hidden],
                layout: Layout::Nt,
                a: &x,
                b: &self.parameters.values(places.intermediate.weight),
                c: &before,
                epilogue: Epilogue::BiasActivation {
                    bias: &bias,
                    activation: a.activation,
                    activated: &activated,
                },
                gradient: None,
            },
        );
        self.dense_forward(recording, places.output, [rows, hidden, a.intermediate], &activated, &projected);
        let [sum, output, stats] =
            [&inner.output_sum, &act.outputs[layer + 1], &inner.output_stats].map(Slice::from);
        let dropout = self.hidden_dropout(pass, dropout_place(layer));
        let [gamma, beta] =
            [places.output_norm.weight, places.output_norm.bias].map(|place| self.parameters.values(place));
        let bindings = [&projected, &x, &gamma, &beta, &sum, &output, &stats];
        recording.launch(add_norm::launch(rows, hidden, a.norm_epsilon as f32, dropout, bindings));
    }

    /// From the gradient of the layer's output, in `grad`, to that of the attention part's output, in `middle`.
    pub(super) fn feed_forward_backward(&self, recording: &mut Recording, pass: &Pass<'_>, layer: usize) {
        let (a, act) = (self.o.architecture, &self.activations);
        let (inner, back, places) = (&act.inner[layer], &act.backward, self.parameters.layers[layer]);
        let (rows, hidden) = (pass.batch.count, a.hidden);
        let [dy, dsum] = [&back.grad, &back.middle].map(Slice::from);
        let saved = [&inner.output_sum, &inner.output_stats].map(Slice::from);
        self.norm_backward(recording, pass, places.output_norm, saved.each_ref(), &dy, &dsum);
        let dprojected = self.dropout_backward(recording, pass, dropout_place(layer), &dsum);

        let [x, before, activated] =
            [&inner.attention_normed, &inner.intermediate, &act.scratch.activated].map(Slice::from);
        let [dactivated, dbefore] = [&back.activated, &back.intermediate].map(Slice::from);
        let sizes = [rows, hidden, a.intermediate];
        self.dense_input_gradient(recording, places.output, sizes, &dprojected, &dactivated, Epilogue::None);
        let count = rows * a.intermediate;
        let (activation, keep) = (a.activation, Some(&activated));
        recording.launch(activation::backward(activation, count, &before, &dactivated, &dbefore, keep));
        self.dense_parameter_gradients(recording, pass, places.output, sizes, &dprojected, &activated);
        let sizes = [rows, a.intermediate, hidden];
        self.dense_parameter_gradients(recording, pass, places.intermediate, sizes, &dbefore, &x);
        self.dense_input_gradient(
            recording,
            places.intermediate,
            sizes,
            &dbefore,
            &dsum,
            Epilogue::Accumulate,
        );
    }

    /// y [rows, n] = x [rows, k] · Wᵀ + b.
    pub(super) fn dense_forward(
        &self,
        recording: &mut Recording,
        places: Pair,
        sizes: [usize; 3],
        x: &Slice,
        y: &Slice,
    ) {
        let weight = self.parameters.values(places.weight);
        let bias = self.parameters.values(places.bias);
        let epilogue = Epilogue::Bias(&bias);
        let product = Product { sizes, layout: Layout::Nt, a: x, b: &weight, c: y, epilogue, gradient: None };
        self.o.products.record(recording, product);
    }

    /// dx [rows, k] (+)= dy [rows, n] · W, of a dense layer with sizes [rows, n, k].
    pub(super) fn dense_input_gradient(
        &self,
        recording: &mut Recording,
        places: Pair,
        [rows, n, k]: [usize; 3],
        dy: &Slice,
        dx: &Slice,
        epilogue: Epilogue<'_>,
    ) {
        let weight = self.parameters.values(places.weight);
        let sizes = [rows, k, n];
        let product = Product {
            sizes,
            layout: Layout::Nn,
            a: dy,
            b: &weight,
            c: dx,
            epilogue,
            gradient: Some(Operand::A),
        };
        self.o.products.record(recording, product);
    }

    /// dW [n, k] (+)= dyᵀ · x and db (+)= the column sums of dy, of a dense layer with sizes [rows, n, k].
    pub(super) fn dense_parameter_gradients(
        &self,
        recording: &mut Recording,
        pass: &Pass<'_>,
        places: Pair,
        [rows, n, k]: [usize; 3],
        dy: &Slice,
        x: &Slice,
    ) {
        let [dweight, dbias] = [places.weight, places.bias].map(|place| self.parameters.gradient(place));
        let epilogue = if pass.accumulate { Epilogue::Accumulate } else { Epilogue::None };
        let sizes = [n, k, rows];
        let product = Product {
            sizes,
            layout: Layout::Tn,
            a: dy,
            b: x,
            c: &dweight,
            epilogue,
            gradient: Some(Operand::A),
        };
        self.o.products.record(recording, product);
        recording.launch(column_sum::launch(rows, n, dy, &dbias, pass.accumulate));
    }

    /// Gradients of a norm's γ and β, and of its input, from that of its output.
    pub(super) fn norm_backward(
        &self,
        recording: &mut Recording,
        pass: &Pass<'_>,
        places: Pair,
        [sum, stats]: [&Slice; 2],
        dy: &Slice,
        dsum: &Slice,
    ) {
        let (rows, hidden) = (pass.batch.count, self.o.architecture.hidden);
        let [dgamma, dbeta] = [places.weight, places.bias].map(|place| self.parameters.gradient(place));
        let bindings = [sum, stats, dy, &dgamma, &dbeta];
        recording.launch(layer_norm_parameters::launch(rows, hidden, bindings, pass.accumulate));
        let gamma = self.parameters.values(places.weight);
        recording.launch(layer_norm_backward::launch(rows, hidden, [sum, stats, &gamma, dy, dsum]));
    }

    /// The gradient of what a residual branch gave: behind the dropout, if there is any.
    pub(super) fn dropout_backward(
        &self,
        recording: &mut Recording,
        pass: &Pass<'_>,
        place: usize,
        dsum: &Slice,
    ) -> Slice {
        let dropout = self.hidden_dropout(pass, place);
        if dropout.probability == 0.0 {
            return dsum.clone();
        }
        let dropped = Slice::from(&self.activations.backward.dropped);
        let count = pass.batch.count * self.o.architecture.hidden;
        recording.launch(dropout_rows::launch(count, dropout, dsum, &dropped));
        dropped
    }
}
