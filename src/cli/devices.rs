//! `regrow devices`.

use clap::Args;
use serde_json::json;

use super::print;
use crate::device::{AdapterSummary, Device, DeviceKind, DeviceOptions, list_adapters};
use crate::error::Result;

/// List the CPU and the GPU adapters, what they can do and what regrow uses.
#[derive(Args)]
pub(super) struct DevicesArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl DevicesArgs {
    pub(super) fn run(&self) -> Result<()> {
        let cpu = Device::cpu(DeviceOptions::default())?;
        let adapters = list_adapters();
        let memory = memory_bytes();
        if self.json {
            let cpu = json!({
                "device": "cpu", "name": cpu.name(), "kind": DeviceKind::Cpu, "memory_bytes": memory,
            });
            let mut all = json!({ "cpu": cpu, "adapters": adapters });
            add_cuda(&mut all);
            return print(&all.to_string());
        }
        let memory = memory.map(|bytes| format!(", {} GiB memory", bytes >> 30)).unwrap_or_default();
        print(&format!("cpu  {}{memory}", cpu.name()))?;
        for adapter in &adapters {
            describe(adapter).iter().try_for_each(|line| print(line))?;
        }
        if adapters.is_empty() {
            print(
                "no GPU adapter; software Vulkan for tests: apt-get install libvulkan1 mesa-vulkan-drivers",
            )?;
        }
        print_cuda()?;
        let hardware = adapters.iter().find(|adapter| adapter.kind < DeviceKind::Cpu);
        print(&format!("--device auto takes {}", hardware.map_or("cpu", |adapter| &adapter.name)))
    }
}

/// The CUDA devices as a key of the object; without a driver, why there are none.
#[cfg(feature = "cuda")]
fn add_cuda(all: &mut serde_json::Value) {
    all["cuda"] = match crate::device::list_cuda_devices() {
        Ok(devices) => json!(devices),
        Err(error) => json!({ "error": error.to_string() }),
    };
}

#[cfg(not(feature = "cuda"))]
fn add_cuda(_all: &mut serde_json::Value) {}

#[cfg(feature = "cuda")]
fn print_cuda() -> Result<()> {
    let devices = match crate::device::list_cuda_devices() {
        Ok(devices) => devices,
        Err(error) => return print(&format!("no CUDA {error}")),
    };
    for cuda in &devices {
        print(&format!(
            "{}  {} (CUDA), compute capability {}, {} MiB memory; for the classifier alone",
            cuda.device,
            cuda.name,
            cuda.capability,
            cuda.memory_bytes >> 20
        ))?;
    }
    if devices.is_empty() { print("no CUDA device") } else { Ok(()) }
}

#[cfg(not(feature = "cuda"))]
fn print_cuda() -> Result<()> {
    Ok(())
}

fn describe(adapter: &AdapterSummary) -> Vec<String> {
    let kind = match adapter.kind {
        DeviceKind::DiscreteGpu => "discrete GPU",
        DeviceKind::IntegratedGpu => "integrated GPU",
        DeviceKind::OtherGpu => "GPU",
        DeviceKind::SoftwareGpu => "software, computes on the processor",
        DeviceKind::Cpu => "CPU",
    };
    let matrices = adapter.cooperative.map_or("none".to_owned(), |c| {
        format!("{0} x {0} x {0}, f16 to f32, subgroups of {1}", c.size, c.subgroup)
    });
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    vec![
        format!(
            "{:<4} {} ({kind}), {}, driver {}",
            adapter.index, adapter.name, adapter.backend, adapter.driver
        ),
        format!(
            "     binding {} MiB, buffer {} MiB, workgroup {} KiB and {} invocations, {} storage buffers, subgroups \
             {}..{}, immediates {} B",
            adapter.max_binding_bytes >> 20,
            adapter.max_buffer_bytes >> 20,
            adapter.workgroup_memory_bytes >> 10,
            adapter.workgroup_invocations,
            adapter.storage_buffers,
            adapter.subgroup_size[0],
            adapter.subgroup_size[1],
            adapter.immediate_bytes,
        ),
        format!(
            "     optional features used: {}; missing: {}",
            list(&adapter.features_used),
            list(&adapter.features_missing)
        ),
        format!("     cooperative matrices: {matrices}"),
    ]
}

/// Memory of the machine, where the operating system tells it in a file.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes << 10)
}
