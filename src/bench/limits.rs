//! The device's own limits: copying, multiply-adds, gathers.

use serde::{Deserialize, Serialize};

use super::classifier::LayerSizes;
use super::timer::time;
use super::{Row, Work};
use crate::device::{Device, DeviceKind, Launch, Recording};
use crate::error::Result;
use crate::kernels::{Fetch, columns_of, feature_texture, fits_texture, probe_copy, probe_fma, probe_gather};

/// Bytes that are copied, far more than any cache holds.
const COPY_BYTES: u64 = 96 << 20;

/// What the device can do at most, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes a second that a copy reads and writes together.
    pub copy_bytes: f64,
    /// Multiply-adds in f32 a second.
    pub multiply_adds: f64,
    /// Elements a second of rows of the features that are fetched at random.
    pub gathers: f64,
    /// Time of a second measurement of the copy over that of the first.
    pub control_ratio: f64,
}

impl Limits {
    /// The limits, and the control: the copy measured again.
    pub(super) fn measure(device: &Device, layer: &LayerSizes, seconds: f64) -> Result<(Self, Row)> {
        // As much work as takes milliseconds: software Vulkan computes a thousandth of what a large GPU does.
        let (lanes, bytes) = match device.kind() {
            DeviceKind::DiscreteGpu => (1 << 18, COPY_BYTES),
            DeviceKind::SoftwareGpu => (1 << 11, COPY_BYTES / 4),
            DeviceKind::IntegratedGpu | DeviceKind::OtherGpu | DeviceKind::Cpu => (1 << 14, COPY_BYTES),
        };
        let bytes = bytes.min(device.max_buffer_bytes());
        let [source, target] = ["source", "target"].map(|name| device.allocate(name, bytes));
        let (source, target) = (source?, target?);
        let copy = || probe_copy::launch((bytes / 4) as usize, &source.whole(), &target.whole());
        let run = |name: &str, launch: &dyn Fn() -> Launch| {
            time(name, seconds, || {
                let mut recording = Recording::new();
                recording.launch(launch());
                device.submit(recording)?;
                device.wait()
            })
        };
        let first = run("copy", &copy)?;
        let mut control = run("copy again (control)", &copy)?;
        let moved = 2.0 * bytes as f64;
        control.work = Some(Work { bytes: moved, ..Work::default() });
        drop((source, target));

        const ROUNDS: usize = 512;
        let sums = device.allocate("sums", (lanes * 16 * 4) as u64)?;
        let sums = sums.whole();
        let arithmetic = run("multiply-adds", &|| probe_fma::launch(lanes, ROUNDS, &sums))?;

        // In the cheapest of the ways in which the layer's kernels fetch here.
        let (features, columns) = (layer.features, columns_of(layer.batch));
        let textures = fits_texture(device, features, columns);
        let fetch = if textures { Fetch::Textures } else { layer.options().fetch(device) };
        let mut x = device.upload("x", &vec![1.0_f32; features * columns])?;
        if textures {
            let copy = device.allocate_texture("x in a texture", [features, columns])?;
            let mut recording = Recording::new();
            recording.launch(feature_texture::launch(features, layer.batch, &x.whole(), &copy.whole()));
            device.submit(recording)?;
            x = copy;
        }
        let rounds = (1 << 12) / columns;
        let gather = run("gathers", &|| {
            probe_gather::launch(lanes, rounds, [features, columns], fetch, [&x.whole(), &sums])
        })?;
        let rate = |work: usize, row: &Row| work as f64 / (row.milliseconds / 1e3);
        let limits = Self {
            copy_bytes: moved / (first.milliseconds / 1e3),
            multiply_adds: rate(lanes * ROUNDS * probe_fma::CHAINS, &arithmetic),
            gathers: rate(lanes * rounds * columns, &gather),
            control_ratio: control.milliseconds / first.milliseconds,
        };
        Ok((limits, control))
    }
}
