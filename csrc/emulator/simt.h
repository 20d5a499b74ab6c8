// The intrinsics of csrc/cuda/simt.h, emulated. That file describes them.
#pragma once

#include <algorithm>
#include <cmath>

#include "cuda/runtime.h"
#include "emulator/emulator.h"

#define SIMT_DEVICE inline

namespace simgan_fast {
namespace simt {

using emulator::block;
using emulator::blocks;
using emulator::shared;
using emulator::thread;

inline void sync() {
    emulator::barrier();
}

inline void sync_warp() {
    emulator::collective([](const emulator::Lane(&)[32]) {}, {nullptr, nullptr, 0});
}

template <typename T>
T shuffle_xor(T value, int mask) {
    T result;
    emulator::collective(
        [](const emulator::Lane(&lanes)[32]) {
            for (int i = 0; i < 32; ++i)
                *static_cast<T*>(lanes[i].out) =
                    *static_cast<const T*>(lanes[(i ^ lanes[i].argument) & 31].in);
        },
        {&value, &result, mask});
    return result;
}

template <typename T>
T shuffle(T value, int lane) {
    T result;
    emulator::collective(
        [](const emulator::Lane(&lanes)[32]) {
            for (int i = 0; i < 32; ++i)
                *static_cast<T*>(lanes[i].out) =
                    *static_cast<const T*>(lanes[lanes[i].argument & 31].in);
        },
        {&value, &result, lane});
    return result;
}

inline uint32_t ballot(bool value) {
    uint32_t result;
    emulator::collective(
        [](const emulator::Lane(&lanes)[32]) {
            uint32_t bits = 0;
            for (int i = 0; i < 32; ++i)
                bits |= uint32_t{*static_cast<const bool*>(lanes[i].in)} << i;
            for (const auto& lane : lanes) *static_cast<uint32_t*>(lane.out) = bits;
        },
        {&value, &result, 0});
    return result;
}

template <typename T>
T load(const T* from) {
    static_assert(sizeof(T) <= 16 && (sizeof(T) & (sizeof(T) - 1)) == 0, "one access");
    emulator::check_aligned(from, sizeof(T), "a load");
    emulator::counters.bytes_read += sizeof(T);
    return *from;
}

template <typename T>
void store(T* to, T value) {
    static_assert(sizeof(T) <= 16 && (sizeof(T) & (sizeof(T) - 1)) == 0, "one access");
    emulator::check_aligned(to, sizeof(T), "a store");
    emulator::counters.bytes_written += sizeof(T);
    *to = value;
}

template <typename T>
T load_coherent(const T* from) {
    return load(from);
}

inline void fence() {}

inline uint32_t atomic_add(uint32_t* to, uint32_t value) {
    emulator::check_aligned(to, 4, "an atomic");
    const uint32_t before = *to;
    *to += value;
    return before;
}

void ldmatrix_x4(uint32_t (&in)[4], const void* row);
void ldmatrix_x4_trans(uint32_t (&in)[4], const void* row);
void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

inline void cp_async_16(void* to_shared, const void* from, bool real) {
    emulator::copy_later(to_shared, real ? from : nullptr);
}

inline void cp_async_commit() {
    emulator::close_copies();
}

template <int kOpen>
void cp_async_wait() {
    emulator::finish_copies(kOpen);
}

inline float bits_to_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// Rounded to nearest even; NaN stays NaN.
inline uint32_t bf16_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

inline uint32_t pack_bf16(float low, float high) {
    return bf16_bits(low) | bf16_bits(high) << 16;
}

template <class Kernel>
void launch(const char* op, int64_t blocks, const typename Kernel::Params& p, void* stream) {
    static_assert(Kernel::kThreads % 32 == 0, "whole warps");
    static_assert(Kernel::kSharedBytes <= 227 * 1024, "what a multiprocessor has");
    emulator::run(
        op, grid_size(op, blocks), Kernel::kThreads, Kernel::kSharedBytes,
        [](const void* params) {
            Kernel::run(*static_cast<const typename Kernel::Params*>(params));
        },
        &p);
    check_launch(op, stream);
}

}  // namespace simt
}  // namespace simgan_fast
