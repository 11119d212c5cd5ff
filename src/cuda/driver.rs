//! The CUDA driver made safe, the only file that calls it: contexts, memory, events, modules, launches.
//!
//! Everything runs on one stream of a context, in order. Pinned memory knows until when the driver uses it: whoever
//! touches it waits first.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use crate::error::{Error, Result};

/// Words of parameters that a kernel gets.
pub(super) const PARAMETER_WORDS: usize = 32;

/// Arguments that every launch passes; a kernel takes the first of them.
const ARGUMENTS: usize = 24;

/// The oldest driver that runs the kernels' PTX, as CUDA counts versions.
const OLDEST_DRIVER: i32 = 12_010;

/// The error for what the driver answered to `action`.
pub(super) fn fault(action: &str, error: DriverError) -> Error {
    use sys::CUresult as Code;
    let name = error.error_name().map_or("unknown error".into(), CStr::to_string_lossy);
    match error.0 {
        Code::CUDA_ERROR_ILLEGAL_ADDRESS
        | Code::CUDA_ERROR_LAUNCH_FAILED
        | Code::CUDA_ERROR_LAUNCH_TIMEOUT
        | Code::CUDA_ERROR_ECC_UNCORRECTABLE
        | Code::CUDA_ERROR_HARDWARE_STACK_ERROR
        | Code::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | Code::CUDA_ERROR_DEVICE_UNAVAILABLE => {
            Error::DeviceLost(format!("the GPU was lost while {action}: {name}"))
        }
        _ => {
            let text = error.error_string().map_or("no description".into(), CStr::to_string_lossy);
            Error::Device(format!("CUDA failed while {action}: {name} ({text})"))
        }
    }
}

/// Finds and starts the driver; gives its version as CUDA counts: 1000 · major + 10 · minor.
///
/// # Errors
/// [`Error::Device`] when there is no driver, or one that is too old.
pub(super) fn start() -> Result<i32> {
    // SAFETY: loading the driver's library runs its initialisers, as for any program that uses CUDA.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::Device(
            "no CUDA driver was found (libcuda.so, nvcuda.dll); install NVIDIA's driver 530 or newer, or take \
             another device of `regrow devices`"
                .into(),
        ));
    }
    let mut version = 0;
    // SAFETY: the pointer is that of a number that lives.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|error| fault("asking for its version", error))?;
    if version < OLDEST_DRIVER {
        return Err(Error::Device(format!(
            "the CUDA driver is too old: it knows CUDA {}, regrow needs {}; install NVIDIA's driver 530 or newer",
            version_text(version),
            version_text(OLDEST_DRIVER)
        )));
    }
    match result::init() {
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => {}
        other => other.map_err(|error| fault("starting", error))?,
    }
    Ok(version)
}

/// `12.4` of 12040.
pub(super) fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// What the driver tells about a device. To be called after [`start`].
pub(super) struct Card {
    /// As NVIDIA names it.
    pub(super) name: String,
    /// Compute capability, major and minor.
    pub(super) capability: [i32; 2],
    /// Bytes of memory.
    pub(super) memory: u64,
    device: sys::CUdevice,
}

impl Card {
    /// All devices, in the driver's order.
    pub(super) fn list() -> Result<Vec<Self>> {
        let count = match result::device::get_count() {
            Err(DriverError(
                sys::CUresult::CUDA_ERROR_NO_DEVICE | sys::CUresult::CUDA_ERROR_NOT_INITIALIZED,
            )) => 0,
            other => other.map_err(|error| fault("counting devices", error))?,
        };
        let get = |number| Self::get(number).map_err(|error| fault("asking for a device", error));
        (0..count).map(get).collect()
    }

    fn get(number: i32) -> std::result::Result<Self, DriverError> {
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
        };
        let device = result::device::get(number)?;
        // SAFETY: the device was just returned by the driver.
        let (capability, memory) = unsafe {
            let of = |which| result::device::get_attribute(device, which);
            ([of(MAJOR)?, of(MINOR)?], result::device::total_mem(device)? as u64)
        };
        Ok(Self { name: result::device::get_name(device)?, capability, memory, device })
    }
}

/// The primary context of a device, with the stream on which everything runs.
pub(super) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
}

// SAFETY: a context may be used by any thread that has made it current, which every method does first.
unsafe impl Send for Context {}
// SAFETY: the driver's calls are thread-safe.
unsafe impl Sync for Context {}

impl Context {
    pub(super) fn open(card: &Card) -> Result<Arc<Self>> {
        let open = || {
            // SAFETY: the device was returned by the driver; the context is released when this is dropped.
            let context = unsafe { result::primary_ctx::retain(card.device) }?;
            let mut this = Self { device: card.device, context, stream: std::ptr::null_mut() };
            this.bind()?;
            this.stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
            Ok(Arc::new(this))
        };
        open().map_err(|error| fault("opening the device", error))
    }

    fn bind(&self) -> std::result::Result<(), DriverError> {
        // SAFETY: the context is retained as long as this lives.
        unsafe { result::ctx::set_current(self.context) }
    }

    /// Waits for all work.
    pub(super) fn wait(&self) -> std::result::Result<(), DriverError> {
        self.bind()?;
        // SAFETY: the stream lives as long as this.
        unsafe { result::stream::synchronize(self.stream) }
    }

    /// Bytes that are free, and all there are.
    pub(super) fn memory(&self) -> std::result::Result<[u64; 2], DriverError> {
        self.bind()?;
        result::mem_get_info().map(|(free, total)| [free as u64, total as u64])
    }

    /// Zeroed memory.
    pub(super) fn allocate(self: &Arc<Self>, bytes: u64) -> std::result::Result<Memory, DriverError> {
        self.bind()?;
        // SAFETY: the memory is freed once, by its owner, and written before it is read.
        let memory =
            unsafe { Memory { context: self.clone(), address: result::malloc_sync(bytes as usize)?, bytes } };
        self.clear(&memory, 0, bytes)?;
        Ok(memory)
    }

    /// Fills a range with zeros.
    pub(super) fn clear(
        &self,
        memory: &Memory,
        offset: u64,
        bytes: u64,
    ) -> std::result::Result<(), DriverError> {
        self.bind()?;
        let address = memory.range(offset, bytes);
        // SAFETY: the range lies within memory that is freed only after the stream has come to its end.
        unsafe { result::memset_d8_async(address, 0, bytes as usize, self.stream) }
    }

    /// A launch of `function` with its parameters, constants and buffers, in this order.
    ///
    /// # Panics
    /// With more arguments than a kernel takes.
    pub(super) fn launch(
        &self,
        function: Function,
        shape: Shape,
        params: &[u32],
        constants: &[u32],
        addresses: &[u64],
    ) -> std::result::Result<(), DriverError> {
        self.bind()?;
        assert!(params.len() <= PARAMETER_WORDS && 1 + constants.len() + addresses.len() <= ARGUMENTS);
        let mut words = [0_u32; PARAMETER_WORDS];
        words[..params.len()].copy_from_slice(params);
        let (mut constants, mut addresses) = (constants.to_vec(), addresses.to_vec());
        let mut arguments = vec![words.as_mut_ptr().cast::<c_void>()];
        arguments.extend(constants.iter_mut().map(|word| std::ptr::from_mut(word).cast()));
        arguments.extend(addresses.iter_mut().map(|address| std::ptr::from_mut(address).cast()));
        // The driver reads as many arguments as the kernel declares, none of them more than 128 bytes.
        let mut nothing = [0_u32; PARAMETER_WORDS];
        arguments.resize(ARGUMENTS, nothing.as_mut_ptr().cast());
        let Shape { blocks, threads, shared_bytes } = shape;
        // SAFETY: the arguments live until the call returns, by when the driver has copied them; the function's module
        // is never unloaded. What a kernel does to the memory of the device cannot reach that of the host.
        unsafe {
            result::launch_kernel(
                function.0,
                (blocks, 1, 1),
                (threads, 1, 1),
                shared_bytes,
                self.stream,
                &mut arguments,
            )
        }
    }

    /// Loads PTX text; the driver compiles it. Modules stay until the end of the context.
    pub(super) fn load(self: &Arc<Self>, ptx: &str) -> std::result::Result<Module, DriverError> {
        self.bind()?;
        let text = CString::new(ptx).unwrap_or_default();
        // SAFETY: the text is ended by a zero, as the driver expects of PTX.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }?;
        Ok(Module { context: self.clone(), module })
    }

    /// Memory of the host that the device reads and writes by itself.
    pub(super) fn pin(self: &Arc<Self>, bytes: usize) -> std::result::Result<Pinned, DriverError> {
        self.bind()?;
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
        let done = result::event::create(flags)?;
        // SAFETY: the memory is freed once, by its owner.
        let allocated = unsafe { result::malloc_host(bytes.max(1), 0) };
        let start = allocated.inspect_err(|_| {
            // SAFETY: the event was just made and nobody uses it.
            let _ = unsafe { result::event::destroy(done) };
        })?;
        let start = NonNull::new(start.cast::<u8>());
        let start = start.ok_or(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY))?;
        // SAFETY: the memory was just allocated with so many bytes.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Ok(Pinned { context: self.clone(), start, bytes, done, in_use: false })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A driver that is going away refuses; there is nobody left to tell.
        if self.bind().is_ok() && !self.stream.is_null() {
            // SAFETY: the stream was made by this context and nobody else holds it.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
        // SAFETY: the context was retained once.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// Memory of the device.
pub(super) struct Memory {
    context: Arc<Context>,
    address: sys::CUdeviceptr,
    bytes: u64,
}

impl Memory {
    /// The address of a range.
    ///
    /// # Panics
    /// When the range ends beyond the memory.
    pub(super) fn range(&self, offset: u64, bytes: u64) -> u64 {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.bytes));
        self.address + offset
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Work that is queued may still use it.
        let _ = self.context.wait();
        // SAFETY: nothing uses the memory any more, and it is freed once.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Memory of the host that copies run from and to. Every access waits for the copy that was begun last.
pub(super) struct Pinned {
    context: Arc<Context>,
    start: NonNull<u8>,
    bytes: usize,
    /// Recorded behind the last copy.
    done: sys::CUevent,
    in_use: bool,
}

// SAFETY: the memory belongs to this alone, and events may be used by any thread.
unsafe impl Send for Pinned {}

impl Pinned {
    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Whether no copy is on its way.
    pub(super) fn is_free(&mut self) -> bool {
        if self.in_use && self.context.bind().is_ok() {
            // SAFETY: the event lives as long as this.
            self.in_use = unsafe { result::event::query(self.done) }.is_err();
        }
        !self.in_use
    }

    fn wait(&mut self) -> std::result::Result<(), DriverError> {
        if self.in_use {
            self.context.bind()?;
            // SAFETY: the event lives as long as this.
            unsafe { result::event::synchronize(self.done) }?;
            self.in_use = false;
        }
        Ok(())
    }

    /// The bytes, once no copy is on its way.
    pub(super) fn bytes(&mut self) -> std::result::Result<&mut [u8], DriverError> {
        self.wait()?;
        // SAFETY: the memory has so many bytes, all initialised, and no copy uses it.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) })
    }

    /// Begins to copy `bytes` bytes from `from` on to the device. Several such copies may be on their way.
    pub(super) fn copy_in(
        &mut self,
        from: usize,
        memory: &Memory,
        offset: u64,
        bytes: usize,
    ) -> std::result::Result<(), DriverError> {
        assert!(from.checked_add(bytes).is_some_and(|end| end <= self.bytes));
        let to = memory.range(offset, bytes as u64);
        self.context.bind()?;
        // SAFETY: both ranges exist; the host's is not touched before the event has come.
        unsafe {
            let source = std::slice::from_raw_parts(self.start.as_ptr().add(from), bytes);
            result::memcpy_htod_async(to, source, self.context.stream)?;
        }
        self.mark()
    }

    /// Begins to copy `bytes` bytes from the device to the front of this.
    pub(super) fn copy_out(
        &mut self,
        memory: &Memory,
        offset: u64,
        bytes: usize,
    ) -> std::result::Result<(), DriverError> {
        self.wait()?;
        assert!(bytes <= self.bytes);
        let from = memory.range(offset, bytes as u64);
        self.context.bind()?;
        // SAFETY: both ranges exist; the host's is not touched before the event has come.
        unsafe {
            let target = std::slice::from_raw_parts_mut(self.start.as_ptr(), bytes);
            result::memcpy_dtoh_async(target, from, self.context.stream)?;
        }
        self.mark()
    }

    fn mark(&mut self) -> std::result::Result<(), DriverError> {
        self.in_use = true;
        // SAFETY: event and stream live as long as this.
        unsafe { result::event::record(self.done, self.context.stream) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.wait().is_err() || self.context.bind().is_err() {
            // The device is lost: whether it still writes is unknown, so the memory is left to the end of the program.
            return;
        }
        // SAFETY: no copy uses the memory or the event, and both are given back once.
        unsafe {
            let _ = result::event::destroy(self.done);
            let _ = result::free_host(self.start.as_ptr().cast());
        }
    }
}

/// Compiled kernels.
pub(super) struct Module {
    context: Arc<Context>,
    module: sys::CUmodule,
}

// SAFETY: a module may be used by any thread that has made its context current.
unsafe impl Send for Module {}
// SAFETY: the driver's calls are thread-safe.
unsafe impl Sync for Module {}

/// A kernel of a module.
#[derive(Clone, Copy)]
pub(super) struct Function(sys::CUfunction);

// SAFETY: a function may be used by any thread that has made its context current.
unsafe impl Send for Function {}
// SAFETY: the driver's calls are thread-safe.
unsafe impl Sync for Function {}

impl Module {
    /// The kernel of this name.
    pub(super) fn function(&self, name: &str) -> Result<Function> {
        let missing = |error| fault(&format!("looking for kernel {name}"), error);
        self.context.bind().map_err(missing)?;
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: the module is never unloaded.
        unsafe { result::module::get_function(self.module, text) }.map(Function).map_err(missing)
    }
}

/// How a kernel is spread out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Blocks of the grid.
    pub(super) blocks: u32,
    /// Threads of a block.
    pub(super) threads: u32,
    /// Bytes of dynamic shared memory, at most 48 KiB.
    pub(super) shared_bytes: u32,
}
