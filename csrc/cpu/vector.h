// A few floats at a time, in the vector extensions of GCC and Clang. The loops that use this take
// groups of sixteen at every CPU level, lane by lane in the same order: levels differ by FMA alone.
#pragma once

#include <cstdint>
#include <cstring>

// Inlined always: a call would pass vectors in a way that depends on the flags of the file.
#define SIMGAN_FAST_INLINE inline __attribute__((always_inline))
// Whole, so that arrays of registers stay in registers.
#define SIMGAN_FAST_UNROLL _Pragma("GCC unroll 16")

namespace simgan_fast {
namespace {

// One register: wider vectors are legal, but GCC takes them apart badly (5 times slower on AVX2).
#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr int kGroup = 16;
constexpr int kParts = kGroup / kLanes;

typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(kLanes * sizeof(int32_t))));

// x - 0 is x, -0 too, and the compiler knows: x + 0 would be an addition.
SIMGAN_FAST_INLINE Floats splat(float x) {
    return x - Floats{};
}

SIMGAN_FAST_INLINE Floats load(const float* from) {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

SIMGAN_FAST_INLINE void store(float* to, Floats x) {
    std::memcpy(to, &x, sizeof x);
}

SIMGAN_FAST_INLINE Floats minus_abs(Floats x) {
    return (Floats)((Ints)x | INT32_MIN);
}

// 0, 1, ..., kLanes - 1
SIMGAN_FAST_INLINE Ints lane_numbers() {
    Ints numbers;
    for (int lane = 0; lane < kLanes; ++lane) numbers[lane] = lane;
    return numbers;
}

// exp(x) for x <= 0, 0 where that would be subnormal. NaN stays NaN.
// The polynomial is off by 3.1e-9 of the value; rounding adds about 1e-7.
SIMGAN_FAST_INLINE Floats exp_nonpositive(Floats x) {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
    const Floats shifted = x * 1.44269504f + 12582912.0f;
    const Floats n = shifted - 12582912.0f;
    // ln 2 in two parts: n * 0.693359375 is exact, so r = x - n ln 2 keeps its last bits.
    const Floats r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    // 1 + r + r^2 P(r), P minimax for |r| <= ln(2) / 2.
    Floats y = r * 1.38145406e-3f + 8.36874545e-3f;
    y = y * r + 4.16683890e-2f;
    y = y * r + 1.66665211e-1f;
    y = y * r + 4.99999940e-1f;
    y = y * (r * r) + r + 1.0f;
    const Ints scale = ((Ints)shifted + 127) << 23;  // the bits of 2^n
    return x < -87.3365f ? splat(0) : y * (Floats)scale;
}

// artanh(s) / s - 1 from q = s^2, for 0 <= s <= 1/3: minimax, error below 4.5e-9 of artanh.
SIMGAN_FAST_INLINE Floats artanh_tail(Floats q) {
    Floats y = q * 1.40059933e-1f + 1.40009031e-1f;
    y = y * q + 2.00107634e-1f;
    y = y * q + 3.33332092e-1f;
    return y * q;
}

}  // namespace
}  // namespace simgan_fast
