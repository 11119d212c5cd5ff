//! Times one training step of a transformer encoder with random weights: forward, backward, AdamW, dropout 0.1.
//!
//!     cargo run --release --example encoder_step -- [SHAPE [BATCH [MAX_LEN [full|short [DEVICE [STEPS]]]]]]
//!
//! SHAPE is minilm, bert or tiny. `short` draws log-normal lengths around 12 tokens; tokens are counted without
//! padding, of which there is none.

use std::time::Instant;

use regrow::config::Config;
use regrow::data::{Batch, Split};
use regrow::device::{Device, DeviceOptions, Recording};
use regrow::encoder::{Encoder, Pooling, Transformer, TransformerOptions};
use regrow::kernels::activation::Activation;
use regrow::kernels::dropout::Dropout;
use regrow::kernels::dropout_rows;
use regrow::kernels::products::{ProductOptions, Products};
use regrow::optimize::Rule;
use regrow::pretrained::{Architecture, Family};
use regrow::random::{Purpose, unit, words};
use regrow::train::{Feed, FeedSizes};

/// As BERT's uncased vocabulary.
const VOCABULARY: usize = 30_522;

fn architecture(name: &str) -> Architecture {
    let (hidden, layers, heads) = match name {
        "bert" => (768, 12, 12),
        "tiny" => (128, 2, 2),
        _ => (384, 6, 12),
    };
    Architecture {
        family: Family::Bert,
        vocabulary: VOCABULARY,
        hidden,
        layers,
        heads,
        intermediate: 4 * hidden,
        positions: 512,
        first_position: 0,
        token_types: 2,
        activation: Activation::Gelu,
        norm_epsilon: 1e-12,
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
    }
}

fn main() -> regrow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |i: usize, default: &'static str| arguments.get(i).map_or(default, String::as_str);
    let number = |i: usize, default: usize| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (shape, batch, max_len, lengths) = (text(0, "minilm"), number(1, 16), number(2, 32), text(3, "full"));
    let steps = number(5, 10);
    let device = Device::open(Some(text(4, "auto")), DeviceOptions::default())?;

    let random = |i: usize, j: usize| words(1, Purpose::Synth, 0, i as u32, j as u32);
    let length = |i: usize| {
        let [u, v, ..] = random(i, 1 << 20);
        let normal = (-2.0 * (1.0 - f64::from(unit(u))).ln()).sqrt()
            * (std::f64::consts::TAU * f64::from(unit(v))).cos();
        if lengths == "full" {
            max_len
        } else {
            ((normal * 0.5 + 12_f64.ln()).exp().round() as usize).clamp(3.min(max_len), max_len)
        }
    };
    let document = |i: usize| {
        (0..length(i)).map(|j| 1000 + random(i, j)[0] % (VOCABULARY as u32 - 1000)).collect::<Vec<_>>()
    };
    let split = Split::from_documents((0..4 * batch).map(|i| (document(i), vec![])));
    let sizes = FeedSizes::of_split(&split, batch, batch);
    let architecture = architecture(shape);
    let products = Products::choose(&device, &ProductOptions::default())?;
    let kernels = products.describe();
    let encoder = Transformer::new(
        &device,
        TransformerOptions {
            architecture,
            pooling: Pooling::Mean,
            hidden_dropout: architecture.hidden_dropout as f32,
            attention_dropout: architecture.attention_dropout as f32,
            frozen_stages: 0,
            recompute: false,
            clip_norm: 0.0,
            train: true,
            max_batch: batch,
            max_tokens: sizes.micro_tokens,
            max_unique: sizes.tokens,
            seed: 1,
            rule: Rule::AdamW,
            products,
        },
    )?;
    encoder.start_from_scratch(&device)?;
    let feed = Feed::new(&device, sizes, 0)?;
    let optimizer = Config::with_settings(&[])?.optimizer.encoder.optimizer(1000);
    let count = batch * architecture.hidden;
    let gradient = device.upload("gradient", &vec![1.0 / count as f32; count])?.whole();

    let mut seconds = Vec::new();
    let mut tokens = 0;
    for step in 0..steps + 2 {
        let rows: Vec<u32> = (0..batch).map(|i| ((step % 4) * batch + i) as u32).collect();
        let batch = Batch::assemble(&split, &rows, batch);
        let began = Instant::now();
        let mut recording = Recording::new();
        let fed = feed.record(&mut recording, &batch, &|_| Vec::new());
        encoder.forward(&mut recording, &fed.tokens, Some(step as u64));
        if let Some(to) = encoder.feature_gradient() {
            recording.launch(dropout_rows::launch(count, Dropout::OFF, &gradient, &to));
        }
        encoder.backward(&mut recording, &fed.tokens, step as u64);
        encoder.update(&mut recording, &fed.tokens, optimizer.rates(step as u64));
        device.submit(recording)?;
        device.wait()?;
        // The first steps compile shaders and touch memory for the first time.
        if step >= 2 {
            seconds.push(began.elapsed().as_secs_f64());
            tokens += batch.tokens();
        }
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    println!(
        "{shape}, batch {batch}, lengths {lengths} up to {max_len} on {} ({kernels}): median {:.1} ms, best {:.1} ms, \
         {:.0} tokens/s at the median",
        device.name(),
        median * 1e3,
        seconds[0] * 1e3,
        tokens as f64 / seconds.len() as f64 / median,
    );
    Ok(())
}
