//! The step of a layer that is cut into blocks, chunks and windows, on every engine, against f64.

mod support;

use regrow::classifier::{Contents, FanIn, FanInOptions, InvertedIndex, Loss, Positives, Step, StepScale};
use regrow::device::{Device, DeviceKind, Recording};
use regrow::kernels::fan_in_dlogits::Block;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::storage::{Precision, Storage};
use support::device::{assert_close, engines, gpu_plain, sum_tolerance, upload, writable};
use support::layer::{Hyper, Layer};

/// So large that few labels fill a chunk on software Vulkan, and that the features' gradient is cut into windows elsewhere.
const MAX_BATCH: usize = 8192;
const SCALE: f32 = 0.25;

/// After a step: (weights, biases, gradient of the features, losses).
fn step(
    device: &Device,
    layer: &Layer,
    (max_block_rows, max_batch): (usize, usize),
    inverted_index: InvertedIndex,
) -> (Contents, Vec<f32>, Vec<f32>) {
    let Block { rows, fan_in, group, batch, precision, .. } = layer.block;
    let options = FanInOptions {
        labels: rows,
        features: layer.features,
        fan_in,
        group,
        max_batch,
        rule: Rule::Sgd,
        precision,
        train_bias: true,
        init_scale: 1.0,
        bias_init: 0.0,
        seed: 3,
        max_block_rows,
        inverted_index,
    };
    let head = FanIn::allocate(device, options).unwrap();
    let stride = fan_in.next_multiple_of(2);
    let indices = layer.indices.chunks_exact(stride).flat_map(|row| row[..fan_in].to_vec()).collect();
    let contents = Contents { weights: layer.weights.clone(), indices, bias: layer.bias.clone() };
    head.set_contents(device, &contents).unwrap();
    let area = layer.features * layer.columns();
    let before: Vec<f32> = (0..area).map(|i| i as f32 / area as f32).collect();
    let (dx, losses) = (writable(device, &before), writable(device, &[1.0_f32, 2.0, 3.0, 4.0]));
    let positives =
        Positives { count: layer.positives.len(), pairs: upload(device, layer.positives.as_flattened()) };
    let mut recording = Recording::new();
    let step = Step {
        batch,
        loss: Loss::Bce,
        scale: StepScale { gradient: SCALE, loss: 0.5, place: 1 },
        step: 0,
        rates: Hyper::SAMPLE.rates(Rule::Sgd),
        positives: &positives,
        x: &upload(device, &layer.x),
        dx: &dx.whole(),
        losses: &losses.whole(),
    };
    head.record_step(&mut recording, &step);
    device.submit(recording).unwrap();
    let read = |buffer, count| device.read_vec::<f32>(buffer, count).unwrap();
    (head.contents(device).unwrap(), read(&dx, area), read(&losses, 4))
}

/// What a step of [`step`] should give, in f64.
struct Truth {
    weights: Vec<f64>,
    bias: Vec<f64>,
    dx: Vec<f64>,
    ring: [f64; 4],
    /// Terms of a logit's sum, and labels, which may all send to one feature.
    terms: usize,
    rows: usize,
}

impl Truth {
    fn of(layer: &Layer) -> Self {
        let block = layer.block;
        let (losses, mut dlogits) = layer.loss(Loss::Bce);
        dlogits.iter_mut().for_each(|g| *g *= f64::from(SCALE));
        let terms = block.fan_in + layer.columns() + 8;
        let sgd = |p: &f32, g: f64, hyper: Hyper| hyper.step(Rule::Sgd, f64::from(*p), g, 0.0, 0.0)[0];
        let gradients = layer.weight_gradient(&dlogits);
        let weights: Vec<f64> =
            layer.weights.iter().zip(gradients).map(|(p, g)| sgd(p, g, Hyper::SAMPLE)).collect();
        let no_decay = Hyper { weight_decay: 0.0, ..Hyper::SAMPLE };
        let gradients = dlogits.chunks(layer.columns()).map(|row| row.iter().sum::<f64>());
        let bias: Vec<f64> = layer.bias.iter().zip(gradients).map(|(p, g)| sgd(p, g, no_decay)).collect();
        let mut dx = layer.feature_gradient(&dlogits);
        let area = dx.len() as f64;
        dx.iter_mut().enumerate().for_each(|(i, dx)| *dx += i as f64 / area);
        let ring = [1.0, 2.0 + 0.5 * losses.iter().sum::<f64>(), 3.0, 4.0];
        Self { weights, bias, dx, ring, terms, rows: block.rows }
    }

    fn check(&self, case: &str, (contents, dx, losses): &(Contents, Vec<f32>, Vec<f32>)) {
        let close = |name: &str, got: &[f32], truth: &[f64], terms: usize| {
            assert_close(&format!("{case}, {name}"), got, truth, sum_tolerance(terms, truth));
        };
        close("weights", &contents.weights, &self.weights, self.terms);
        close("bias", &contents.bias, &self.bias, self.terms);
        close("dx", dx, &self.dx, self.rows + 8);
        close("losses", losses, &self.ring, self.terms);
    }
}

#[test]
fn blocks_chunks_and_windows_together_are_the_layer() {
    // The last one's losses are so many that they are added up by columns first, and some remain.
    let cases = [(200, 1, 7, 0), (333, 3, 33, 0), (500, 2, 16, 210), (70, 1, 130, 0), (1100, 2, 50, 0)];
    let storages = [Storage::F32, Storage::F16];
    let cases = cases.into_iter().flat_map(|case| storages.map(|features| (case, features)));
    for (seed, ((rows, group, batch, max_block_rows), features)) in cases.enumerate() {
        let precision = Precision { features, ..Precision::default() };
        let block = Block { rows, first_label: 0, fan_in: 5, group, batch, precision };
        let given = Layer::new((block, 12), seed as u64 + 60);
        let mut layer = given.clone();
        if features == Storage::F16 {
            layer.x.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32());
        }
        let truth = Truth::of(&layer);
        for (engine, device) in engines().into_iter().chain([gpu_plain()]) {
            let case = format!("{block:?}, blocks of {max_block_rows} on {engine}");
            let got = step(device, &given, (max_block_rows, MAX_BATCH), InvertedIndex::Kept);
            truth.check(&case, &got);
            let (_, again, _) = step(device, &given, (max_block_rows, MAX_BATCH), InvertedIndex::Kept);
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&got.1), bits(&again), "{case}: other bits in another run");
            let rebuilt = step(device, &given, (max_block_rows, MAX_BATCH), InvertedIndex::Rebuilt);
            truth.check(&format!("{case}, index rebuilt"), &rebuilt);
            assert_eq!(bits(&got.1), bits(&rebuilt.1), "{case}: other bits with an index that is rebuilt");
        }
    }
}

/// Software Vulkan, and the other engines with what the labels of a test are divided by for them: it is about the former,
/// and an emulated CUDA device takes minutes for all of them.
fn engines_by_kind() -> impl Iterator<Item = (Vec<(&'static str, &'static Device)>, usize)> {
    let all = engines().into_iter().chain([gpu_plain()]);
    let (software, others): (Vec<_>, Vec<_>) =
        all.partition(|(_, device)| device.kind() == DeviceKind::SoftwareGpu);
    [(software, 1), (others, 20)].into_iter().filter(|(engines, _)| !engines.is_empty())
}

#[test]
fn chunks_of_small_groups_are_computed_to_their_ends() {
    // More groups than a chunk takes on software Vulkan, whose loops end early and say nothing: of one connection, so many
    // that one chunk of all of them would not reach its end, and of many, which spend their rounds on other loops.
    for (rows, fan_in, group, batch) in [(300_000, 1, 8, 1), (17_000, 100, 8, 3)] {
        for (engines, divisor) in engines_by_kind() {
            let precision = Precision::default();
            let block = Block { rows: rows / divisor, first_label: 0, fan_in, group, batch, precision };
            let layer = Layer::new((block, 128), 90);
            let truth = Truth::of(&layer);
            for (engine, device) in engines {
                let got = step(device, &layer, (0, batch), InvertedIndex::Auto);
                truth.check(&format!("{block:?} on {engine}"), &got);
            }
        }
    }
}

#[test]
fn an_index_is_rebuilt_for_run_after_run_of_labels() {
    // More lists than are rebuilt at once on software Vulkan, 512 KiB, in two blocks whose ends are no ends of runs.
    for (engines, divisor) in engines_by_kind() {
        let (rows, block_rows, precision) = (20_000 / divisor, 11_000 / divisor, Precision::default());
        let block = Block { rows, first_label: 0, fan_in: 128, group: 1, batch: 3, precision };
        let layer = Layer::new((block, 200), 92);
        let truth = Truth::of(&layer);
        for (engine, device) in engines {
            let case = format!("{block:?} on {engine}");
            let of = |index| step(device, &layer, (block_rows, 3), index);
            let (kept, rebuilt) = (of(InvertedIndex::Kept), of(InvertedIndex::Rebuilt));
            truth.check(&case, &rebuilt);
            if device.kind() == DeviceKind::SoftwareGpu {
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&kept.1), bits(&rebuilt.1), "{case}");
            }
        }
    }
}

#[test]
fn features_too_many_for_partial_sums_are_trained_too() {
    // Sixteen sums of 4,096 features for 1,024 samples are 256 MiB, twice what software Vulkan binds.
    let precision = Precision::default();
    let block = Block { rows: 64, first_label: 0, fan_in: 5, group: 8, batch: 7, precision };
    let layer = Layer::new((block, 4096), 91);
    let truth = Truth::of(&layer);
    for (engine, device) in engines() {
        truth.check(
            &format!("{block:?} of 4,096 features on {engine}"),
            &step(device, &layer, (0, 1024), InvertedIndex::Auto),
        );
    }
}
