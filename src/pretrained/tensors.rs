//! The tensors of an encoder: what each is for, its name in Hugging Face files, its shape.

use super::architecture::{Architecture, Family};

/// What a tensor is for, whatever its family calls it. Dense weights are \[outputs, inputs\].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorRole {
    /// Word embeddings \[vocabulary, hidden\].
    Word,
    /// Position embeddings \[positions, hidden\].
    Position,
    /// Token type embeddings \[token_types, hidden\].
    TokenType,
    /// Scale of the norm of the embeddings \[hidden\].
    EmbeddingNormWeight,
    /// Shift of the norm of the embeddings \[hidden\].
    EmbeddingNormBias,
    /// Queries \[hidden, hidden\].
    QueryWeight,
    /// Queries \[hidden\].
    QueryBias,
    /// Keys \[hidden, hidden\].
    KeyWeight,
    /// Keys \[hidden\].
    KeyBias,
    /// Values \[hidden, hidden\].
    ValueWeight,
    /// Values \[hidden\].
    ValueBias,
    /// The dense layer after attention \[hidden, hidden\].
    AttentionOutputWeight,
    /// The dense layer after attention \[hidden\].
    AttentionOutputBias,
    /// Scale of the norm after attention \[hidden\].
    AttentionNormWeight,
    /// Shift of the norm after attention \[hidden\].
    AttentionNormBias,
    /// The first feed-forward layer \[intermediate, hidden\].
    IntermediateWeight,
    /// The first feed-forward layer \[intermediate\].
    IntermediateBias,
    /// The second feed-forward layer \[hidden, intermediate\].
    OutputWeight,
    /// The second feed-forward layer \[hidden\].
    OutputBias,
    /// Scale of the norm at the end of a layer \[hidden\].
    OutputNormWeight,
    /// Shift of the norm at the end of a layer \[hidden\].
    OutputNormBias,
}

impl TensorRole {
    /// The roles that an encoder has once.
    pub const EMBEDDINGS: [Self; 5] =
        [Self::Word, Self::Position, Self::TokenType, Self::EmbeddingNormWeight, Self::EmbeddingNormBias];

    /// The roles that every layer has.
    pub const LAYER: [Self; 16] = [
        Self::QueryWeight,
        Self::QueryBias,
        Self::KeyWeight,
        Self::KeyBias,
        Self::ValueWeight,
        Self::ValueBias,
        Self::AttentionOutputWeight,
        Self::AttentionOutputBias,
        Self::AttentionNormWeight,
        Self::AttentionNormBias,
        Self::IntermediateWeight,
        Self::IntermediateBias,
        Self::OutputWeight,
        Self::OutputBias,
        Self::OutputNormWeight,
        Self::OutputNormBias,
    ];

    /// Its name after the prefix of the embeddings or of its layer.
    fn name(self, family: Family) -> &'static str {
        let (bert, distilbert) = match self {
            Self::Word => ("word_embeddings.weight", "word_embeddings.weight"),
            Self::Position => ("position_embeddings.weight", "position_embeddings.weight"),
            Self::TokenType => ("token_type_embeddings.weight", "token_type_embeddings.weight"),
            Self::EmbeddingNormWeight => ("LayerNorm.weight", "LayerNorm.weight"),
            Self::EmbeddingNormBias => ("LayerNorm.bias", "LayerNorm.bias"),
            Self::QueryWeight => ("attention.self.query.weight", "attention.q_lin.weight"),
            Self::QueryBias => ("attention.self.query.bias", "attention.q_lin.bias"),
            Self::KeyWeight => ("attention.self.key.weight", "attention.k_lin.weight"),
            Self::KeyBias => ("attention.self.key.bias", "attention.k_lin.bias"),
            Self::ValueWeight => ("attention.self.value.weight", "attention.v_lin.weight"),
            Self::ValueBias => ("attention.self.value.bias", "attention.v_lin.bias"),
            Self::AttentionOutputWeight => ("attention.output.dense.weight", "attention.out_lin.weight"),
            Self::AttentionOutputBias => ("attention.output.dense.bias", "attention.out_lin.bias"),
            Self::AttentionNormWeight => ("attention.output.LayerNorm.weight", "sa_layer_norm.weight"),
            Self::AttentionNormBias => ("attention.output.LayerNorm.bias", "sa_layer_norm.bias"),
            Self::IntermediateWeight => ("intermediate.dense.weight", "ffn.lin1.weight"),
            Self::IntermediateBias => ("intermediate.dense.bias", "ffn.lin1.bias"),
            Self::OutputWeight => ("output.dense.weight", "ffn.lin2.weight"),
            Self::OutputBias => ("output.dense.bias", "ffn.lin2.bias"),
            Self::OutputNormWeight => ("output.LayerNorm.weight", "output_layer_norm.weight"),
            Self::OutputNormBias => ("output.LayerNorm.bias", "output_layer_norm.bias"),
        };
        if family == Family::DistilBert { distilbert } else { bert }
    }

    fn shape(self, of: &Architecture) -> Vec<usize> {
        match self {
            Self::Word => vec![of.vocabulary, of.hidden],
            Self::Position => vec![of.positions, of.hidden],
            Self::TokenType => vec![of.token_types, of.hidden],
            Self::QueryWeight | Self::KeyWeight | Self::ValueWeight | Self::AttentionOutputWeight => {
                vec![of.hidden, of.hidden]
            }
            Self::IntermediateWeight => vec![of.intermediate, of.hidden],
            Self::IntermediateBias => vec![of.intermediate],
            Self::OutputWeight => vec![of.hidden, of.intermediate],
            Self::EmbeddingNormWeight
            | Self::EmbeddingNormBias
            | Self::QueryBias
            | Self::KeyBias
            | Self::ValueBias
            | Self::AttentionOutputBias
            | Self::AttentionNormWeight
            | Self::AttentionNormBias
            | Self::OutputBias
            | Self::OutputNormWeight
            | Self::OutputNormBias => vec![of.hidden],
        }
    }
}

/// A tensor of an encoder; float32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderTensor {
    /// Its name in the family's base model, without prefix.
    pub name: String,
    /// Its extents, outermost first; row-major.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: TensorRole,
    /// Its layer, from 0; none for embeddings.
    pub layer: Option<usize>,
}

/// All tensors of an encoder in their fixed order: embeddings, then layer by layer, each in the order of
/// [`TensorRole`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderTensors {
    tensors: Vec<EncoderTensor>,
}

impl EncoderTensors {
    /// The tensors of that architecture.
    #[must_use]
    pub fn of(architecture: &Architecture) -> Self {
        let family = architecture.family;
        let tensor = |role: TensorRole, prefix: &str, layer| EncoderTensor {
            name: format!("{prefix}.{}", role.name(family)),
            shape: role.shape(architecture),
            role,
            layer,
        };
        let has = |role: &TensorRole| *role != TensorRole::TokenType || architecture.token_types > 0;
        let embeddings = TensorRole::EMBEDDINGS.into_iter().filter(has);
        let mut tensors: Vec<_> = embeddings.map(|role| tensor(role, "embeddings", None)).collect();
        for layer in 0..architecture.layers {
            let prefix = match family {
                Family::DistilBert => format!("transformer.layer.{layer}"),
                Family::Bert | Family::Roberta => format!("encoder.layer.{layer}"),
            };
            tensors.extend(TensorRole::LAYER.map(|role| tensor(role, &prefix, Some(layer))));
        }
        Self { tensors }
    }

    /// The tensors in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &EncoderTensor> {
        self.tensors.iter()
    }

    /// The place of a tensor in the order, if the encoder has it. Embeddings have no layer.
    #[must_use]
    pub fn index_of(&self, role: TensorRole, layer: Option<usize>) -> Option<usize> {
        self.tensors.iter().position(|tensor| tensor.role == role && tensor.layer == layer)
    }

    /// A tensor, if the encoder has it. Embeddings have no layer.
    #[must_use]
    pub fn get(&self, role: TensorRole, layer: Option<usize>) -> Option<&EncoderTensor> {
        self.index_of(role, layer).map(|index| &self.tensors[index])
    }
}
