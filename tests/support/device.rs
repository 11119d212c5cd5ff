//! The devices that tests run on, each opened once in a process, and the comparison of what they compute.

use std::sync::{Mutex, OnceLock, PoisonError};

use regrow::device::{Buffer, Device, DeviceOptions, Launch, Recording, Slice};
use regrow::kernels::inverted_index::Sort;
use regrow::kernels::{Fetch, feature_texture};
use regrow::random::{Purpose, below, unit, words};

const OPTIONS: DeviceOptions = DeviceOptions::DEFAULT;

/// A device of the process, opened when it is first asked for.
struct Shared {
    name: &'static str,
    on: Engine,
    options: DeviceOptions,
    device: OnceLock<Device>,
}

#[derive(Clone, Copy, PartialEq)]
enum Engine {
    Cpu,
    Gpu,
    Cuda,
}

impl Shared {
    const fn new(name: &'static str, on: Engine, options: DeviceOptions) -> Self {
        Self { name, on, options, device: OnceLock::new() }
    }

    fn device(&'static self) -> (&'static str, &'static Device) {
        // One after the other: some drivers crash when contexts are created at the same time.
        static OPENING: Mutex<()> = Mutex::new(());
        let open = || {
            let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
            if self.on == Engine::Cpu {
                return Device::cpu(self.options).unwrap_or_else(|error| panic!("{error}"));
            }
            if self.on == Engine::Cuda {
                return Device::cuda("cuda:0", self.options).unwrap_or_else(|error| panic!("{error}"));
            }
            Device::gpu(None, self.options).unwrap_or_else(|error| {
                panic!("{error}\nThese tests compare shaders with their CPU twins on any adapter; software will do")
            })
        };
        (self.name, self.device.get_or_init(open))
    }
}

static CPU_UNFUSED: Shared =
    Shared::new("cpu unfused", Engine::Cpu, DeviceOptions { fused: false, ..OPTIONS });
static CPU_FUSED: Shared = Shared::new("cpu fused", Engine::Cpu, OPTIONS);
static GPU_CHECKED: Shared =
    Shared::new("gpu checked", Engine::Gpu, DeviceOptions { checked: true, ..OPTIONS });
static GPU_UNCHECKED: Shared = Shared::new("gpu unchecked", Engine::Gpu, OPTIONS);
static GPU_UNIFORM: Shared = Shared::new(
    "gpu uniform parameters",
    Engine::Gpu,
    DeviceOptions { checked: true, immediates: false, ..OPTIONS },
);
static GPU_PLAIN: Shared = Shared::new(
    "gpu without optional features",
    Engine::Gpu,
    DeviceOptions { subgroups: false, integers_of_64_bits: false, textures: false, ..OPTIONS },
);
static CUDA: Shared = Shared::new("cuda", Engine::Cuda, OPTIONS);
static CUDA_UNFUSED: Shared =
    Shared::new("cuda unfused", Engine::Cuda, DeviceOptions { fused: false, ..OPTIONS });

/// Whether CUDA takes the place of wgpu, as `tests/cuda.sh` asks for.
fn on_cuda() -> bool {
    std::env::var_os("REGROW_TEST_CUDA").is_some()
}

/// The engines that everything must run on alike; the first, the unfused twins, is what the others are compared with.
pub fn engines() -> [(&'static str, &'static Device); 4] {
    if on_cuda() {
        return [&CPU_UNFUSED, &CPU_FUSED, &CUDA_UNFUSED, &CUDA].map(Shared::device);
    }
    [&CPU_UNFUSED, &CPU_FUSED, &GPU_CHECKED, &GPU_UNCHECKED].map(Shared::device)
}

/// A GPU that gets its launch parameters in a uniform buffer.
pub fn gpu_uniform() -> (&'static str, &'static Device) {
    // CUDA passes parameters in one way; an engine that is quick takes the place.
    if on_cuda() { CPU_FUSED.device() } else { GPU_UNIFORM.device() }
}

/// A GPU whose kernels do without what only software Vulkan is asked for.
pub fn gpu_plain() -> (&'static str, &'static Device) {
    if on_cuda() { CPU_FUSED.device() } else { GPU_PLAIN.device() }
}

/// A NaN that no kernel writes.
pub const GUARD: u32 = 0x7fc0_dead;

/// `values` and then what nobody must read or write: a driver may answer a read beyond a buffer with a harmless zero,
/// but a NaN shows.
fn guarded<T: bytemuck::Pod>(device: &Device, values: &[T]) -> Buffer {
    let mut bytes: Vec<u8> = bytemuck::cast_slice(values).to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let mut words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
    words.resize((words.len() + 64).next_multiple_of(4), GUARD);
    device.upload("test", &words).unwrap()
}

/// A buffer that holds `values`, as a launch's argument.
pub fn upload<T: bytemuck::Pod>(device: &Device, values: &[T]) -> Slice {
    guarded(device, values).whole()
}

/// A buffer for `len` words, full of what no kernel writes: whoever forgets an element is found out.
pub fn garbage(device: &Device, len: usize) -> Buffer {
    guarded(device, &vec![GUARD; len])
}

/// A buffer that starts as `values` and will be written.
pub fn writable<T: bytemuck::Pod>(device: &Device, values: &[T]) -> Buffer {
    guarded(device, values)
}

/// Runs launches in order.
pub fn run(device: &Device, launches: impl IntoIterator<Item = Launch>) {
    let mut recording = Recording::new();
    launches.into_iter().for_each(|launch| recording.launch(launch));
    device.submit(recording).unwrap();
}

/// The inverted indices of a layer's labels, made by their kernels: offsets [indices, offset words] and connections in 32 bits.
pub fn inverted(device: &Device, sort: Sort, indices: &Slice) -> [Buffer; 2] {
    let block = sort.block;
    let table = garbage(device, sort.table_len()).whole();
    let offsets = garbage(device, sort.lists.of(block.rows) * sort.lists.offset_words);
    let connections = garbage(device, block.index_rows() * block.fan_in);
    let mut recording = Recording::new();
    sort.record(&mut recording, [indices, &table, &offsets.whole(), &connections.whole()]);
    device.submit(recording).unwrap();
    [offsets, connections]
}

/// A unit in the last place of 1.
pub const ULP: f64 = f32::EPSILON as f64;

enum Values {
    /// Bits that must agree.
    Exact(Vec<u32>),
    /// Numbers that may differ by so much.
    Close(Vec<f32>, Tolerance),
}

#[derive(Clone, Copy)]
enum Tolerance {
    /// 4 ulps for each term of the sum that a number is, of the largest number of the tensor.
    Terms(usize),
    Absolute(f64),
}

/// What a run on one device gave.
pub struct Outputs<'a> {
    device: &'a Device,
    list: Vec<(&'static str, Values)>,
}

impl<'a> Outputs<'a> {
    pub fn of(device: &'a Device) -> Self {
        Self { device, list: Vec::new() }
    }

    /// The first `count` words, all that the buffer has before its guard.
    fn read(&self, name: &str, buffer: &Buffer, count: usize) -> Vec<u32> {
        let mut words: Vec<u32> = self.device.read_vec(buffer, (buffer.bytes() / 4) as usize).unwrap();
        let written = words[count..].iter().position(|word| *word != GUARD);
        assert_eq!(written, None, "words beyond the end of {name}, first on {}", self.device.name());
        words.truncate(count);
        words
    }

    /// `count` words that must be the same everywhere.
    pub fn exact(mut self, name: &'static str, buffer: &Buffer, count: usize) -> Self {
        let words = self.read(name, buffer, count);
        self.list.push((name, Values::Exact(words)));
        self
    }

    /// `count` numbers, each a sum of about `terms` terms, that may differ by 4 ulps of the largest for each term.
    pub fn close(mut self, name: &'static str, buffer: &Buffer, count: usize, terms: usize) -> Self {
        let values = bytemuck::cast_vec(self.read(name, buffer, count));
        self.list.push((name, Values::Close(values, Tolerance::Terms(terms))));
        self
    }

    /// `count` numbers that may differ by `tolerance`.
    pub fn within(mut self, name: &'static str, buffer: &Buffer, count: usize, tolerance: f64) -> Self {
        let values = bytemuck::cast_vec(self.read(name, buffer, count));
        self.list.push((name, Values::Close(values, Tolerance::Absolute(tolerance))));
        self
    }

    fn get(&self, name: &str) -> &Values {
        &self.list.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no output {name}")).1
    }

    /// The words of an exact output.
    pub fn words(&self, name: &str) -> &[u32] {
        match self.get(name) {
            Values::Exact(words) => words,
            Values::Close(..) => panic!("{name} is not exact"),
        }
    }

    /// The numbers of any output.
    pub fn floats(&self, name: &str) -> &[f32] {
        match self.get(name) {
            Values::Exact(words) => bytemuck::cast_slice(words),
            Values::Close(values, _) => values,
        }
    }

    /// Every output, bit by bit.
    pub fn bits(&self) -> Vec<(&'static str, Vec<u32>)> {
        self.list.iter().map(|(name, _)| (*name, bytemuck::cast_slice(self.floats(name)).to_vec())).collect()
    }
}

/// Whether all engines have the kernels for groups of labels: CUDA has a form of `fan_in_step` instead, so where it stands
/// beside the twins, groups are tested through that.
pub fn group_kernels() -> bool {
    engines().into_iter().all(|(_, device)| device.has_group_kernels())
}

/// Whether all engines have kernels that are made of subgroups: CUDA has none.
pub fn subgroups() -> bool {
    engines().into_iter().all(|(_, device)| device.subgroup().is_some())
}

/// Whether all engines have textures that kernels fetch from: CUDA and real GPUs have none.
pub fn textures() -> bool {
    engines().into_iter().all(|(_, device)| device.texture_side().is_some())
}

/// Whether all engines have lists of connections in 16 bits: CUDA has none.
pub fn narrow_lists() -> bool {
    engines().into_iter().all(|(_, device)| device.has_narrow_lists())
}

/// Rows [rows, columns] in a texture of a device; `columns` is a multiple of 16.
pub fn texture_of(device: &Device, rows: &[f32], columns: usize) -> Buffer {
    let texture = device.allocate_texture("texture", [rows.len() / columns, columns]).unwrap();
    let copy =
        feature_texture::launch(rows.len() / columns, columns, &upload(device, rows), &texture.whole());
    run(device, [copy]);
    texture
}

/// The forms of the layer's kernels that all engines have.
pub fn fetches() -> Vec<Fetch> {
    let pairs = engines().into_iter().all(|(_, device)| device.has_64_bits());
    let all = [Fetch::Cheap, Fetch::Dear, Fetch::DearPairs];
    all.into_iter().filter(|fetch| pairs || *fetch != Fetch::DearPairs).collect()
}

/// Runs `work` on every engine and compares the outputs with those of the unfused twins, which are returned.
pub fn compare(case: &str, work: impl Fn(&'static Device) -> Outputs<'static>) -> Outputs<'static> {
    let [(_, twins), others @ ..] = engines();
    let reference = work(twins);
    for (engine, device) in others.into_iter().chain([gpu_uniform()]) {
        let outputs = work(device);
        assert_eq!(outputs.list.len(), reference.list.len());
        for ((name, want), (_, got)) in reference.list.iter().zip(&outputs.list) {
            let place = format!("{case}, {name} on {engine}");
            match (want, got) {
                (Values::Exact(want), Values::Exact(got)) => {
                    if let Some(i) = (0..want.len()).find(|i| want[*i] != got[*i]) {
                        panic!("{place}: element {i} is {:#x}, the twin gives {:#x}", got[i], want[i]);
                    }
                }
                (Values::Close(want, tolerance), Values::Close(got, _)) => {
                    let want: Vec<f64> = want.iter().copied().map(f64::from).collect();
                    assert_close(&place, got, &want, tolerance.of(&want));
                }
                _ => unreachable!("one closure gives the same kinds of outputs"),
            }
        }
    }
    reference
}

impl Tolerance {
    fn of(self, values: &[f64]) -> f64 {
        match self {
            Self::Terms(terms) => sum_tolerance(terms, values),
            Self::Absolute(tolerance) => tolerance,
        }
    }
}

/// 4 ulps of the largest value for each of `terms` terms.
pub fn sum_tolerance(terms: usize, values: &[f64]) -> f64 {
    let largest = values.iter().filter(|v| v.is_finite()).fold(0.0_f64, |max, v| max.max(v.abs()));
    4.0 * ULP * terms as f64 * largest
}

/// Fails unless every value is within `tolerance` of the wanted one; NaN goes with NaN alone.
pub fn assert_close(place: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{place}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let got = f64::from(*got);
        let same = got == *want || (got.is_nan() && want.is_nan());
        let error = (got - want).abs();
        assert!(
            same || error <= tolerance,
            "{place}: element {i} is {got:e}, wanted {want:e} ± {tolerance:e}"
        );
    }
}

/// Numbers for tests, the same in every run.
pub struct Numbers {
    seed: u64,
    drawn: u32,
}

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    pub fn word(&mut self) -> u32 {
        self.drawn += 1;
        words(self.seed, Purpose::Synth, 0, self.drawn, 0)[0]
    }

    /// An integer in [0, n).
    pub fn below(&mut self, n: usize) -> usize {
        below(self.word(), n as u32) as usize
    }

    /// A number in [-bound, bound).
    pub fn float(&mut self, bound: f32) -> f32 {
        bound * (2.0 * unit(self.word()) - 1.0)
    }

    pub fn floats(&mut self, count: usize, bound: f32) -> Vec<f32> {
        (0..count).map(|_| self.float(bound)).collect()
    }

    /// Integers in [-bound, bound] as floats: sums and products of them are exact in any order.
    pub fn integers(&mut self, count: usize, bound: usize) -> Vec<f32> {
        (0..count).map(|_| self.below(2 * bound + 1) as f32 - bound as f32).collect()
    }

    /// `count` different numbers below `n`.
    pub fn different(&mut self, count: usize, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        for i in 0..count {
            let other = i + self.below(n - i);
            all.swap(i, other);
        }
        all.truncate(count);
        all
    }
}
