// CUDA C++ on the host, for kernels that are compiled as C++: the threads of a block are fibers that run until a barrier
// or an exchange between lanes, where they wait for the others as they would on a GPU. What would hang or read nothing on
// a GPU ends the program with a message here.
#pragma once

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct uint2 { unsigned x, y; };
struct uint3 { unsigned x, y, z; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace host {

[[noreturn]] inline void fail(const char* message) {
    std::fprintf(stderr, "kernel on the host: %s\n", message);
    std::abort();
}

constexpr unsigned WARP = 32;
constexpr size_t STACK = 256 << 10;

struct Fiber {
    ucontext_t start;
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    uint3 thread;
    bool begun, ended;
    unsigned exchanges;
};

// Lanes that meet: all of a warp, or all threads of a block.
struct Meeting {
    unsigned members, arrived, round;
};

struct Warp {
    Meeting meeting;
    // What lanes give away, twice: who is ahead writes the other.
    unsigned given[2][WARP];
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Meeting all;
    std::vector<char> dynamic;
    uint3 index, size;
    unsigned current, progress;
    jmp_buf scheduler;
    std::function<void()> body;
};

inline Block block;

inline Fiber& self() { return block.fibers[block.current]; }

inline void yield() {
    if (_setjmp(self().place) == 0) {
        _longjmp(block.scheduler, 1);
    }
}

inline void meet(Meeting& meeting) {
    unsigned round = meeting.round;
    if (++meeting.arrived == meeting.members) {
        meeting.arrived = 0;
        meeting.round++;
        block.progress++;
        return;
    }
    while (meeting.round == round) {
        yield();
    }
}

inline unsigned lane() { return block.current % WARP; }
inline Warp& warp() { return block.warps[block.current / WARP]; }

template <class T> T exchange(unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) == 4);
    if (mask != 0xffffffffu || warp().meeting.members != WARP) {
        fail("lanes of a part of a warp exchange values");
    }
    unsigned turn = self().exchanges++ % 2;
    std::memcpy(&warp().given[turn][lane()], &value, 4);
    meet(warp().meeting);
    std::memcpy(&value, &warp().given[turn][from % WARP], 4);
    return value;
}

inline void run_fiber() {
    block.body();
    self().ended = true;
    block.progress++;
    _longjmp(block.scheduler, 1);
}

inline void resume(unsigned number) {
    block.current = number;
    Fiber& fiber = self();
    if (_setjmp(block.scheduler) != 0) {
        return;
    }
    if (fiber.begun) {
        _longjmp(fiber.place, 1);
    }
    fiber.begun = true;
    setcontext(&fiber.start);
}

// Runs one block. Its threads take turns forwards or backwards, so that a missing barrier shows.
inline void run_block(bool backwards) {
    unsigned threads = block.size.x;
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = block.fibers[i];
        fiber.begun = fiber.ended = false;
        fiber.exchanges = 0;
        fiber.thread = {i, 0, 0};
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.get();
        fiber.start.uc_stack.ss_size = STACK;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, run_fiber, 0);
    }
    for (Warp& warp : block.warps) {
        unsigned first = WARP * unsigned(&warp - block.warps.data());
        warp.meeting = {std::min(WARP, threads - first), 0, 0};
    }
    block.all = {threads, 0, 0};
    std::memset(block.dynamic.data(), 0xdc, block.dynamic.size());
    for (unsigned left = threads; left > 0;) {
        unsigned before = block.progress;
        left = 0;
        for (unsigned i = 0; i < threads; i++) {
            unsigned number = backwards ? threads - 1 - i : i;
            if (!block.fibers[number].ended) {
                resume(number);
                left += !block.fibers[number].ended;
            }
        }
        if (left > 0 && block.progress == before) {
            fail("threads wait for others that have ended or wait elsewhere");
        }
    }
}

inline void run_grid(unsigned blocks, unsigned threads, unsigned shared_bytes, std::function<void()> body) {
    while (block.fibers.size() < threads) {
        block.fibers.emplace_back();
        block.fibers.back().stack = std::make_unique<char[]>(STACK);
    }
    block.warps.resize((threads + WARP - 1) / WARP);
    block.dynamic.resize(shared_bytes + 16);
    block.size = {threads, 1, 1};
    block.body = std::move(body);
    for (unsigned i = 0; i < blocks; i++) {
        block.index = {i, 0, 0};
        run_block(i % 2 == 1);
    }
}

inline void* dynamic_shared() {
    return (void*)((size_t(block.dynamic.data()) + 15) / 16 * 16);
}

// Bytes of each argument of a kernel.
template <class... A> std::vector<size_t> sizes(void (*)(A...)) { return {sizeof(A)...}; }

// Calls a kernel with the arguments that the driver was given.
template <class... A, size_t... I>
void call_with(void (*kernel)(A...), const std::vector<std::vector<char>>& arguments, std::index_sequence<I...>) {
    kernel(*(const A*)arguments[I].data()...);
}

template <class... A> void call(void (*kernel)(A...), const std::vector<std::vector<char>>& arguments) {
    call_with(kernel, arguments, std::index_sequence_for<A...>());
}

} // namespace host

#define threadIdx (host::self().thread)
#define blockIdx (host::block.index)
#define blockDim (host::block.size)
#define DYNAMIC_SHARED(name) float4* name = (float4*)host::dynamic_shared()

static inline void __syncthreads() { host::meet(host::block.all); }
static inline void __syncwarp() { host::meet(host::warp().meeting); }

template <class T> T __shfl_sync(unsigned mask, T value, unsigned from) {
    return host::exchange(mask, value, from);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, unsigned with) {
    return host::exchange(mask, value, host::lane() ^ with);
}

static inline unsigned atomicAdd(unsigned* at, unsigned value) {
    unsigned before = *at;
    *at += value;
    return before;
}

static inline unsigned __popc(unsigned word) { return unsigned(__builtin_popcount(word)); }

static inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
