// A stand-in for NVIDIA's driver on machines without one: the calls that regrow makes, with the kernels compiled for the
// processor (host.hpp). Work that is queued runs when somebody waits for it, so that memory which is touched too early
// shows.
//
// REGROW_HOST_DEVICES devices (1), of REGROW_HOST_MEMORY MiB each (4096), with a driver of version REGROW_HOST_VERSION
// (12040); REGROW_HOST_LOST=N: the N-th launch and everything after it fails.

#include <deque>
#include <map>
#include <mutex>
#include <string>

#include "host.hpp"
#include "kernels.cu"

namespace {

using Code = int;
constexpr Code SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
               INVALID_DEVICE = 101, INVALID_IMAGE = 200, NOT_FOUND = 500, NOT_READY = 600, LAUNCH_FAILED = 719;

using Call = void (*)(const std::vector<std::vector<char>>&);

struct Kernel {
    const char* name;
    std::vector<size_t> sizes;
    Call call;
};

#define ENTRY(name) \
    {#name, host::sizes(name), [](const std::vector<std::vector<char>>& arguments) { host::call(name, arguments); }},
const Kernel KERNELS[] = {
#include "entries.inc"
};

struct Event {
    size_t after = 0;
};

std::recursive_mutex lock;
std::deque<std::function<void()>> queue;
size_t queued = 0, done = 0;
std::map<unsigned long long, size_t> device_memory;
std::map<void*, size_t> pinned_memory;
size_t allocated = 0, launches = 0;
bool started = false;
// Handed out as handles; nobody looks behind them.
int context, stream, module_handle;

using Guard = std::lock_guard<std::recursive_mutex>;

size_t number(const char* name, size_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoul(text, nullptr, 10) : otherwise;
}

bool is_lost() { return launches > 0 && launches >= number("REGROW_HOST_LOST", SIZE_MAX); }

void push(std::function<void()> work) {
    queue.push_back(std::move(work));
    queued++;
}

Code run_until(size_t end) {
    while (done < end) {
        if (!is_lost()) {
            queue.front()();
        }
        queue.pop_front();
        done++;
    }
    return is_lost() ? LAUNCH_FAILED : SUCCESS;
}

bool is_device(unsigned long long address, size_t bytes) {
    auto found = device_memory.upper_bound(address);
    if (found == device_memory.begin()) {
        return false;
    }
    --found;
    return address + bytes <= found->first + found->second;
}

bool is_pinned(const void* address, size_t bytes) {
    auto found = pinned_memory.upper_bound(const_cast<void*>(address));
    if (found == pinned_memory.begin()) {
        return false;
    }
    --found;
    return (const char*)address + bytes <= (const char*)found->first + found->second;
}

} // namespace

extern "C" {

Code cuInit(unsigned) {
    if (number("REGROW_HOST_DEVICES", 1) == 0) {
        return NO_DEVICE;
    }
    started = true;
    return SUCCESS;
}

Code cuDriverGetVersion(int* version) {
    *version = int(number("REGROW_HOST_VERSION", 12040));
    return SUCCESS;
}

Code cuDeviceGetCount(int* count) {
    *count = int(number("REGROW_HOST_DEVICES", 1));
    return started ? SUCCESS : NOT_INITIALIZED;
}

Code cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal < int(number("REGROW_HOST_DEVICES", 1)) ? SUCCESS : INVALID_DEVICE;
}

Code cuDeviceGetName(char* name, int length, int) {
    std::snprintf(name, size_t(length), "CUDA kernels on the host");
    return SUCCESS;
}

Code cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = number("REGROW_HOST_MEMORY", 4096) << 20;
    return SUCCESS;
}

Code cuDeviceGetAttribute(int* value, int attribute, int) {
    // Compute capability, major and minor.
    *value = attribute == 75 ? 8 : attribute == 76 ? 0 : -1;
    return *value < 0 ? INVALID_VALUE : SUCCESS;
}

Code cuDevicePrimaryCtxRetain(void** out, int) {
    *out = &context;
    return SUCCESS;
}

Code cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

Code cuCtxSetCurrent(void* wanted) { return wanted == &context ? SUCCESS : INVALID_VALUE; }

Code cuStreamCreate(void** out, unsigned) {
    *out = &stream;
    return SUCCESS;
}

Code cuStreamDestroy_v2(void*) { return SUCCESS; }

Code cuStreamSynchronize(void*) {
    Guard guard(lock);
    return run_until(queued);
}

Code cuEventCreate(void** out, unsigned) {
    *out = new Event;
    return SUCCESS;
}

Code cuEventDestroy_v2(void* event) {
    delete (Event*)event;
    return SUCCESS;
}

Code cuEventRecord(void* event, void*) {
    Guard guard(lock);
    ((Event*)event)->after = queued;
    return SUCCESS;
}

Code cuEventSynchronize(void* event) {
    Guard guard(lock);
    return run_until(((Event*)event)->after);
}

Code cuEventQuery(void* event) {
    Guard guard(lock);
    return ((Event*)event)->after <= done ? SUCCESS : NOT_READY;
}

Code cuMemAlloc_v2(unsigned long long* out, size_t bytes) {
    Guard guard(lock);
    if (allocated + bytes > number("REGROW_HOST_MEMORY", 4096) << 20) {
        return OUT_OF_MEMORY;
    }
    // Whatever lay there before.
    void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(memory, 0xcd, bytes);
    *out = (unsigned long long)memory;
    device_memory[*out] = bytes;
    allocated += bytes;
    return SUCCESS;
}

Code cuMemFree_v2(unsigned long long address) {
    Guard guard(lock);
    auto found = device_memory.find(address);
    if (found == device_memory.end()) {
        return INVALID_VALUE;
    }
    if (done < queued) {
        host::fail("memory of the device is freed while work is queued");
    }
    allocated -= found->second;
    device_memory.erase(found);
    std::free((void*)address);
    return SUCCESS;
}

Code cuMemGetInfo_v2(size_t* available, size_t* total) {
    Guard guard(lock);
    *total = number("REGROW_HOST_MEMORY", 4096) << 20;
    *available = *total - allocated;
    return SUCCESS;
}

Code cuMemHostAlloc(void** out, size_t bytes, unsigned) {
    Guard guard(lock);
    *out = std::malloc(bytes);
    pinned_memory[*out] = bytes;
    return SUCCESS;
}

Code cuMemFreeHost(void* memory) {
    Guard guard(lock);
    pinned_memory.erase(memory);
    std::free(memory);
    return SUCCESS;
}

Code cuMemsetD8Async(unsigned long long address, unsigned char value, size_t bytes, void*) {
    Guard guard(lock);
    if (!is_device(address, bytes)) {
        return INVALID_VALUE;
    }
    push([=] { std::memset((void*)address, value, bytes); });
    return SUCCESS;
}

Code cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, size_t bytes, void*) {
    Guard guard(lock);
    if (!is_device(to, bytes) || !is_pinned(from, bytes)) {
        return INVALID_VALUE;
    }
    push([=] { std::memcpy((void*)to, from, bytes); });
    return SUCCESS;
}

Code cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, size_t bytes, void*) {
    Guard guard(lock);
    if (!is_device(from, bytes) || !is_pinned(to, bytes)) {
        return INVALID_VALUE;
    }
    push([=] { std::memcpy(to, (const void*)from, bytes); });
    return SUCCESS;
}

Code cuModuleLoadData(void** out, const void* image) {
    // The text must have a function for each kernel that the host has.
    std::string text = (const char*)image;
    for (const Kernel& kernel : KERNELS) {
        if (text.find(".visible .entry " + std::string(kernel.name) + "(") == std::string::npos) {
            return INVALID_IMAGE;
        }
    }
    *out = &module_handle;
    return SUCCESS;
}

Code cuModuleGetFunction(void** out, void*, const char* name) {
    for (const Kernel& kernel : KERNELS) {
        if (std::strcmp(kernel.name, name) == 0) {
            *out = (void*)&kernel;
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

Code cuLaunchKernel(
    void* function, unsigned blocks, unsigned y, unsigned z, unsigned threads, unsigned ty, unsigned tz,
    unsigned shared_bytes, void*, void** parameters, void**
) {
    Guard guard(lock);
    launches++;
    if (is_lost()) {
        return LAUNCH_FAILED;
    }
    if (blocks == 0 || threads == 0 || threads > 1024 || shared_bytes > 48 << 10 || y * z * ty * tz != 1) {
        return INVALID_VALUE;
    }
    // As the driver does, which has copied the arguments when it returns.
    const Kernel* kernel = (const Kernel*)function;
    std::vector<std::vector<char>> arguments;
    for (size_t i = 0; i < kernel->sizes.size(); i++) {
        arguments.emplace_back((char*)parameters[i], (char*)parameters[i] + kernel->sizes[i]);
    }
    push([=] { host::run_grid(blocks, threads, shared_bytes, [&] { kernel->call(arguments); }); });
    return SUCCESS;
}

Code cuGetErrorName(Code code, const char** name) {
    *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
        : code == LAUNCH_FAILED   ? "CUDA_ERROR_LAUNCH_FAILED"
        : code == INVALID_IMAGE   ? "CUDA_ERROR_INVALID_IMAGE"
        : code == INVALID_VALUE   ? "CUDA_ERROR_INVALID_VALUE"
                                  : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}

Code cuGetErrorString(Code, const char** text) {
    *text = "as the host's stand-in for the driver reports it";
    return SUCCESS;
}

} // extern "C"
