//! Word, position and token type embeddings, their norm and dropout.

use super::{Pass, Transformer};
use crate::device::{Recording, Slice};
use crate::kernels::{
    column_sum, dropout_rows, embed_tokens, layer_norm, layer_norm_backward, layer_norm_parameters,
    position_gradient, token_gradient,
};

/// Place of the embeddings' dropout.
const DROPOUT: usize = 1;

impl Transformer {
    /// output = dropout(LayerNorm(word + position + type 0)).
    pub(super) fn embeddings_forward(&self, recording: &mut Recording, pass: &Pass<'_>) {
        let (a, batch, act) = (self.o.architecture, pass.batch, &self.activations);
        let (rows, hidden) = (batch.count, a.hidden);
        let places = self.parameters.embeddings;
        let [word, position] = [places.word, places.position].map(|place| self.parameters.values(place));
        let token_type = self.parameters.values(places.token_type.unwrap_or(places.word));
        let (sum, output) = (Slice::from(&act.embedding_sum), Slice::from(&act.outputs[0]));
        recording.launch(embed_tokens::launch(
            batch.documents,
            rows,
            hidden,
            a.first_position,
            [&batch.tokens, &batch.offsets, &word, &position, &token_type, &sum],
            places.token_type.is_some(),
        ));
        let dropout = self.hidden_dropout(pass, DROPOUT);
        let [gamma, beta] = [places.norm.weight, places.norm.bias].map(|place| self.parameters.values(place));
        let stats = Slice::from(&act.embedding_stats);
        let normed = if dropout.probability > 0.0 { (&act.embedding_normed).into() } else { output.clone() };
        let bindings = [&sum, &gamma, &beta, &normed, &stats];
        recording.launch(layer_norm::launch(rows, hidden, a.norm_epsilon as f32, bindings));
        if dropout.probability > 0.0 {
            recording.launch(dropout_rows::launch(rows * hidden, dropout, &normed, &output));
        }
    }

    /// From the gradient of the output, in `grad`, to the gradients of the tables and the norm.
    pub(super) fn embeddings_backward(&self, recording: &mut Recording, pass: &Pass<'_>) {
        let (a, batch, act, back) =
            (self.o.architecture, pass.batch, &self.activations, &self.activations.backward);
        let (rows, hidden) = (batch.count, a.hidden);
        let places = self.parameters.embeddings;
        let dropout = self.hidden_dropout(pass, DROPOUT);
        let mut dnormed = Slice::from(&back.grad);
        if dropout.probability > 0.0 {
            let dropped = Slice::from(&back.dropped);
            recording.launch(dropout_rows::launch(rows * hidden, dropout, &dnormed, &dropped));
            dnormed = dropped;
        }
        let [sum, stats, dsum] = [&act.embedding_sum, &act.embedding_stats, &back.middle].map(Slice::from);
        let [dgamma, dbeta] =
            [places.norm.weight, places.norm.bias].map(|place| self.parameters.gradient(place));
        let bindings = [&sum, &stats, &dnormed, &dgamma, &dbeta];
        recording.launch(layer_norm_parameters::launch(rows, hidden, bindings, pass.accumulate));
        let gamma = self.parameters.values(places.norm.weight);
        recording.launch(layer_norm_backward::launch(rows, hidden, [&sum, &stats, &gamma, &dnormed, &dsum]));
        let [dword, dposition] = [places.word, places.position].map(|place| self.parameters.gradient(place));
        let bindings = [&dsum, &batch.bucket_offsets, &batch.bucket_positions, &dword];
        recording.launch(token_gradient::launch(batch.unique, hidden, bindings, pass.accumulate));
        recording.launch(position_gradient::launch(
            batch.documents,
            rows,
            a.positions,
            hidden,
            a.first_position,
            [&dsum, &batch.offsets, &dposition],
            pass.accumulate,
        ));
        if let Some(token_type) = places.token_type {
            // Every token is of type 0: the first row; the others never change.
            let gradient = self.parameters.gradient(token_type);
            recording.launch(column_sum::launch(rows, hidden, &dsum, &gradient, pass.accumulate));
        }
    }
}
