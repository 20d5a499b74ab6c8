// Written by winograd_transforms.py, which says what it is; change that and run it again.
// clang-format off
#pragma once

#include "cpu/vector.h"

namespace simgan_fast {
namespace {

// One dimension of F(kTile, 3) on kPoints = kTile + 2 points: input is B^T, output A^T, kKernel G.
template <int tile>
struct Winograd;

// F(4, 3) at the points 0, 3/4, -3/4, 3/2, -3/2 and infinity.
template <>
struct Winograd<4> {
    static constexpr int kTile = 4, kPoints = 6;
    static constexpr double kKernel[6][3] = {
        {64.0 / 81.0, 0.0, 0.0},
        {-128.0 / 243.0, -32.0 / 81.0, -8.0 / 27.0},
        {-128.0 / 243.0, 32.0 / 81.0, -8.0 / 27.0},
        {32.0 / 243.0, 16.0 / 81.0, 8.0 / 27.0},
        {32.0 / 243.0, -16.0 / 81.0, 8.0 / 27.0},
        {0.0, 0.0, 1.0},
    };
    static SIMGAN_FAST_INLINE void input(const Floats d[6], Floats v[6]) {
        v[0] = d[4] + d[0] * 1.265625f - d[2] * 2.8125f;
        v[5] = d[5] + d[1] * 1.265625f - d[3] * 2.8125f;
        const Floats even1 = d[4] - d[2] * 2.25f;
        const Floats odd1 = d[3] - d[1] * 2.25f;
        v[1] = even1 + odd1 * 0.75f;
        v[2] = even1 - odd1 * 0.75f;
        const Floats even3 = d[4] - d[2] * 0.5625f;
        const Floats odd3 = d[3] - d[1] * 0.5625f;
        v[3] = even3 + odd3 * 1.5f;
        v[4] = even3 - odd3 * 1.5f;
    }
    static SIMGAN_FAST_INLINE void input_adjoint(const Floats v[6], Floats d[6]) {
        const Floats even1 = v[1] + v[2];
        const Floats odd1 = (v[1] - v[2]) * 0.75f;
        const Floats even3 = v[3] + v[4];
        const Floats odd3 = (v[3] - v[4]) * 1.5f;
        d[0] = v[0] * 1.265625f;
        d[1] = v[5] * 1.265625f - odd1 * 2.25f - odd3 * 0.5625f;
        d[2] = -v[0] * 2.8125f - even1 * 2.25f - even3 * 0.5625f;
        d[3] = odd1 + odd3 - v[5] * 2.8125f;
        d[4] = v[0] + even1 + even3;
        d[5] = v[5];
    }
    static SIMGAN_FAST_INLINE void output(const Floats m[6], Floats y[4]) {
        const Floats sum1 = m[1] + m[2], diff1 = m[1] - m[2];
        const Floats sum3 = m[3] + m[4], diff3 = m[3] - m[4];
        y[0] = m[0] + sum1 + sum3;
        y[1] = diff1 * 0.75f + diff3 * 1.5f;
        y[2] = sum1 * 0.5625f + sum3 * 2.25f;
        y[3] = m[5] + diff1 * 0.421875f + diff3 * 3.375f;
    }
    static SIMGAN_FAST_INLINE void output_adjoint(const Floats y[4], Floats m[6]) {
        m[0] = y[0];
        const Floats even1 = y[0] + y[2] * 0.5625f;
        const Floats odd1 = y[1] * 0.75f + y[3] * 0.421875f;
        m[1] = even1 + odd1;
        m[2] = even1 - odd1;
        const Floats even3 = y[0] + y[2] * 2.25f;
        const Floats odd3 = y[1] * 1.5f + y[3] * 3.375f;
        m[3] = even3 + odd3;
        m[4] = even3 - odd3;
        m[5] = y[3];
    }
};

// F(5, 3) at the points 0, 1, -1, 2, -2, 1/2 and infinity.
template <>
struct Winograd<5> {
    static constexpr int kTile = 5, kPoints = 7;
    static constexpr double kKernel[7][3] = {
        {-1.0 / 2.0, 0.0, 0.0},
        {-1.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0},
        {1.0 / 9.0, -1.0 / 9.0, 1.0 / 9.0},
        {1.0 / 36.0, 1.0 / 18.0, 1.0 / 9.0},
        {-1.0 / 60.0, 1.0 / 30.0, -1.0 / 15.0},
        {32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0},
        {0.0, 0.0, 1.0},
    };
    static SIMGAN_FAST_INLINE void input(const Floats d[7], Floats v[7]) {
        Floats s[6];
        s[0] = d[1] - d[0] * 0.5f;
        s[1] = d[2] - d[1] * 0.5f;
        s[2] = d[3] - d[2] * 0.5f;
        s[3] = d[4] - d[3] * 0.5f;
        s[4] = d[5] - d[4] * 0.5f;
        s[5] = d[6] - d[5] * 0.5f;
        v[0] = s[4] + s[0] * 4.0f - s[2] * 5.0f;
        v[5] = d[5] + d[1] * 4.0f - d[3] * 5.0f;
        v[6] = s[5] + s[1] * 4.0f - s[3] * 5.0f;
        const Floats even1 = s[4] - s[2] * 4.0f;
        const Floats odd1 = s[3] - s[1] * 4.0f;
        v[1] = even1 + odd1;
        v[2] = even1 - odd1;
        const Floats even3 = -s[2] + s[4];
        const Floats odd3 = -s[1] + s[3];
        v[3] = even3 + odd3 * 2.0f;
        v[4] = even3 - odd3 * 2.0f;
    }
    static SIMGAN_FAST_INLINE void input_adjoint(const Floats v[7], Floats d[7]) {
        const Floats even1 = v[1] + v[2];
        const Floats odd1 = (v[1] - v[2]);
        const Floats even3 = v[3] + v[4];
        const Floats odd3 = (v[3] - v[4]) * 2.0f;
        Floats s[6];
        s[0] = v[0] * 4.0f;
        s[1] = -odd3 + v[6] * 4.0f - odd1 * 4.0f;
        s[2] = -even3 - v[0] * 5.0f - even1 * 4.0f;
        s[3] = odd1 + odd3 - v[6] * 5.0f;
        s[4] = v[0] + even1 + even3;
        s[5] = v[6];
        d[0] = -s[0] * 0.5f;
        d[1] = s[0] + v[5] * 4.0f - s[1] * 0.5f;
        d[2] = s[1] - s[2] * 0.5f;
        d[3] = s[2] - v[5] * 5.0f - s[3] * 0.5f;
        d[4] = s[3] - s[4] * 0.5f;
        d[5] = v[5] + s[4] - s[5] * 0.5f;
        d[6] = s[5];
    }
    static SIMGAN_FAST_INLINE void output(const Floats m[7], Floats y[5]) {
        const Floats sum1 = m[1] + m[2], diff1 = m[1] - m[2];
        const Floats sum3 = m[3] + m[4], diff3 = m[3] - m[4];
        y[0] = m[0] + sum1 + sum3 + m[5];
        y[1] = diff1 + diff3 * 2.0f + m[5] * 0.5f;
        y[2] = sum1 + sum3 * 4.0f + m[5] * 0.25f;
        y[3] = diff1 + diff3 * 8.0f + m[5] * 0.125f;
        y[4] = sum1 + m[6] + sum3 * 16.0f + m[5] * 0.0625f;
    }
    static SIMGAN_FAST_INLINE void output_adjoint(const Floats y[5], Floats m[7]) {
        m[0] = y[0];
        const Floats even1 = y[0] + y[2] + y[4];
        const Floats odd1 = y[1] + y[3];
        m[1] = even1 + odd1;
        m[2] = even1 - odd1;
        const Floats even3 = y[0] + y[2] * 4.0f + y[4] * 16.0f;
        const Floats odd3 = y[1] * 2.0f + y[3] * 8.0f;
        m[3] = even3 + odd3;
        m[4] = even3 - odd3;
        m[5] = y[0] + y[1] * 0.5f + y[2] * 0.25f + y[3] * 0.125f + y[4] * 0.0625f;
        m[6] = y[4];
    }
};

// F(6, 3) at the points 0, 1/2, -1/2, 1, -1, 2, -2 and infinity.
template <>
struct Winograd<6> {
    static constexpr int kTile = 6, kPoints = 8;
    static constexpr double kKernel[8][3] = {
        {-1.0, 0.0, 0.0},
        {32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0},
        {32.0 / 45.0, -16.0 / 45.0, 8.0 / 45.0},
        {-2.0 / 9.0, -2.0 / 9.0, -2.0 / 9.0},
        {-2.0 / 9.0, 2.0 / 9.0, -2.0 / 9.0},
        {1.0 / 90.0, 1.0 / 45.0, 2.0 / 45.0},
        {1.0 / 90.0, -1.0 / 45.0, 2.0 / 45.0},
        {0.0, 0.0, 1.0},
    };
    static SIMGAN_FAST_INLINE void input(const Floats d[8], Floats v[8]) {
        v[0] = -d[0] + d[6] + d[2] * 5.25f - d[4] * 5.25f;
        v[7] = -d[1] + d[7] + d[3] * 5.25f - d[5] * 5.25f;
        const Floats even1 = d[6] + d[2] * 4.0f - d[4] * 5.0f;
        const Floats odd1 = d[5] + d[1] * 4.0f - d[3] * 5.0f;
        v[1] = even1 + odd1 * 0.5f;
        v[2] = even1 - odd1 * 0.5f;
        const Floats even3 = d[2] + d[6] - d[4] * 4.25f;
        const Floats odd3 = d[1] + d[5] - d[3] * 4.25f;
        v[3] = even3 + odd3;
        v[4] = even3 - odd3;
        const Floats even5 = d[6] + d[2] * 0.25f - d[4] * 1.25f;
        const Floats odd5 = d[5] + d[1] * 0.25f - d[3] * 1.25f;
        v[5] = even5 + odd5 * 2.0f;
        v[6] = even5 - odd5 * 2.0f;
    }
    static SIMGAN_FAST_INLINE void input_adjoint(const Floats v[8], Floats d[8]) {
        const Floats even1 = v[1] + v[2];
        const Floats odd1 = (v[1] - v[2]) * 0.5f;
        const Floats even3 = v[3] + v[4];
        const Floats odd3 = (v[3] - v[4]);
        const Floats even5 = v[5] + v[6];
        const Floats odd5 = (v[5] - v[6]) * 2.0f;
        d[0] = -v[0];
        d[1] = -v[7] + odd3 + odd1 * 4.0f + odd5 * 0.25f;
        d[2] = even3 + v[0] * 5.25f + even1 * 4.0f + even5 * 0.25f;
        d[3] = v[7] * 5.25f - odd1 * 5.0f - odd3 * 4.25f - odd5 * 1.25f;
        d[4] = -v[0] * 5.25f - even1 * 5.0f - even3 * 4.25f - even5 * 1.25f;
        d[5] = odd1 + odd3 + odd5 - v[7] * 5.25f;
        d[6] = v[0] + even1 + even3 + even5;
        d[7] = v[7];
    }
    static SIMGAN_FAST_INLINE void output(const Floats m[8], Floats y[6]) {
        const Floats sum1 = m[1] + m[2], diff1 = m[1] - m[2];
        const Floats sum3 = m[3] + m[4], diff3 = m[3] - m[4];
        const Floats sum5 = m[5] + m[6], diff5 = m[5] - m[6];
        y[0] = m[0] + sum1 + sum3 + sum5;
        y[1] = diff3 + diff1 * 0.5f + diff5 * 2.0f;
        y[2] = sum3 + sum1 * 0.25f + sum5 * 4.0f;
        y[3] = diff3 + diff1 * 0.125f + diff5 * 8.0f;
        y[4] = sum3 + sum1 * 0.0625f + sum5 * 16.0f;
        y[5] = diff3 + m[7] + diff1 * 0.03125f + diff5 * 32.0f;
    }
    static SIMGAN_FAST_INLINE void output_adjoint(const Floats y[6], Floats m[8]) {
        m[0] = y[0];
        const Floats even1 = y[0] + y[2] * 0.25f + y[4] * 0.0625f;
        const Floats odd1 = y[1] * 0.5f + y[3] * 0.125f + y[5] * 0.03125f;
        m[1] = even1 + odd1;
        m[2] = even1 - odd1;
        const Floats even3 = y[0] + y[2] + y[4];
        const Floats odd3 = y[1] + y[3] + y[5];
        m[3] = even3 + odd3;
        m[4] = even3 - odd3;
        const Floats even5 = y[0] + y[2] * 4.0f + y[4] * 16.0f;
        const Floats odd5 = y[1] * 2.0f + y[3] * 8.0f + y[5] * 32.0f;
        m[5] = even5 + odd5;
        m[6] = even5 - odd5;
        m[7] = y[5];
    }
};

}  // namespace
}  // namespace simgan_fast
