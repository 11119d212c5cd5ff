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
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct uint2 { unsigned x, y; };
struct uint3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace host {

[[noreturn]] inline void fail(const char* message) {
    std::fprintf(stderr, "kernel on the host: %s\n", message);
    std::abort();
}

constexpr unsigned WARP = 32;
constexpr size_t STACK = 256 << 10;

// A stack on which threads run: one after the other, until one waits.
struct Fiber {
    ucontext_t start;
    jmp_buf place;
    std::unique_ptr<char[]> stack{new char[STACK]};
    bool begun = false;
};

struct Thread {
    uint3 index;
    Fiber* fiber;
    bool begun, ended;
    unsigned exchanges;
    // Copies that were begun: to, from, bytes.
    std::vector<std::tuple<void*, const void*, size_t>> copies;
};

// Lanes that meet: all of a warp, or all threads of a block.
struct Meeting {
    unsigned members, arrived, round;
};

struct Warp {
    Meeting meeting;
    // What lanes give away, twice: who is ahead writes the other.
    unsigned given[2][WARP][6];
};

struct Block {
    std::vector<Thread> threads;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Fiber*> idle;
    std::vector<Warp> warps;
    Meeting all;
    std::vector<char> dynamic;
    uint3 index, size;
    unsigned current, progress, begun;
    bool backwards;
    jmp_buf scheduler;
    std::function<void()> body;
};

inline Block block;

inline Thread& self() { return block.threads[block.current]; }

inline void leave(Fiber* fiber) {
    if (_setjmp(fiber->place) == 0) {
        _longjmp(block.scheduler, 1);
    }
}

inline void yield() { leave(self().fiber); }

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

// What every lane of the warp gives: up to six words each.
inline unsigned (*gather(unsigned mask, const void* words, size_t count))[6] {
    if (mask != 0xffffffffu || warp().meeting.members != WARP) {
        fail("lanes of a part of a warp exchange values");
    }
    unsigned turn = self().exchanges++ % 2;
    std::memcpy(warp().given[turn][lane()], words, 4 * count);
    meet(warp().meeting);
    return warp().given[turn];
}

template <class T> T exchange(unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) == 4);
    std::memcpy(&value, gather(mask, &value, 1)[from % WARP], 4);
    return value;
}

// The i-th thread to begin.
inline unsigned in_order(unsigned i) { return block.backwards ? block.size.x - 1 - i : i; }

// Lets the next thread begin on a fiber.
inline void begin_next(Fiber* fiber) {
    block.current = in_order(block.begun++);
    self().begun = true;
    self().fiber = fiber;
}

inline void run_fiber() {
    while (true) {
        block.body();
        if (!self().copies.empty()) {
            fail("a thread ends before its copies have come");
        }
        self().ended = true;
        block.progress++;
        if (block.begun < block.size.x) {
            begin_next(self().fiber);
        } else {
            block.idle.push_back(self().fiber);
            leave(self().fiber);
        }
    }
}

inline void resume(unsigned number) {
    if (_setjmp(block.scheduler) != 0) {
        return;
    }
    if (block.threads[number].begun) {
        block.current = number;
    } else {
        if (block.idle.empty()) {
            block.fibers.push_back(std::make_unique<Fiber>());
            block.idle.push_back(block.fibers.back().get());
        }
        Fiber* fiber = block.idle.back();
        block.idle.pop_back();
        begin_next(fiber);
    }
    Fiber& fiber = *self().fiber;
    if (fiber.begun) {
        _longjmp(fiber.place, 1);
    }
    fiber.begun = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, run_fiber, 0);
    setcontext(&fiber.start);
}

// Runs one block. Its threads take turns forwards or backwards, so that a missing barrier shows.
inline void run_block(bool backwards) {
    unsigned threads = block.size.x;
    for (unsigned i = 0; i < threads; i++) {
        Thread& thread = block.threads[i];
        thread.index = {i, 0, 0};
        thread.begun = thread.ended = false;
        thread.exchanges = 0;
    }
    for (Warp& warp : block.warps) {
        unsigned first = WARP * unsigned(&warp - block.warps.data());
        warp.meeting = {std::min(WARP, threads - first), 0, 0};
    }
    block.all = {threads, 0, 0};
    block.begun = 0;
    block.backwards = backwards;
    std::memset(block.dynamic.data(), 0xdc, block.dynamic.size());
    for (unsigned left = threads; left > 0;) {
        unsigned before = block.progress;
        for (unsigned i = 0; i < threads; i++) {
            if (!block.threads[in_order(i)].ended) {
                resume(in_order(i));
            }
        }
        left = 0;
        for (unsigned i = 0; i < threads; i++) {
            left += !block.threads[i].ended;
        }
        if (left > 0 && block.progress == before) {
            fail("threads wait for others that have ended or wait elsewhere");
        }
    }
}

inline void run_grid(unsigned blocks, unsigned threads, unsigned shared_bytes, std::function<void()> body) {
    block.threads.resize(threads);
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

#define ON_HOST
#define threadIdx (host::self().index)
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

// The matrix units and the copies of shared/tensor.cuh, where the places of a matrix's numbers are explained.

static inline unsigned pack_bf16(float low, float high) {
    auto nearest = [](float number) {
        unsigned bits = __float_as_uint(number);
        return std::isnan(number) ? 0x7fffu : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    };
    return nearest(low) | nearest(high) << 16;
}

static inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    unsigned mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    unsigned(*all)[6] = host::gather(0xffffffffu, mine, 6);
    auto number = [&](unsigned lane, unsigned word, unsigned half) {
        return __uint_as_float(half == 1 ? all[lane][word] & 0xffff0000u : all[lane][word] << 16);
    };
    unsigned lane = host::lane();
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        float sum = 0;
        for (unsigned k = 0; k < 16; k++) {
            float left = number(row % 8 * 4 + k % 8 / 2, row / 8 + k / 8 * 2, k % 2);
            float right = number(column * 4 + k % 8 / 2, 4 + k / 8, k % 2);
            sum += left * right;
        }
        c[i] += sum;
    }
}

static inline void begin_copy(float* shared, const float4* from) {
    if (size_t(shared) % 16 != 0 || size_t(from) % 16 != 0) {
        host::fail("a copy does not begin at a multiple of 16 bytes");
    }
    host::self().copies.emplace_back(shared, from, 16);
}

static inline void wait_for_copies() {
    for (auto [to, from, bytes] : host::self().copies) {
        std::memcpy(to, from, bytes);
    }
    host::self().copies.clear();
}
