// What a kernel may use of a GPU, and nothing else of CUDA: under nvcc these are the instructions
// of sm_80 and later, under g++ the emulator (csrc/emulator), which runs the same source thread by
// thread.
//
// A kernel is a struct with
//     using Params = ...;                   a plain struct, passed by value
//     static constexpr int kThreads;        of a block, a multiple of 32
//     static constexpr int kBlocksPerSm;    must fit on a multiprocessor: bounds the registers
//     static constexpr int kSharedBytes;    of dynamic shared memory, at most 227 KB
//     SIMT_DEVICE static void run(const Params& p);
// started by launch<Kernel>("op", blocks, params, stream). csrc/emulator/README.md has the rules.
//
// Collectives (shuffles, ballot, sync_warp, ldmatrix, mma) are reached by all 32 lanes of a warp,
// sync() by all threads of a block: predicates go into operands, not around them.
#pragma once

#include <cstdint>
#include <cstring>

namespace simgan_fast {
namespace simt {

// For load and store: 16 bytes at a time.
struct alignas(16) Words16 {
    uint32_t word[4];
};

}  // namespace simt
}  // namespace simgan_fast

#if defined(__CUDACC__)

#include <cuda_bf16.h>

#include <atomic>

#include "cuda/runtime.h"

#define SIMT_DEVICE __device__ __forceinline__

namespace simgan_fast {
namespace simt {

SIMT_DEVICE int thread() {
    return static_cast<int>(threadIdx.x);
}
SIMT_DEVICE int block() {
    return static_cast<int>(blockIdx.x);
}
SIMT_DEVICE int blocks() {
    return static_cast<int>(gridDim.x);
}

// The block's shared memory; its content is undefined.
SIMT_DEVICE char* shared() {
    extern __shared__ __align__(1024) char memory[];
    return memory;
}

SIMT_DEVICE void sync() {
    __syncthreads();
}
SIMT_DEVICE void sync_warp() {
    __syncwarp();
}

template <typename T>
SIMT_DEVICE T shuffle_xor(T value, int mask) {
    return __shfl_xor_sync(0xffffffffu, value, mask);
}

template <typename T>
SIMT_DEVICE T shuffle(T value, int lane) {
    return __shfl_sync(0xffffffffu, value, lane);
}

// Bit i: what lane i says.
SIMT_DEVICE uint32_t ballot(bool value) {
    return __ballot_sync(0xffffffffu, value);
}

// Global memory, in one access: T has 1, 2, 4, 8 or 16 bytes and is aligned to them.
template <typename T>
SIMT_DEVICE T load(const T* from) {
    return *from;
}

template <typename T>
SIMT_DEVICE void store(T* to, T value) {
    *to = value;
}

// Past the first-level cache: sees what other blocks of this launch wrote before their fence().
template <typename T>
SIMT_DEVICE T load_coherent(const T* from) {
    return __ldcg(from);
}

SIMT_DEVICE void fence() {
    __threadfence();
}

// Returns what was there. For integers only: the order of float sums would change the result.
SIMT_DEVICE uint32_t atomic_add(uint32_t* to, uint32_t value) {
    return atomicAdd(to, value);
}

SIMT_DEVICE uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Four 8x8 matrices of 16-bit values: lane 8 m + r gives the address of row r of matrix m (16 bytes
// of shared memory, aligned to 16), and gets in[m] = row lane / 4, columns 2 (lane % 4) and the
// next.
SIMT_DEVICE void ldmatrix_x4(uint32_t (&in)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(in[0]), "=r"(in[1]), "=r"(in[2]), "=r"(in[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same of each matrix transposed.
SIMT_DEVICE void ldmatrix_x4_trans(uint32_t (&in)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(in[0]), "=r"(in[1]), "=r"(in[2]), "=r"(in[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// d [16, 8] += a [16, 16] b [16, 8], bf16 in, float out. With g = lane / 4, t = 2 (lane % 4) a lane
// holds, low half first: a[0] = A[g, t], a[1] = A[g + 8, t], a[2] = A[g, t + 8], a[3] = A[g + 8,
// t + 8], each with the next column; b0 = B[t, g], b1 = B[t + 8, g], each with the next row; d[0],
// d[1] = D[g, t], D[g, t + 1]; d[2], d[3] = D[g + 8, t], D[g + 8, t + 1].
SIMT_DEVICE void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Starts a copy of 16 bytes, both ends aligned to 16; zeros where not `real`, and then `from` is
// not read. There after cp_async_wait by this thread, and for the others after a sync() on top.
SIMT_DEVICE void cp_async_16(void* to_shared, const void* from, bool real) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to_shared)),
                 "l"(__cvta_generic_to_global(from)), "r"(real ? 16 : 0)
                 : "memory");
}

SIMT_DEVICE void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until at most `kOpen` of this thread's latest groups are under way.
template <int kOpen>
SIMT_DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kOpen) : "memory");
}

// Two bf16, low half first, each rounded to nearest even.
SIMT_DEVICE uint32_t pack_bf16(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, 4);
    return bits;
}

SIMT_DEVICE float bits_to_float(uint32_t bits) {
    return __uint_as_float(bits);
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kBlocksPerSm)
    entry(const __grid_constant__ typename Kernel::Params p) {
    Kernel::run(p);
}

// On the current device; throws one sentence with `op` in it. No blocks: nothing.
template <class Kernel>
void launch(const char* op, int64_t blocks, const typename Kernel::Params& p, void* stream) {
    static_assert(Kernel::kThreads % 32 == 0, "whole warps");
    if (blocks == 0) return;
    if (Kernel::kSharedBytes > 48 * 1024) {  // more must be asked for, once on each device
        static std::atomic<uint64_t> asked{0};
        allow_shared_memory(op, reinterpret_cast<const void*>(&entry<Kernel>), Kernel::kSharedBytes,
                            asked);
    }
    entry<Kernel><<<grid_size(op, blocks), Kernel::kThreads, Kernel::kSharedBytes,
                    static_cast<cudaStream_t>(stream)>>>(p);
    check_launch(op, stream);
}

}  // namespace simt
}  // namespace simgan_fast

#else
#include "emulator/simt.h"
#endif

namespace simgan_fast {
namespace simt {

SIMT_DEVICE int warp() {
    return thread() / 32;
}
SIMT_DEVICE int lane() {
    return thread() % 32;
}

// The halves of pack_bf16, exactly.
SIMT_DEVICE float low_bf16(uint32_t pair) {
    return bits_to_float(pair << 16);
}
SIMT_DEVICE float high_bf16(uint32_t pair) {
    return bits_to_float(pair & 0xffff0000u);
}

// A value in memory, float or the bits of a bf16, and back.
SIMT_DEVICE float to_float(float value) {
    return value;
}
SIMT_DEVICE float to_float(uint16_t bf16) {
    return low_bf16(bf16);
}
template <typename T>
SIMT_DEVICE T from_float(float value) {
    if constexpr (sizeof(T) == 2)
        return static_cast<T>(pack_bf16(value, 0.0f));
    else
        return value;
}

}  // namespace simt
}  // namespace simgan_fast
