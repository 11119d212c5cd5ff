//! The trained tensors of a transformer, found by what they do.

use super::TransformerOptions;
use crate::device::{Buffer, Device, Slice};
use crate::encoder::Parameter;
use crate::encoder::parameter::normal;
use crate::error::Result;
use crate::pretrained::{EncoderTensors, TensorRole};

/// Beginning of the tensors' names in regrow's own files.
pub const PREFIX: &str = "encoder.";

/// A matrix with its bias, or a norm with its shift: places in the list of parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) weight: usize,
    pub(super) bias: usize,
}

/// Places of the embeddings' tensors.
#[derive(Clone, Copy, Debug)]
pub(super) struct EmbeddingPlaces {
    pub(super) word: usize,
    pub(super) position: usize,
    pub(super) token_type: Option<usize>,
    pub(super) norm: Pair,
}

/// Places of a layer's tensors.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerPlaces {
    pub(super) query: Pair,
    pub(super) key: Pair,
    pub(super) value: Pair,
    pub(super) attention_output: Pair,
    pub(super) attention_norm: Pair,
    pub(super) intermediate: Pair,
    pub(super) output: Pair,
    pub(super) output_norm: Pair,
}

fn pair(tensors: &EncoderTensors, weight: TensorRole, bias: TensorRole, layer: Option<usize>) -> Pair {
    let place = |role| tensors.index_of(role, layer).expect("every family has it");
    Pair { weight: place(weight), bias: place(bias) }
}

impl EmbeddingPlaces {
    fn of(tensors: &EncoderTensors) -> Self {
        use TensorRole as Role;
        let place = |role| tensors.index_of(role, None);
        Self {
            word: place(Role::Word).expect("every family has it"),
            position: place(Role::Position).expect("every family has it"),
            token_type: place(Role::TokenType),
            norm: pair(tensors, Role::EmbeddingNormWeight, Role::EmbeddingNormBias, None),
        }
    }
}

impl LayerPlaces {
    fn of(tensors: &EncoderTensors, layer: usize) -> Self {
        use TensorRole as Role;
        let pair = |weight, bias| pair(tensors, weight, bias, Some(layer));
        Self {
            query: pair(Role::QueryWeight, Role::QueryBias),
            key: pair(Role::KeyWeight, Role::KeyBias),
            value: pair(Role::ValueWeight, Role::ValueBias),
            attention_output: pair(Role::AttentionOutputWeight, Role::AttentionOutputBias),
            attention_norm: pair(Role::AttentionNormWeight, Role::AttentionNormBias),
            intermediate: pair(Role::IntermediateWeight, Role::IntermediateBias),
            output: pair(Role::OutputWeight, Role::OutputBias),
            output_norm: pair(Role::OutputNormWeight, Role::OutputNormBias),
        }
    }
}

/// Every tensor, and the gradients of those that are trained.
pub(super) struct Parameters {
    pub(super) list: Vec<Parameter>,
    pub(super) gradients: Vec<Option<Buffer>>,
    pub(super) embeddings: EmbeddingPlaces,
    pub(super) layers: Vec<LayerPlaces>,
}

impl Parameters {
    pub(super) fn allocate(device: &Device, o: &TransformerOptions) -> Result<Self> {
        let tensors = EncoderTensors::of(&o.architecture);
        let mut list = Vec::new();
        let mut gradients = Vec::new();
        for tensor in tensors.iter() {
            let stage = tensor.layer.map_or(0, |layer| layer + 1);
            let trained = o.train && stage >= o.frozen_stages;
            let name = format!("{PREFIX}{}", tensor.name);
            let mut extents = tensor.shape.clone();
            if tensor.role == TensorRole::Word {
                // Only the rows of the batch's tokens.
                extents[0] = extents[0].min(o.max_unique);
            }
            let bytes = (extents.iter().product::<usize>() * 4) as u64;
            let label = format!("gradient of {name}");
            gradients.push(trained.then(|| device.allocate(&label, bytes)).transpose()?);
            list.push(Parameter::allocate(device, name, tensor.shape.clone(), trained.then_some(o.states))?);
        }
        Ok(Self {
            list,
            gradients,
            embeddings: EmbeddingPlaces::of(&tensors),
            layers: (0..o.architecture.layers).map(|layer| LayerPlaces::of(&tensors, layer)).collect(),
        })
    }

    pub(super) fn start_from_scratch(&self, device: &Device, seed: u64) -> Result<()> {
        const DEVIATION: f32 = 0.02;
        for (stream, tensor) in self.list.iter().enumerate() {
            if tensor.shape.len() == 2 {
                tensor.write(device, &normal(seed, stream as u32, tensor.len(), DEVIATION))?;
            }
        }
        let norms = self.layers.iter().flat_map(|layer| [layer.attention_norm, layer.output_norm]);
        for norm in norms.chain([self.embeddings.norm]) {
            let tensor = &self.list[norm.weight];
            tensor.write(device, &vec![1.0; tensor.len()])?;
        }
        Ok(())
    }

    pub(super) fn values(&self, place: usize) -> Slice {
        (&self.list[place].values).into()
    }

    /// The gradient of a tensor that is trained.
    pub(super) fn gradient(&self, place: usize) -> Slice {
        self.gradients[place].as_ref().expect("backward stops above what is frozen").into()
    }

    /// Each gradient with its numbers, when the batch has `unique` different tokens.
    pub(super) fn counted_gradients(&self, unique: usize) -> impl Iterator<Item = (usize, &Buffer)> {
        self.list.iter().zip(&self.gradients).enumerate().filter_map(move |(i, (tensor, gradient))| {
            let count = if i == self.embeddings.word { unique * tensor.shape[1] } else { tensor.len() };
            gradient.as_ref().map(|gradient| (count, gradient))
        })
    }
}
