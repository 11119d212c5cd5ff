//! TF-IDF of training documents over the tokens of the token cache.

use rayon::prelude::*;

use crate::data::split::Split;

/// What makes the tokens of a document its TF-IDF vector.
///
/// With tf the occurrences of a token in a document, df the documents that have it and N the number of documents, the
/// entry is tf · ln(N / df), and the whole is scaled to length 1. What every document has, such as special tokens,
/// weighs nothing.
pub(super) struct TermWeights {
    /// ln(N / df) of each term; 0 where no document has it. \[V\]
    pub(super) idf: Vec<f32>,
    /// 1 / length of each document's tf · idf; 0 where that is 0. \[N\]
    pub(super) scale: Vec<f32>,
}

impl TermWeights {
    pub(super) fn of_split(split: &Split) -> Self {
        let idf = inverse_document_frequencies(split);
        let scale = (0..split.len()).into_par_iter().map(|document| scale(split.tokens(document), &idf));
        let scale = scale.collect();
        Self { idf, scale }
    }
}

fn inverse_document_frequencies(split: &Split) -> Vec<f32> {
    let documents = 0..split.len();
    let terms = documents.clone().flat_map(|d| split.tokens(d)).max().map_or(0, |term| *term as usize + 1);
    let mut frequency = vec![0_u32; terms];
    // The last document that was counted for a term, from 1.
    let mut counted = vec![0_u32; terms];
    for document in documents {
        for &term in split.tokens(document) {
            if counted[term as usize] != document as u32 + 1 {
                counted[term as usize] = document as u32 + 1;
                frequency[term as usize] += 1;
            }
        }
    }
    let all = split.len() as f64;
    let idf = |frequency: u32| if frequency == 0 { 0.0 } else { (all / f64::from(frequency)).ln() as f32 };
    frequency.into_iter().map(idf).collect()
}

fn scale(tokens: &[u32], idf: &[f32]) -> f32 {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    let square = |run: &[u32]| (run.len() as f64 * f64::from(idf[run[0] as usize])).powi(2);
    let length = sorted.chunk_by(|a, b| a == b).map(square).sum::<f64>().sqrt();
    if length > 0.0 { (1.0 / length) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three documents: term 0 in all, term 1 in two, terms 2 and 3 in one. ln(3/3) = 0, ln(3/2) = 0.405465, ln 3 =
    /// 1.098612.
    #[test]
    fn three_documents_by_hand() {
        let none: &[u32] = &[];
        let split = Split::from_documents([(vec![0, 1, 2, 1], none), (vec![3, 0, 1], none), (vec![0], none)]);
        let weights = TermWeights::of_split(&split);
        let near = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} is not {b}");
        [0.0, 0.405_465_1, 1.098_612_3, 1.098_612_3]
            .into_iter()
            .zip(&weights.idf)
            .for_each(|(want, got)| near(*got, want));
        // Lengths: √((2 · 0.405465)² + 1.098612²) = 1.365488, √(0.405465² + 1.098612²) = 1.171047, and 0.
        near(weights.scale[0], 1.0 / 1.365_487_7);
        near(weights.scale[1], 1.0 / 1.171_046_9);
        assert_eq!(weights.scale[2], 0.0);
    }
}
