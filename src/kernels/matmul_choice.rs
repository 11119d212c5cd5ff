//! Which tier of products is the fastest on a device, of those that compute rightly there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::Xxh3;

use super::matmul::Layout;
use super::products::{Epilogue, MatmulPrecision, Operand, Product, Products, Tier};
use super::{ALL, matmul_tiled};
use crate::device::{Device, DeviceKind, Recording, dense, shader};
use crate::error::{Error, Result};
use crate::random::{Purpose, unit, words};

/// How products are chosen.
#[derive(Clone, Debug, Default)]
pub struct ProductOptions {
    /// What precision they keep at least.
    pub precision: MatmulPrecision,
    /// Names of tiers that are not to be used.
    pub off: Vec<String>,
    /// Take a tier by the kind of the device instead of by the clock: the same bits on every start.
    pub deterministic: bool,
    /// Folder where measured choices are kept; without, each start measures.
    pub cache: Option<PathBuf>,
    /// Measure software GPUs too, where only the floor is worth it.
    pub measure_software: bool,
}

impl ProductOptions {
    /// The tiers that are not to be used, those among them that the precision forbids; in order, each once.
    fn forbidden(&self) -> Vec<&str> {
        let rounding = (self.precision == MatmulPrecision::Highest).then_some("cooperative");
        let mut names: Vec<&str> = self.off.iter().map(String::as_str).chain(rounding).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The file of choices in the cache folder.
const FILE: &str = "products.json";
/// Products of a measurement are submitted together until they take so long, or are so many.
const ENOUGH: Duration = Duration::from_millis(4);
const MOST: u32 = 32;
/// A measurement counts the fastest of so many.
const ROUNDS: usize = 3;
/// A layer of a small transformer with the tokens of a small batch.
const MEASURED: [usize; 3] = [1024, 384, 384];
/// Sizes with and without whole vectors of four, none a multiple of a tile.
const CHECKED: [[usize; 3]; 2] = [[70, 35, 50], [76, 100, 36]];

/// The tier for each layout, in the order of [`Layout::ALL`].
pub(super) fn tiers(device: &Device, options: &ProductOptions) -> Result<[Tier; 3]> {
    if let Some(name) = options.off.iter().find(|name| !Tier::NAMES[1..].contains(&name.as_str())) {
        let known = Tier::NAMES[1..].join(", ");
        return Err(Error::config(
            "train.kernels_off",
            format!("`{name}` cannot be switched off, only {known}"),
        ));
    }
    let measured = match device.kind() {
        DeviceKind::DiscreteGpu | DeviceKind::IntegratedGpu | DeviceKind::OtherGpu => true,
        DeviceKind::SoftwareGpu => options.measure_software,
        DeviceKind::Cpu => false,
    };
    if !measured || device.only_plans() || !device.has_tiled_products() {
        return Ok([Tier::Floor; 3]);
    }
    let forbidden = options.forbidden();
    let wanted = |name: &&str| !forbidden.contains(name);
    let named = |name| Tier::named(device, name);
    let candidates: Vec<Tier> = Tier::NAMES.into_iter().filter(wanted).filter_map(named).collect();
    if options.deterministic {
        let side = matmul_tiled::SIDES[usize::from(device.kind() != DeviceKind::IntegratedGpu)];
        let fixed = Tier::Tiled { side };
        let fixed = candidates.contains(&fixed) && computes_rightly(device, fixed);
        return Ok([if fixed { Tier::Tiled { side } } else { Tier::Floor }; 3]);
    }
    let key = key(device, options)?;
    if let Some(known) = options.cache.as_deref().and_then(|folder| recall(device, folder, &key))
        && known.iter().all(|tier| candidates.contains(tier) && computes_rightly(device, *tier))
    {
        return Ok(known);
    }
    let chosen = fastest(device, &candidates)?;
    if let Some(folder) = &options.cache {
        remember(folder, &key, chosen);
    }
    Ok(chosen)
}

/// Adapter, driver, shaders and what was switched off: what a choice holds for.
fn key(device: &Device, options: &ProductOptions) -> Result<String> {
    let mut shaders = Xxh3::new();
    for kernel in ALL.iter().filter(|kernel| kernel.name.starts_with("matmul")) {
        shaders.update(shader::expand(kernel, &[], true)?.as_bytes());
    }
    let off = options.forbidden().join(" ");
    Ok(format!("{}; shaders {:016x}; off [{off}]", device.name(), shaders.digest()))
}

type Choices = std::collections::BTreeMap<String, [String; 3]>;

fn choices(folder: &Path) -> Choices {
    // A file that is not there, or not readable, holds no choices: measuring makes a new one.
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn recall(device: &Device, folder: &Path, key: &str) -> Option<[Tier; 3]> {
    let [nn, nt, tn] = choices(folder).remove(key)?;
    let tier = |name: String| Tier::named(device, &name);
    Some([tier(nn)?, tier(nt)?, tier(tn)?])
}

/// Keeps a choice, or does not: without it, the next start measures again.
fn remember(folder: &Path, key: &str, chosen: [Tier; 3]) {
    let mut all = choices(folder);
    all.insert(key.to_owned(), chosen.map(|tier| tier.name().to_owned()));
    let Ok(text) = serde_json::to_string_pretty(&all) else { return };
    let new = folder.join(format!("{FILE}.{}", std::process::id()));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&new, text));
    if written.and_then(|()| std::fs::rename(&new, folder.join(FILE))).is_err() {
        let _ = std::fs::remove_file(new);
    }
}

/// The fastest candidate for each layout; one that fails or computes wrongly is none.
fn fastest(device: &Device, candidates: &[Tier]) -> Result<[Tier; 3]> {
    let mut chosen = [(Tier::Floor, Duration::MAX); 3];
    for tier in candidates {
        if *tier != Tier::Floor && !computes_rightly(device, *tier) {
            continue;
        }
        for (layout, best) in Layout::ALL.into_iter().zip(&mut chosen) {
            let time = measure(device, *tier, layout)?;
            if time < best.1 {
                *best = (*tier, time);
            }
        }
    }
    Ok(chosen.map(|(tier, _)| tier))
}

fn measure(device: &Device, tier: Tier, layout: Layout) -> Result<Duration> {
    let products = Products::with(device, [tier; 3])?;
    let [m, n, k] = MEASURED;
    let operand = |stream, count| device.upload("measured product", &numbers(stream, count, 1.0));
    let (a, b) = (operand(0, m * k)?.whole(), operand(1, k * n)?.whole());
    let c = device.allocate("measured product", 4 * (m * n) as u64)?.whole();
    // Tn is the layout of weight gradients.
    let gradient = (layout != Layout::Nt).then_some(Operand::A);
    let product =
        Product { sizes: MEASURED, layout, a: &a, b: &b, c: &c, epilogue: Epilogue::None, gradient };
    let time = |repeats: u32| {
        let mut recording = Recording::new();
        (0..repeats).for_each(|_| products.record(&mut recording, product));
        device.wait()?;
        let start = Instant::now();
        device.submit(recording)?;
        device.wait()?;
        Ok::<_, Error>(start.elapsed() / repeats)
    };
    // The first compiles, the second tells how many are enough.
    time(1)?;
    let once = time(1)?;
    let repeats = (ENOUGH.as_nanos() / once.as_nanos().max(1)).clamp(1, u128::from(MOST)) as u32;
    (1..ROUNDS).try_fold(time(repeats)?, |best, _| Ok(best.min(time(repeats)?)))
}

/// Whether a tier's products, those of tiny gradients too, are those of the CPU.
fn computes_rightly(device: &Device, tier: Tier) -> bool {
    CHECKED.iter().all(|sizes| {
        Layout::ALL.into_iter().all(|layout| {
            [None, Some(Operand::A), Some(Operand::B)].into_iter().all(|gradient| {
                // A driver that cannot compile or run it has answered the question.
                check(device, tier, *sizes, layout, gradient).unwrap_or(false)
            })
        })
    })
}

/// Largest numbers of a gradient in a check.
const TINY: f32 = 1e-9;

fn check(
    device: &Device,
    tier: Tier,
    [m, n, k]: [usize; 3],
    layout: Layout,
    gradient: Option<Operand>,
) -> Result<bool> {
    let products = Products::with(device, [tier; 3])?;
    let size = |operand| if gradient == Some(operand) { TINY } else { 1.0 };
    let (a, b) = (numbers(0, m * k, size(Operand::A)), numbers(1, k * n, size(Operand::B)));
    let upload = |values: &[f32]| device.upload("checked product", values);
    let (a_slice, b_slice, c) = (upload(&a)?.whole(), upload(&b)?.whole(), upload(&vec![f32::NAN; m * n])?);
    let mut recording = Recording::new();
    products.record(
        &mut recording,
        Product {
            sizes: [m, n, k],
            layout,
            a: &a_slice,
            b: &b_slice,
            c: &c.whole(),
            epilogue: Epilogue::None,
            gradient,
        },
    );
    device.submit(recording)?;
    let got: Vec<f32> = device.read_vec(&c, m * n)?;
    let mut want = vec![0.0; m * n];
    let a_strides = if layout == Layout::Tn { [1, m] } else { [k, 1] };
    let b_strides = if layout == Layout::Nt { [1, k] } else { [n, 1] };
    dense::small_product([m, n, k], (&a, a_strides), (&b, b_strides), (&mut want, n), [1.0, 0.0]);
    // Operands of up to 1, or one of them to `TINY`, each off by 2⁻¹² of its own in 16 bits, in sums of k terms; and room.
    let tolerance = k as f32 * size(Operand::A) * size(Operand::B) * 1e-3;
    Ok(got.iter().zip(&want).all(|(got, want)| (got - want).abs() <= tolerance))
}

/// Numbers in [-bound, bound).
fn numbers(stream: u32, count: usize, bound: f32) -> Vec<f32> {
    let four =
        |i: usize| words(0, Purpose::Synth, 0, i as u32, stream).map(|w| bound * (2.0 * unit(w) - 1.0));
    let mut numbers: Vec<f32> = (0..count.div_ceil(4)).flat_map(four).collect();
    numbers.truncate(count);
    numbers
}

#[cfg(test)]
mod tests {
    use super::{MatmulPrecision, ProductOptions};

    /// Also what a kept choice is found by: one that was made without a tier does not stand for one with it.
    #[test]
    fn the_highest_precision_forbids_what_rounds() {
        let forbidden = |precision, off: &[&str]| {
            let off = off.iter().map(|name| (*name).to_owned()).collect();
            ProductOptions { precision, off, ..ProductOptions::default() }.forbidden().join(" ")
        };
        assert_eq!(forbidden(MatmulPrecision::Highest, &[]), "cooperative");
        assert_eq!(forbidden(MatmulPrecision::Highest, &["tiled64", "cooperative"]), "cooperative tiled64");
        for precision in [MatmulPrecision::High, MatmulPrecision::Medium] {
            assert_eq!(forbidden(precision, &[]), "");
            assert_eq!(forbidden(precision, &["tiled64", "tiled32"]), "tiled32 tiled64");
        }
    }
}
