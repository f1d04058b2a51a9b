// Enough of CUDA C++ for g++ to run a kernel on this machine. Threads of a block are fibers: they take turns, and only
// where they wait for each other. What CUDA leaves undefined and this can see is an error.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __constant__ static const
#define __launch_bounds__(n)
#define __restrict__
// One block runs at a time. The section's bytes are set to NaNs before each.
#define __shared__ static __attribute__((section("emulated_shared")))
extern char __start_emulated_shared[] __attribute__((weak));
extern char __stop_emulated_shared[] __attribute__((weak));

struct uint3 { unsigned x, y, z; };
static uint3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

using std::abs; using std::ceil; using std::cos; using std::erf; using std::exp; using std::expm1; using std::fabs;
using std::floor; using std::fma; using std::fmax; using std::fmin; using std::isfinite; using std::isnan;
using std::log; using std::log1p; using std::pow; using std::sin; using std::sqrt; using std::tanh;
template <class A> static A max(A a, A b) { return a > b ? a : b; }
template <class A> static A min(A a, A b) { return a < b ? a : b; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
// Of whole numbers alone: sums of floats would depend on the order.
template <class A> static A atomicAdd(A* at, A more) {
    static_assert(std::is_integral<A>::value, "no float atomics");
    A before = *at; *at += more; return before;
}
template <class A> static A atomicMax(A* at, A other) {
    static_assert(std::is_integral<A>::value, "no float atomics");
    A before = *at; if (other > before) *at = other; return before;
}

namespace emulated {
enum State { READY, AT_BLOCK, AT_WARP, DONE };
struct Fiber { ucontext_t context; uint3 index; State state; unsigned mask; int line; bool made; };
static const int MOST = 1024, STACK = 1 << 16;
static Fiber fibers[MOST];
static char* stacks;
static ucontext_t scheduler;
static int current, count;
static std::function<void()> body;
static char message[256];
static uint64_t slots[MOST];

static __attribute__((noinline)) void yield() { swapcontext(&fibers[current].context, &scheduler); }

static void forever() {
    for (;;) { body(); fibers[current].state = DONE; yield(); }
}

static void wait(State state, unsigned mask, int line) {
    Fiber& f = fibers[current];
    f.state = state; f.mask = mask; f.line = line;
    yield();
}

static void resume(int i) {
    Fiber& f = fibers[i];
    if (!f.made) {
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = stacks + (size_t)i * STACK; f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, forever, 0);
        f.made = true;
    }
    current = i; threadIdx = f.index;
    swapcontext(&scheduler, &f.context);
}

// Lets go all warps whose lanes are at one place. -1: an error.
static int free_warps() {
    int freed = 0;
    for (int i = 0; i < count; i++) {
        if (fibers[i].state != AT_WARP) continue;
        int warp = i / 32 * 32; bool all = true;
        for (int lane = 0; lane < 32; lane++) {
            if (!(fibers[i].mask >> lane & 1)) continue;
            if (warp + lane >= count || fibers[warp + lane].state == DONE) {
                snprintf(message, sizeof message, "line %d: lane %d of the mask is not there", fibers[i].line, lane);
                return -1;
            }
            const Fiber& other = fibers[warp + lane];
            all = all && other.state == AT_WARP && other.mask == fibers[i].mask && other.line == fibers[i].line;
        }
        if (!all) continue;
        unsigned mask = fibers[i].mask;
        for (int lane = 0; lane < 32; lane++) if (mask >> lane & 1) { fibers[warp + lane].state = READY; freed++; }
    }
    return freed;
}

static int run_block(bool reversed) {
    if (__start_emulated_shared) memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
    for (;;) {
        bool any = false;
        for (int k = 0; k < count; k++) {
            int i = reversed ? count - 1 - k : k;
            while (fibers[i].state == READY) { resume(i); any = true; }
        }
        int freed = free_warps();
        if (freed < 0) return 1;
        if (freed) continue;
        int alive = 0, waiting = 0, line = 0; bool same = true;
        for (int i = 0; i < count; i++) {
            if (fibers[i].state == DONE) continue;
            alive++;
            if (fibers[i].state != AT_BLOCK) continue;
            if (waiting++) same = same && fibers[i].line == line; else line = fibers[i].line;
        }
        if (!alive) return 0;
        if (waiting != alive || !same || (!any && !waiting)) {
            snprintf(message, sizeof message, "threads of a block wait for each other at different places");
            return 1;
        }
        for (int i = 0; i < count; i++) if (fibers[i].state == AT_BLOCK) fibers[i].state = READY;
    }
}

template <class A> static A argument(void* p) { return *(typename std::remove_cv<A>::type*)p; }
template <class... A, size_t... I>
static void apply(void (*kernel)(A...), void** args, std::index_sequence<I...>) { kernel(argument<A>(args[I])...); }

// reversed: blocks and threads take their turns from the last to the first.
template <class... A> static int launch(void (*kernel)(A...), const unsigned* dims, void** args, int reversed) {
    gridDim = {dims[0], dims[1], dims[2]}; blockDim = {dims[3], dims[4], dims[5]};
    count = dims[3] * dims[4] * dims[5];
    if (count > MOST) { snprintf(message, sizeof message, "%d threads are too many for a block", count); return 1; }
    if (!stacks) stacks = (char*)malloc((size_t)MOST * STACK);
    body = [=] { apply(kernel, args, std::index_sequence_for<A...>{}); };
    unsigned blocks = dims[0] * dims[1] * dims[2];
    for (unsigned k = 0; k < blocks; k++) {
        unsigned b = reversed ? blocks - 1 - k : k;
        blockIdx = {b % dims[0], b / dims[0] % dims[1], b / dims[0] / dims[1]};
        for (int i = 0; i < count; i++) {
            fibers[i].state = READY;
            fibers[i].index = {i % dims[3], i / dims[3] % dims[4], i / dims[3] / dims[4]};
        }
        if (run_block(reversed)) {
            for (int i = 0; i < count; i++) fibers[i].made = false;
            return 1;
        }
    }
    return 0;
}

template <class A> static A exchange(unsigned mask, A value, int from, int line) {
    static_assert(sizeof(A) <= 8, "");
    int at = current, warp = at / 32 * 32;
    memcpy(&slots[at], &value, sizeof value);
    wait(AT_WARP, mask, line);
    A read = value;
    if (from >= 0 && from < 32 && (mask >> from & 1)) memcpy(&read, &slots[warp + from], sizeof read);
    wait(AT_WARP, mask, -line);
    return read;
}
}  // namespace emulated

#define __syncthreads() emulated::wait(emulated::AT_BLOCK, 0, __LINE__)
#define __syncwarp(...) emulated::wait(emulated::AT_WARP, 0xffffffffu, __LINE__)
#define __shfl_sync(mask, v, lane) emulated::exchange(mask, v, (lane) & 31, __LINE__)
#define __shfl_down_sync(mask, v, by) emulated::exchange(mask, v, emulated::current % 32 + (int)(by), __LINE__)
#define __shfl_up_sync(mask, v, by) emulated::exchange(mask, v, emulated::current % 32 - (int)(by), __LINE__)
#define __shfl_xor_sync(mask, v, with) emulated::exchange(mask, v, (emulated::current % 32) ^ (int)(with), __LINE__)
extern "C" const char* why() { return emulated::message; }
