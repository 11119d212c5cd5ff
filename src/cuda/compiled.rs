//! The kernels as the driver has them: compiled by NVRTC for the chip where NVRTC is installed, else from the PTX that
//! comes with the program, which the driver compiles for the chip.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::nvrtc;

use super::driver::{Context, Function, Module, fault, version_text};
use super::{kernels, source};
use crate::error::{Error, Result};

/// All kernels, compiled.
pub(super) struct Compiled {
    functions: BTreeMap<&'static str, Function>,
    /// By whom, for the device's name.
    pub(super) by: String,
}

impl Compiled {
    /// Compiles and loads all kernels for a chip of this compute capability.
    ///
    /// # Errors
    /// [`Error::Device`] when the chip is older than the kernels, or a compiler refuses.
    pub(super) fn new(context: &Arc<Context>, [major, minor]: [i32; 2], driver: i32) -> Result<Self> {
        if major < 8 {
            return Err(Error::Device(format!(
                "this GPU has compute capability {major}.{minor}; the CUDA kernels need 8.0 or newer: take it by its \
                 number in `regrow devices`, which goes through Vulkan"
            )));
        }
        let (text, by) = match compile_here(10 * major + minor, driver)? {
            Some((text, by)) => (text, by),
            None => (source::PTX.to_owned(), "kernels from PTX".to_owned()),
        };
        let module = context.load(&text).map_err(|error| fault("loading the kernels", error))?;
        Ok(Self { functions: functions_of(&module)?, by })
    }

    /// The kernel of this name; the table of [`kernels`] has it.
    pub(super) fn function(&self, name: &str) -> Result<Function> {
        self.functions.get(name).copied().ok_or_else(|| kernels::no_form(name))
    }
}

fn functions_of(module: &Module) -> Result<BTreeMap<&'static str, Function>> {
    kernels::names().map(|name| Ok((name, module.function(name)?))).collect()
}

/// PTX for the chip, where NVRTC is installed, is not newer than the driver, which could not read its PTX, and knows a
/// chip that is not newer than this one.
fn compile_here(chip: i32, driver: i32) -> Result<Option<(String, String)>> {
    let Some((version, known)) = nvrtc_here() else { return Ok(None) };
    let target = known.into_iter().filter(|known| *known <= chip).max();
    let (Some(target), true) = (target, version <= driver) else { return Ok(None) };
    let options = nvrtc::CompileOptions {
        options: vec![format!("--gpu-architecture=compute_{target}"), "--std=c++17".into()],
        name: Some("kernels.cu".into()),
        ..Default::default()
    };
    let compiled = nvrtc::compile_ptx_with_opts(source::text(), options).map_err(|error| {
        let log = match error {
            nvrtc::CompileError::CompileError { log, .. } => log.to_string_lossy().replace('\n', " "),
            other => other.to_string(),
        };
        Error::Device(format!("NVRTC {} does not compile the kernels: {log}", version_text(version)))
    })?;
    let by = format!("kernels by NVRTC {} for compute_{target}", version_text(version));
    Ok(Some((compiled.to_src(), by)))
}

/// NVRTC's version and the chips that it compiles for, if it is installed.
#[expect(unsafe_code, reason = "cudarc has no safe call for either")]
fn nvrtc_here() -> Option<(i32, Vec<i32>)> {
    use nvrtc::sys;
    let (mut major, mut minor, mut count) = (0, 0, 0);
    // SAFETY: the library is there when it is called, and every pointer is that of numbers that live.
    unsafe {
        if !sys::is_culib_present() {
            return None;
        }
        sys::nvrtcVersion(&mut major, &mut minor).result().ok()?;
        sys::nvrtcGetNumSupportedArchs(&mut count).result().ok()?;
        let mut known = vec![0; usize::try_from(count).ok()?];
        sys::nvrtcGetSupportedArchs(known.as_mut_ptr()).result().ok()?;
        Some((1000 * major + 10 * minor, known))
    }
}
