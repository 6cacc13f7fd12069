// CUDA C++ for a host compiler: the built-ins of a kernel, and a launch that runs the threads one after the other.
//
// If a kernel has barriers, each thread of a block has its own stack and runs to the next barrier; there the next
// thread runs.  The order of blocks and threads can be reversed or shuffled: a kernel whose result depends on it is wrong.
// With -fsanitize=thread every thread is a fiber of ThreadSanitizer, which then reports unordered accesses to one address,
// within a block and between blocks.
//
// Not emulated: textures, streams, cooperative groups, dynamic parallelism, and the reorderings that a GPU's memory model
// allows.
#pragma once
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef WITH_CUDA_HEADERS  // kernels that CuPy generates use its vector types
#include <cuda_runtime_api.h>
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __align__
#else
struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
#endif
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __ldg(p) (*(p))

#ifdef __SANITIZE_THREAD__
#include <thread>
#define __shared__ static thread_local  // each block runs in a separate host thread
#define TSAN(...) __VA_ARGS__
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#else
#define __shared__ static  // blocks run one at a time, so one copy is enough
#define TSAN(...)
#endif

// ---- the scheduler: ThreadSanitizer must ignore its accesses, which are not part of the kernel ----
namespace emulation {
#define UNWATCHED __attribute__((no_sanitize("thread"), noinline)) static

static uint3 thread, block;
static dim3 threads, blocks;
UNWATCHED uint3 thread_index() { return thread; }
UNWATCHED uint3 block_index() { return block; }
UNWATCHED dim3 block_size() { return threads; }
UNWATCHED dim3 grid_size() { return blocks; }

enum State { READY, AT_WARP_BARRIER, AT_BLOCK_BARRIER, DONE };
struct Fiber {
    void* stack_pointer;
    State state;
    unsigned barrier;  // identifies the barrier at which the thread waits, by its line
    unsigned passed;   // number of barriers reached so far
};
enum { STACK = 64 << 10 };
static std::vector<Fiber> fibers;
static std::vector<char> stacks, shared_memory;
static std::vector<int> thread_order;
static void* scheduler;
static int current;
static bool has_barriers;
static const char* error;
static int only = -1;  // the only thread to run, numbered through all blocks; -1: all
static void (*kernel)(void**);
static void** arguments;
TSAN(static std::vector<void*> watched; static void* watched_scheduler; static char barrier_marks[2], start_mark, end_mark;)

static void* dynamic_shared_memory() { return shared_memory.data(); }

// Saves the callee-saved registers on this stack and the stack pointer in *from, then continues on the stack `to`.
__attribute__((naked, noinline, noipa, no_sanitize("address", "undefined", "thread")))
static void switch_stack(void** from, void* to) {
    asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}

UNWATCHED void to_scheduler() {
    TSAN(__tsan_switch_to_fiber(watched_scheduler, 1);)
    switch_stack(&fibers[current].stack_pointer, scheduler);
}

UNWATCHED void wait_at(State kind, unsigned barrier) {
    if (!has_barriers) {
        error = "the kernel reaches a barrier that the compiler did not see in its source";
        return;
    }
    fibers[current].state = kind;
    fibers[current].barrier = barrier;
    // A thread may reach its next barrier before the others have left this one, so successive barriers alternate between
    // two marks for ThreadSanitizer.
    TSAN(char* mark = barrier_marks + fibers[current].passed++ % 2; __tsan_release(mark);)
    to_scheduler();
    TSAN(__tsan_acquire(mark);)
}

UNWATCHED void first_call() {
    TSAN(__tsan_acquire(&start_mark);)
    kernel(arguments);
    fibers[current].state = DONE;
    TSAN(__tsan_release(&end_mark);)
    to_scheduler();
}

UNWATCHED void be_thread(int t) {
    thread.x = t % threads.x;
    thread.y = t / threads.x % threads.y;
    thread.z = t / threads.x / threads.y;
}

UNWATCHED void resume(int t) {
    current = t;
    be_thread(t);
    fibers[t].state = READY;
    TSAN(__tsan_switch_to_fiber(watched[t], 1);)
    switch_stack(&scheduler, fibers[t].stack_pointer);
}

// Runs the threads of one warp until each has finished or waits at a barrier of the whole block.
UNWATCHED void run_warp(const std::vector<int>& lanes) {
    for (;;) {
        int ran = 0, waiting = 0;
        unsigned barrier = 0;
        for (int t : lanes) {
            if (fibers[t].state == DONE || fibers[t].state == AT_BLOCK_BARRIER) continue;
            resume(t);
            ++ran;
            if (fibers[t].state != AT_WARP_BARRIER) continue;
            if (waiting++ && fibers[t].barrier != barrier) error = "threads of one warp wait at different warp barriers";
            barrier = fibers[t].barrier;
        }
        if (!waiting || error) return;
        if (waiting != ran) {
            error = "a warp barrier or shuffle is not reached by all threads of the warp";
            return;
        }
    }
}

UNWATCHED void run_block() {
    const int count = thread_order.size();
    std::vector<std::vector<int>> warps((count + 31) / 32);
    for (int t : thread_order) warps[t / 32].push_back(t);
    TSAN(static thread_local volatile char touched; touched = 1;  // create this block's shared memory here, not in a fiber
         __tsan_release(&start_mark); watched_scheduler = __tsan_get_current_fiber(); watched.assign(count, nullptr);
         for (auto& fiber : watched) fiber = __tsan_create_fiber(0);)
    for (int t = 0; t < count; ++t) {
        // The stack looks as if switch_stack had saved it: six registers, then the return address first_call.
        auto top = (uintptr_t)&stacks[(size_t)(t + 1) * STACK] & ~(uintptr_t)15;
        auto frame = (void**)(top - 16) - 6;
        std::fill(frame, frame + 6, nullptr);
        frame[6] = (void*)first_call;
        fibers[t] = Fiber{frame, READY, 0, 0};
    }
    for (int alive = count; alive && !error;) {  // each round runs to the next barrier of the block
        for (auto& warp : warps) run_warp(warp);
        int waiting = 0;
        unsigned barrier = 0;
        alive = 0;
        for (auto& fiber : fibers) {
            if (fiber.state == DONE) continue;
            ++alive;
            if (waiting++ && fiber.barrier != barrier) error = "threads of one block wait at different __syncthreads()";
            barrier = fiber.barrier;
            fiber.state = READY;
        }
        // Since Volta, finished threads do not take part in a barrier.  MINIFCN_CUDA_STRICT=1 makes that an error.
        static const bool strict = getenv("MINIFCN_CUDA_STRICT");
        if (strict && alive && alive < count) error = "__syncthreads() is not reached by all threads of the block";
    }
    TSAN(for (auto& fiber : watched) __tsan_destroy_fiber(fiber);)
}

// 0 … n − 1: ascending if order is 0, descending if it is 1, else shuffled with `order` as the seed.
UNWATCHED std::vector<int> sequence(int n, unsigned order) {
    std::vector<int> sequence(n);
    for (int i = 0; i < n; ++i) sequence[i] = order == 1 ? n - 1 - i : i;
    for (int i = n - 1; order > 1 && i > 0; --i) {
        order = order * 1664525u + 1013904223u;
        std::swap(sequence[i], sequence[(order >> 8) % (i + 1)]);
    }
    return sequence;
}

UNWATCHED const char* launch(void (*f)(void**), void** a, const unsigned* grid, const unsigned* size, unsigned shared,
                             unsigned order, bool barriers) {
    blocks = dim3(grid[0], grid[1], grid[2]);
    threads = dim3(size[0], size[1], size[2]);
    const int count = size[0] * size[1] * size[2];
    kernel = f, arguments = a, has_barriers = barriers, error = nullptr;
    shared_memory.assign(shared + 16, (char)0xFF);
    thread_order = sequence(count, order > 1 ? order + 7 : order);  // another shuffle than that of the blocks
    if (barriers) fibers.resize(count), stacks.resize((size_t)count * STACK);
    TSAN(__tsan_release(&start_mark);)
    for (int b : sequence(grid[0] * grid[1] * grid[2], order)) {
        block.x = b % grid[0], block.y = b / grid[0] % grid[1], block.z = b / grid[0] / grid[1];
        if (!barriers)
            for (int t : thread_order) {
                if (only < 0 || only == b * count + t) be_thread(t), f(a);
            }
        else {
#ifdef __SANITIZE_THREAD__
            std::thread(run_block).join();  // new thread, new shared memory; join() does not order the fibers
#else
            run_block();
#endif
        }
        if (error) break;
    }
    TSAN(__tsan_acquire(&end_mark);)
    return error;
}

// Calls f with the values at the pointers a, each read as the type of its parameter.
template <class... A, size_t... I>
static void call_with(void (*f)(A...), void** a, std::index_sequence<I...>) {
    f(*(std::remove_const_t<std::remove_reference_t<A>>*)a[I]...);
}
template <class... A>
static void call(void (*f)(A...), void** a) {
    call_with(f, a, std::index_sequence_for<A...>());
}

static char lane_values[1024][16];
template <class T>
static T shuffle(T value, int from, unsigned barrier) {
    memcpy(lane_values[current], &value, sizeof value);
    wait_at(AT_WARP_BARRIER, barrier);
    memcpy(&value, lane_values[from], sizeof value);
    wait_at(AT_WARP_BARRIER, barrier + 1);
    return value;
}
}  // namespace emulation

#ifdef __SANITIZE_THREAD__
#define threadIdx emulation::thread_index()
#define blockIdx emulation::block_index()
#define blockDim emulation::block_size()
#define gridDim emulation::grid_size()
#else
#define threadIdx emulation::thread
#define blockIdx emulation::block
#define blockDim emulation::threads
#define gridDim emulation::blocks
#endif
static const int warpSize = 32;

// ---- barriers and shuffles, identified by their line numbers ----
#define __syncthreads() emulation::wait_at(emulation::AT_BLOCK_BARRIER, __LINE__)
#define __syncwarp(...) emulation::wait_at(emulation::AT_WARP_BARRIER, 4 * __LINE__)
#define LANE (emulation::current & 31)
#define SHUFFLE(value, from) emulation::shuffle(value, from, 4 * __LINE__ + 1)
#define __shfl_sync(mask, value, lane, ...) SHUFFLE(value, emulation::current - LANE + ((lane) & 31))
#define __shfl_xor_sync(mask, value, lanes, ...) SHUFFLE(value, emulation::current ^ (lanes))
#define __shfl_up_sync(mask, value, by, ...) SHUFFLE(value, emulation::current - (LANE >= (int)(by) ? (int)(by) : 0))
#define __shfl_down_sync(mask, value, by, ...) SHUFFLE(value, emulation::current + (LANE + (int)(by) < 32 ? (int)(by) : 0))
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// ---- atomics: only the overloads that CUDA has; real atomics, so that ThreadSanitizer does not report them as races ----
template <class T, class F>
static T update_atomically(T* address, F f) {
    T old, updated;
    __atomic_load(address, &old, __ATOMIC_RELAXED);
    do updated = f(old);
    while (!__atomic_compare_exchange(address, &old, &updated, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
typedef unsigned long long ull;
#define ATOMIC(name, T, result) \
    static inline T name(T* address, T v) { return update_atomically(address, [=](T o) -> T { return result; }); }
#define INTEGERS(name, result) ATOMIC(name, int, result) ATOMIC(name, unsigned, result) ATOMIC(name, ull, result)
INTEGERS(atomicAdd, o + v) ATOMIC(atomicAdd, float, o + v) ATOMIC(atomicAdd, double, o + v)
ATOMIC(atomicSub, int, o - v) ATOMIC(atomicSub, unsigned, o - v)
INTEGERS(atomicMax, std::max(o, v)) ATOMIC(atomicMax, long long, std::max(o, v))
INTEGERS(atomicMin, std::min(o, v)) ATOMIC(atomicMin, long long, std::min(o, v))
INTEGERS(atomicExch, v) ATOMIC(atomicExch, float, v)
INTEGERS(atomicOr, o | v) INTEGERS(atomicAnd, o & v) INTEGERS(atomicXor, o ^ v)
#undef ATOMIC
#undef INTEGERS
#define COMPARE_AND_SWAP(T) \
    static inline T atomicCAS(T* address, T compare, T v) { \
        return update_atomically(address, [=](T o) { return o == compare ? v : o; }); \
    }
COMPARE_AND_SWAP(int) COMPARE_AND_SWAP(unsigned) COMPARE_AND_SWAP(ull) COMPARE_AND_SWAP(unsigned short)
#undef COMPARE_AND_SWAP

// ---- mathematics: from the host's library, which may round differently from a GPU's ----
template <class A, class B>
static inline A same_bits(B b) {
    static_assert(sizeof(A) == sizeof(B), "");
    A a;
    memcpy(&a, &b, sizeof a);
    return a;
}
static inline int __float_as_int(float x) { return same_bits<int>(x); }
static inline float __int_as_float(int x) { return same_bits<float>(x); }
static inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(ull x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
#define __expf expf
#define __logf logf
#define __powf powf
#define __fdividef(a, b) ((a) / (b))
static inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
static inline float rsqrt(float x) { return 1 / std::sqrt(x); }
static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
using std::abs; using std::ceil; using std::exp; using std::fabs; using std::floor; using std::fmod; using std::isfinite;
using std::isinf; using std::isnan; using std::log; using std::pow; using std::rint; using std::signbit; using std::sqrt;
using std::tanh;
#define SAME(T) \
    static inline T min(T a, T b) { return a < b ? a : b; } \
    static inline T max(T a, T b) { return a > b ? a : b; }
SAME(int) SAME(unsigned) SAME(long) SAME(unsigned long) SAME(long long) SAME(ull)
#undef SAME
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
#define MIXED(A, B) \
    static inline auto min(A a, B b) { typedef std::common_type_t<A, B> T; return min((T)a, (T)b); } \
    static inline auto max(A a, B b) { typedef std::common_type_t<A, B> T; return max((T)a, (T)b); }
MIXED(int, long long) MIXED(long long, int) MIXED(long, long long) MIXED(long long, long) MIXED(int, unsigned)
MIXED(unsigned, int) MIXED(float, double) MIXED(double, float)
#undef MIXED
