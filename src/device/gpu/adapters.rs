//! Which adapters there are, what they can do, and which one is taken.

use std::panic::AssertUnwindSafe;

use crate::device::{DeviceKind, DeviceOptions};
use crate::error::{Error, Result};

/// What `regrow devices` tells about an adapter.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterSummary {
    /// Number to give to `--device`.
    pub index: usize,
    /// Name as the driver gives it.
    pub name: String,
    /// Kind of hardware.
    pub kind: DeviceKind,
    /// Graphics interface: `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// Largest range of a buffer that a kernel can be given, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory, bytes.
    pub workgroup_memory_bytes: u32,
    /// Invocations in a workgroup.
    pub workgroup_invocations: u32,
    /// Storage buffers that one kernel can be given.
    pub storage_buffers: u32,
    /// Smallest and largest number of lanes that run in step.
    pub subgroup_size: [u32; 2],
    /// Bytes of immediates; 0 means that launch parameters go through a uniform buffer.
    pub immediate_bytes: u32,
    /// Cooperative matrices, which make products of the encoder fast.
    pub cooperative: Option<Cooperative>,
    /// Optional features that regrow uses here.
    pub features_used: Vec<String>,
    /// Optional features that regrow would use and that this adapter lacks.
    pub features_missing: Vec<String>,
}

/// An optional feature that kernels make use of. None is needed.
struct Optional {
    name: &'static str,
    feature: wgpu::Features,
    /// Whether only kernels for software Vulkan make use of it.
    on_software: bool,
}

const OPTIONAL: [Optional; 3] = [
    Optional { name: "immediates", feature: wgpu::Features::IMMEDIATES, on_software: false },
    Optional { name: "subgroups", feature: wgpu::Features::SUBGROUP, on_software: true },
    Optional { name: "integers of 64 bits", feature: wgpu::Features::SHADER_INT64, on_software: true },
];

/// Those that an adapter of this kind has a use for.
fn optional(kind: DeviceKind) -> impl Iterator<Item = &'static Optional> {
    OPTIONAL.iter().filter(move |optional| !optional.on_software || kind == DeviceKind::SoftwareGpu)
}

/// The optional features to ask `adapter` for.
fn features_to_use(adapter: &wgpu::Adapter, options: DeviceOptions) -> wgpu::Features {
    let wanted = optional(kind_of(&adapter.get_info())).map(|optional| optional.feature);
    let mut features = wanted.fold(wgpu::Features::empty(), |all, one| all | one) & adapter.features();
    for (keep, feature) in [
        (options.immediates, wgpu::Features::IMMEDIATES),
        (options.subgroups, wgpu::Features::SUBGROUP),
        (options.integers_of_64_bits, wgpu::Features::SHADER_INT64),
    ] {
        if !keep {
            features.remove(feature);
        }
    }
    if options.cooperative && cooperative_of(adapter).is_some() {
        features |= COOPERATIVE_FEATURES;
    }
    features
}

/// Opens `adapter` with the features that it has of those wanted; tells which these are.
pub(super) fn open(
    adapter: &wgpu::Adapter,
    options: DeviceOptions,
) -> Result<(wgpu::Device, wgpu::Queue, wgpu::Features)> {
    let features = features_to_use(adapter, options);
    if features.contains(COOPERATIVE_FEATURES) {
        #[expect(unsafe_code, reason = "the one experimental feature is checked before it is used")]
        // SAFETY: only shaders of our own use cooperative matrices, none before its results on this adapter have
        // been compared with the CPU's.
        let experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
        // Some drivers list the matrices and then refuse a device that wants them, at which wgpu panics. The adapter
        // is as before then: it has made nothing.
        let ask = AssertUnwindSafe(|| request(adapter, features, experimental));
        let asked = std::panic::catch_unwind(ask);
        if let Ok(Ok((device, queue))) = asked {
            return Ok((device, queue, features));
        }
    }
    let features = features - COOPERATIVE_FEATURES;
    let (device, queue) = request(adapter, features, wgpu::ExperimentalFeatures::disabled())
        .map_err(|error| Error::Device(format!("{} cannot be opened: {error}", adapter.get_info().name)))?;
    Ok((device, queue, features))
}

fn request(
    adapter: &wgpu::Adapter,
    required_features: wgpu::Features,
    experimental_features: wgpu::ExperimentalFeatures,
) -> std::result::Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("regrow"),
        required_features,
        required_limits: adapter.limits(),
        experimental_features,
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        trace: wgpu::Trace::Off,
    }))
}

/// Square matrices that a subgroup multiplies together: f16 · f16 + f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cooperative {
    /// Rows and columns: 8 or 16.
    pub size: u32,
    /// Invocations of a subgroup.
    pub subgroup: u32,
}

/// What an adapter needs for [`Cooperative`].
pub(super) const COOPERATIVE_FEATURES: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16);

/// The largest cooperative matrices that WGSL can name and `adapter` has, where a subgroup has one known size.
pub(super) fn cooperative_of(adapter: &wgpu::Adapter) -> Option<Cooperative> {
    let info = adapter.get_info();
    let subgroup = match (info.backend, info.subgroup_min_size, info.subgroup_max_size) {
        // Metal tells a range; all Apple GPUs run 32.
        (wgpu::Backend::Metal, ..) => 32,
        (_, smallest, largest) if smallest == largest => smallest,
        _ => return None,
    };
    let fits = adapter.features().contains(COOPERATIVE_FEATURES)
        && matches!(subgroup, 4..=64)
        && adapter.limits().max_compute_invocations_per_workgroup >= 4 * subgroup;
    let half_times_half = |p: &wgpu::CooperativeMatrixProperties| {
        let types = (p.ab_type, p.cr_type);
        types == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32)
            && p.m_size == p.n_size
            && p.n_size == p.k_size
            && matches!(p.m_size, 8 | 16)
    };
    let listed = if fits { adapter.cooperative_matrix_properties() } else { Vec::new() };
    let size = listed.into_iter().filter(half_times_half).map(|p| p.m_size).max()?;
    Some(Cooperative { size, subgroup })
}

/// The limits that every kernel's floor variant fits into. Twelve buffers are what `fan_in_step` takes; Direct3D tells 16
/// or more of all but its oldest adapters, Metal 29, Vulkan on desktops far more.
const FLOOR_STORAGE_BUFFERS: u32 = 12;
const FLOOR_INVOCATIONS: u32 = 256;
const FLOOR_WORKGROUP_BYTES: u32 = 16 << 10;

fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    // The layers of debug builds are slow and noisy where they are not installed; ask for them by environment.
    if std::env::var_os("WGPU_VALIDATION").is_none() {
        descriptor.flags.remove(wgpu::InstanceFlags::VALIDATION | wgpu::InstanceFlags::DEBUG);
    }
    let backends =
        descriptor.backends & (wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12);
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends));
    // Drivers list in no stable order: real hardware first, then by name, so that numbers mean the same every time.
    adapters.sort_by_key(|adapter| {
        let info = adapter.get_info();
        (kind_of(&info), info.name, info.device_pci_bus_id)
    });
    adapters.retain(|adapter| {
        let limits = adapter.limits();
        limits.max_storage_buffers_per_shader_stage >= FLOOR_STORAGE_BUFFERS
            && limits.max_compute_invocations_per_workgroup >= FLOOR_INVOCATIONS
            && limits.max_compute_workgroup_storage_size >= FLOOR_WORKGROUP_BYTES
    });
    adapters
}

fn kind_of(info: &wgpu::AdapterInfo) -> DeviceKind {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu,
        wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => DeviceKind::OtherGpu,
        wgpu::DeviceType::Cpu => DeviceKind::SoftwareGpu,
    }
}

pub(super) fn summarize(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let (used, missing): (Vec<_>, Vec<_>) =
        optional(kind_of(&info)).partition(|optional| features.contains(optional.feature));
    let names = |list: Vec<&Optional>| list.iter().map(|optional| optional.name.to_owned()).collect();
    AdapterSummary {
        index,
        name: info.name.clone(),
        kind: kind_of(&info),
        backend: info.backend.to_str().to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        subgroup_size: [info.subgroup_min_size, info.subgroup_max_size],
        immediate_bytes: if features.contains(wgpu::Features::IMMEDIATES) {
            limits.max_immediate_size
        } else {
            0
        },
        cooperative: cooperative_of(adapter),
        features_used: names(used),
        features_missing: names(missing),
    }
}

/// Every adapter that can run regrow, real hardware first; the order is that of `--device NUMBER`.
#[must_use]
pub fn list_adapters() -> Vec<AdapterSummary> {
    enumerate().iter().enumerate().map(|(index, adapter)| summarize(index, adapter)).collect()
}

/// The first real GPU, if there is one.
pub(in crate::device) fn best_hardware() -> Option<wgpu::Adapter> {
    let mut adapters = enumerate();
    adapters.retain(|adapter| kind_of(&adapter.get_info()) < DeviceKind::Cpu);
    (!adapters.is_empty()).then(|| adapters.swap_remove(0))
}

/// The adapter with this number or with this text in its name, whatever its kind; `None` takes the first.
pub(in crate::device) fn find(wanted: Option<&str>) -> Result<wgpu::Adapter> {
    let mut adapters = enumerate();
    if adapters.is_empty() {
        return Err(Error::Device(
            "no GPU adapter was found; use `--device cpu`, or install a Vulkan driver (software, on Debian and \
             Ubuntu: apt-get install libvulkan1 mesa-vulkan-drivers)"
                .into(),
        ));
    }
    let Some(wanted) = wanted else { return Ok(adapters.swap_remove(0)) };
    let position = match wanted.parse::<usize>() {
        Ok(index) => (index < adapters.len()).then_some(index),
        // Every name contains the empty one: an unset variable must not choose a device.
        Err(_) if wanted.trim().is_empty() => None,
        Err(_) => {
            let wanted = wanted.to_lowercase();
            adapters.iter().position(|adapter| adapter.get_info().name.to_lowercase().contains(&wanted))
        }
    };
    position.map(|i| adapters.swap_remove(i)).ok_or_else(|| {
        let names: Vec<String> = list_names(&adapters);
        let what = match wanted.trim() {
            "" => "the name of the device is empty".to_owned(),
            _ => format!("no adapter matches `{wanted}`"),
        };
        Error::Device(format!("{what}; there are: cpu, {}", names.join(", ")))
    })
}

fn list_names(adapters: &[wgpu::Adapter]) -> Vec<String> {
    adapters.iter().enumerate().map(|(i, adapter)| format!("{i} = {}", adapter.get_info().name)).collect()
}
