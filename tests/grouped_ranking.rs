//! A model whose rows are in another order than its labels ranks and leaves out labels, not rows.

mod support;

use regrow::classifier::Ranker;
use regrow::config::Config;
use regrow::data::{Batch, MicroBatch};
use regrow::train::{EncoderSizes, FeedSizes, Model, ModelSizes, RowOrder};
use support::device::engines;

const LABELS: usize = 21;
const FEATURES: usize = 6;
const FAN_IN: usize = 3;
const GROUP: usize = 8;
const DOCUMENTS: usize = 3;

/// Labels that each document leaves out; 40 is a label that the model does not have.
const FILTER: [&[u32]; DOCUMENTS] = [&[0, 5, 20], &[], &[7, 40]];

fn sizes() -> ModelSizes {
    ModelSizes {
        encoder: EncoderSizes::Features(FEATURES),
        labels: LABELS,
        auxiliary: None,
        train_batch: 0,
        feed: FeedSizes { filtered: 5, ..FeedSizes::of_documents(DOCUMENTS, DOCUMENTS, 1) },
        bias_init: -0.5,
        // Two blocks: of two groups, and of one that is not whole.
        max_block_rows: 16,
    }
}

#[test]
fn ranking_names_labels_not_rows() {
    let settings = ["encoder.kind=features", "encoder.features=nowhere", "classifier.fan_in=3"];
    let group = format!("classifier.group={GROUP}");
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).chain([group]).collect();
    let config = Config::with_settings(&settings).unwrap();
    let label_of_row: Vec<u32> = (0..LABELS as u32).map(|row| row * 8 % LABELS as u32).collect();
    let features: Vec<f32> =
        (0..DOCUMENTS * FEATURES).map(|i| (i * 7 % 11) as f32 - 4.0 + i as f32 / 32.0).collect();
    let batch = Batch {
        documents: (0..DOCUMENTS as u32).collect(),
        features: features.clone(),
        micro_batches: vec![MicroBatch {
            offsets: vec![0; DOCUMENTS + 1],
            bucket_offsets: vec![0],
            ..MicroBatch::default()
        }],
        ..Batch::default()
    };
    for (engine, device) in engines() {
        let mut model = Model::new(device, &config, sizes()).unwrap();
        model.row_order = Some(RowOrder::new(label_of_row.clone()).unwrap());
        let layer = model.classifier.fan_in().expect("a fixed fan-in layer").contents(device).unwrap();
        let ranker = Ranker::new(device, &model.classifier, LABELS, DOCUMENTS).unwrap();
        let ranked = model.rank(device, &ranker, &batch, &|document| FILTER[document].to_vec()).unwrap();
        for (document, list) in ranked.collect(device).unwrap().into_iter().enumerate() {
            let h = &features[document * FEATURES..][..FEATURES];
            let logit = |row: usize| -> f64 {
                let indices = &layer.indices[row / GROUP * FAN_IN..][..FAN_IN];
                let weights = &layer.weights[row * FAN_IN..][..FAN_IN];
                let terms = weights.iter().zip(indices);
                let sum: f64 = terms.map(|(w, i)| f64::from(*w) * f64::from(h[usize::from(*i)])).sum();
                f64::from(layer.bias[row]) + sum
            };
            let mut truth: Vec<(u32, f64)> =
                label_of_row.iter().enumerate().map(|(row, label)| (*label, logit(row))).collect();
            truth.retain(|(label, _)| !FILTER[document].contains(label));
            truth.sort_by(|a, b| b.1.total_cmp(&a.1));
            let place = format!("document {document} on {engine}");
            let (labels, wanted): (Vec<u32>, Vec<u32>) = (
                list.iter().map(|(label, _)| *label).collect(),
                truth.iter().map(|(label, _)| *label).collect(),
            );
            assert_eq!(labels, wanted, "{place}");
            // Four roundings of sums below 4.
            for ((_, got), (_, truth)) in list.iter().zip(&truth) {
                assert!((f64::from(*got) - truth).abs() < 4.0 * 4.0 * 6e-8, "{place}: {got} and {truth}");
            }
        }
    }
}
