// Convolution by Fourier transforms of tiles (fourier.h), compiled once for every CPU level. One
// register of channels is transformed at a time.
//
// The 16 numbers of a one-dimensional real transform are packed: those of frequencies 0 and 8,
// which are real, then the real and imaginary parts of frequencies 1 to 7. In two dimensions rows
// and then columns are transformed so; where both are complex, their four products are turned into
// the values of the two frequencies (y, x) and (-y, x).
#pragma once

#include "cpu/direct_impl.h"
#include "cpu/fourier.h"

namespace simgan_fast {
namespace {

// cos(2 pi k / 16), a quarter of a turn; the sine is read from the other end.
constexpr double kCosine[5] = {1, 0.92387953251128675613, 0.70710678118654752440,
                               0.38268343236508977173, 0};

// Of n = 2^i numbers `stride` apart, by the transforms of those with even and with odd index.
template <int n>
struct RealTransform {
    static SIMGAN_FAST_INLINE void forward(const Floats* x, int stride, Floats* to) {
        constexpr int half = n / 2;
        Floats even[half], odd[half];
        RealTransform<half>::forward(x, 2 * stride, even);
        RealTransform<half>::forward(x + stride, 2 * stride, odd);
        to[0] = even[0] + odd[0];
        to[1] = even[0] - odd[0];
        SIMGAN_FAST_UNROLL
        for (int k = 1; k < n / 4; ++k) {
            const float c = static_cast<float>(kCosine[k * 16 / n]);
            const float s = static_cast<float>(kCosine[4 - k * 16 / n]);
            const Floats re = odd[2 * k] * c + odd[2 * k + 1] * s;
            const Floats im = odd[2 * k + 1] * c - odd[2 * k] * s;
            to[2 * k] = even[2 * k] + re;
            to[2 * k + 1] = even[2 * k + 1] + im;
            to[n - 2 * k] = even[2 * k] - re;
            to[n - 2 * k + 1] = im - even[2 * k + 1];
        }
        to[half] = even[1];
        to[half + 1] = -odd[1];
    }

    static SIMGAN_FAST_INLINE void adjoint(const Floats* from, Floats* x, int stride) {
        constexpr int half = n / 2;
        Floats even[half], odd[half];
        even[0] = from[0] + from[1];
        odd[0] = from[0] - from[1];
        SIMGAN_FAST_UNROLL
        for (int k = 1; k < n / 4; ++k) {
            const float c = static_cast<float>(kCosine[k * 16 / n]);
            const float s = static_cast<float>(kCosine[4 - k * 16 / n]);
            even[2 * k] = from[2 * k] + from[n - 2 * k];
            even[2 * k + 1] = from[2 * k + 1] - from[n - 2 * k + 1];
            const Floats re = from[2 * k] - from[n - 2 * k];
            const Floats im = from[2 * k + 1] + from[n - 2 * k + 1];
            odd[2 * k] = re * c - im * s;
            odd[2 * k + 1] = re * s + im * c;
        }
        even[1] = from[half];
        odd[1] = -from[half + 1];
        RealTransform<half>::adjoint(even, x, 2 * stride);
        RealTransform<half>::adjoint(odd, x + stride, 2 * stride);
    }
};

template <>
struct RealTransform<2> {
    static SIMGAN_FAST_INLINE void forward(const Floats* x, int stride, Floats* to) {
        to[0] = x[0] + x[stride];
        to[1] = x[0] - x[stride];
    }
    static SIMGAN_FAST_INLINE void adjoint(const Floats* from, Floats* x, int stride) {
        x[0] = from[0] + from[1];
        x[stride] = from[0] - from[1];
    }
};

using Transform = RealTransform<kSide>;

// Where the two values of a complex frequency lie, or the one of a real frequency.
struct ValuePlace {
    int64_t re, im;
};

SIMGAN_FAST_INLINE ValuePlace place_of(int64_t frequency) {
    if (frequency < 7 * kSide) {  // horizontally not 0 or 8: neighbours
        const int64_t re = frequency / 7 * kSide + 2 + 2 * (frequency % 7);
        return {re, re + 1};
    }
    if (frequency < kComplex) {  // horizontally 0 or 8: one below the other
        const int64_t i = frequency - 7 * kSide, re = (2 + 2 * (i / 2)) * kSide + i % 2;
        return {re, re + kSide};
    }
    const int64_t i = frequency - kComplex;
    return {i / 2 * kSide + i % 2, 0};
}

SIMGAN_FAST_INLINE int64_t panel_of(int64_t frequency) {
    return frequency < kComplex ? 3 * frequency : 2 * kComplex + frequency;
}

// The values of (y, x) and (-y, x) from the vertical transforms of the real and imaginary part of
// the horizontal one: {re, im} of each.
template <typename T>
SIMGAN_FAST_INLINE void join(T* real, T* imaginary) {
    const T re = real[0], im = real[1];
    real[0] = re - imaginary[1];
    real[1] = re + imaginary[1];
    imaginary[1] = imaginary[0] - im;
    imaginary[0] = imaginary[0] + im;
}

template <typename T>
SIMGAN_FAST_INLINE void join_adjoint(T* real, T* imaginary) {
    const T first = real[0], second = real[1], third = imaginary[0], fourth = imaginary[1];
    real[0] = first + second;
    real[1] = third - fourth;
    imaginary[0] = third + fourth;
    imaginary[1] = second - first;
}

void transform_tile(const float* const* pixels, int64_t rows, int64_t channels, float* values) {
    for (int64_t c = 0; c < channels; c += kLanes) {
        Floats half[kSide][kSide] = {};  // [x][y]
        for (int64_t y = 0; y < rows; ++y) {
            Floats row[kSide], to[kSide];
            SIMGAN_FAST_UNROLL
            for (int x = 0; x < kSide; ++x) row[x] = load(pixels[y * kSide + x] + c);
            Transform::forward(row, 1, to);
            SIMGAN_FAST_UNROLL
            for (int x = 0; x < kSide; ++x) half[x][y] = to[x];
        }
        for (int64_t x = 0; x < kSide; x += 2) {
            Floats both[2][kSide];
            Transform::forward(half[x], 1, both[0]);
            Transform::forward(half[x + 1], 1, both[1]);
            float* to = values + x * channels + c;
            SIMGAN_FAST_UNROLL
            for (int y = 2; y < kSide && x > 0; y += 2) join(&both[0][y], &both[1][y]);
            SIMGAN_FAST_UNROLL
            for (int y = 0; y < kSide; ++y) {
                store(to + y * kSide * channels, both[0][y]);
                store(to + (y * kSide + 1) * channels, both[1][y]);
            }
        }
    }
}

void invert_tile(const float* values, int64_t channels, const TileOutput& out) {
    for (int64_t c = 0; c < channels; c += kLanes) {
        Floats half[kSide][kSide];  // [y][x]
        for (int64_t x = 0; x < kSide; x += 2) {
            Floats both[2][kSide], column[kSide];
            const float* from = values + x * channels + c;
            SIMGAN_FAST_UNROLL
            for (int y = 0; y < kSide; ++y) {
                both[0][y] = load(from + y * kSide * channels);
                both[1][y] = load(from + (y * kSide + 1) * channels);
            }
            SIMGAN_FAST_UNROLL
            for (int y = 2; y < kSide && x > 0; y += 2) join_adjoint(&both[0][y], &both[1][y]);
            for (int i = 0; i < 2; ++i) {
                Transform::adjoint(both[i], column, 1);
                SIMGAN_FAST_UNROLL
                for (int y = 0; y < kSide; ++y) half[y][x + i] = column[y];
            }
        }
        const Floats shift = out.bias ? load(out.bias + c) : splat(0);
        for (int64_t y = 0; y < out.rows; ++y) {
            Floats row[kSide];
            Transform::adjoint(half[y], row, 1);
            for (int64_t x = 0; x < out.columns; ++x) {
                const int64_t at = (y * out.pitch + x) * channels + c;
                Floats value = row[x] + shift;
                if (out.skip != nullptr) value += load(out.skip + at);
                // NaN stays.
                store(out.to + at, out.bias != nullptr && value < 0 ? splat(0) : value);
            }
        }
    }
}

// Row `row` of a real product [tiles][channels] = start + a * panel.
SIMGAN_FAST_INLINE void times_panel(int64_t tiles, int64_t channels, const float* a,
                                    const float* panel, const float* start, int64_t start_row,
                                    float* to, int64_t to_row) {
    multiply_map(
        {a, channels, 0, 1, channels, panel, start, start_row, to, to_row, tiles, channels, false});
}

void multiply_values(int64_t tiles, int64_t frequency, int64_t channels, const float* panels,
                     float* values, float* scratch) {
    const int64_t stride = tile_floats(channels), part = kTilesTogether * channels;
    const ValuePlace at = place_of(frequency);
    const float* panel = panels + panel_of(frequency) * channels * channels;
    float *re = scratch, *im = scratch + part, *sum = scratch + 2 * part, *k = scratch + 3 * part;
    float *to_re = values + at.re * channels, *to_im = values + at.im * channels;
    for (int64_t i = 0; i < channels; ++i) k[i] = 0;
    for (int64_t t = 0; t < tiles; ++t)
        std::memcpy(re + t * channels, to_re + t * stride, channels * sizeof(float));
    if (frequency >= kComplex) return times_panel(tiles, channels, re, panel, k, 0, to_re, stride);
    for (int64_t t = 0; t < tiles; ++t)
        for (int64_t c = 0; c < channels; c += kLanes) {
            const int64_t i = t * channels + c;
            const Floats imaginary = load(to_im + t * stride + c);
            store(im + i, imaginary);
            store(sum + i, load(re + i) + imaginary);
        }
    times_panel(tiles, channels, sum, panel, k, 0, k + channels, channels);
    times_panel(tiles, channels, im, panel + channels * channels, k + channels, channels, to_re,
                stride);
    times_panel(tiles, channels, re, panel + 2 * channels * channels, k + channels, channels, to_im,
                stride);
}

SIMGAN_FAST_INLINE void add_outer_products(int64_t tiles, int64_t channels, const float* a,
                                           const float* b, float* sums) {
    accumulate_outer({a, b, 0, channels, 0, channels, 1, tiles, channels, channels, sums});
}

// conj(a + ib) (e + if) = k - f(a - b) + i(k - e(a + b)), k = a(e + f).
void accumulate_values(int64_t tiles, int64_t frequency, int64_t channels, const float* inputs,
                       const float* gradients, float* sums, float* scratch) {
    const int64_t stride = tile_floats(channels), part = kTilesTogether * channels;
    const int64_t size = channels * channels;
    const ValuePlace at = place_of(frequency);
    const bool complex = frequency < kComplex;
    float *a = scratch, *minus = a + part, *plus = minus + part;
    float *e = plus + part, *f = e + part, *sum = f + part;
    for (int64_t t = 0; t < tiles; ++t)
        for (int64_t c = 0; c < channels; c += kLanes) {
            const int64_t i = t * channels + c, re = t * stride + at.re * channels + c;
            const int64_t im = t * stride + at.im * channels + c;
            const Floats in_re = load(inputs + re), gradient_re = load(gradients + re);
            store(a + i, in_re);
            store(e + i, gradient_re);
            if (!complex) continue;
            const Floats in_im = load(inputs + im), gradient_im = load(gradients + im);
            store(minus + i, in_re - in_im);
            store(plus + i, in_re + in_im);
            store(f + i, gradient_im);
            store(sum + i, gradient_re + gradient_im);
        }
    sums += panel_of(frequency) * size;
    if (!complex) return add_outer_products(tiles, channels, a, e, sums);
    add_outer_products(tiles, channels, a, sum, sums);
    add_outer_products(tiles, channels, minus, f, sums + size);
    add_outer_products(tiles, channels, plus, e, sums + 2 * size);
}

// Row v of the matrix whose product with the taps of a filter is value v of its conjugate
// transform.
SIMGAN_FAST_INLINE double filter_coefficient(int64_t v, int64_t tap) {
    const int64_t k = v < 2 ? 8 * v : v / 2, angle = k * tap % 16;
    const int64_t turn = v >= 2 && v % 2 == 1 ? (angle + 12) % 16 : angle;  // sin x = cos(x - 1/4)
    const int64_t folded = turn > 8 ? 16 - turn : turn;
    return folded > 4 ? -kCosine[8 - folded] : kCosine[folded];
}

// What a value counts in the inverse transform: those of complex frequencies stand for two.
constexpr double kComplexShare = 2.0 / kValues, kRealShare = 1.0 / kValues;

constexpr int64_t kColumns = 8;  // of a panel, transformed at once

struct FilterMatrix {
    SIMGAN_FAST_INLINE FilterMatrix() {
        for (int64_t v = 0; v < kSide; ++v)
            for (int64_t tap = 0; tap < kFilter; ++tap) at[v][tap] = filter_coefficient(v, tap);
    }
    double at[kSide][kFilter];
};

// In double, rounded once.
void transform_filters(const WeightView& from, int64_t channels, int64_t first, int64_t last,
                       float* panels) {
    const FilterMatrix matrix;
    for (int64_t row = first; row < last; ++row)
        for (int64_t column = 0; column < channels; column += kColumns) {
            double taps[kFilter][kFilter][kColumns] = {};
            double half[kSide][kFilter][kColumns] = {},
                   full[kSide][kSide][kColumns] = {};  // [x][y]
            const int64_t count = row < from.channels ? from.channels - column : 0;
            for (int64_t lane = 0; lane < kColumns && lane < count; ++lane)
                for (int64_t y = 0; y < kFilter; ++y)
                    for (int64_t x = 0; x < kFilter; ++x)
                        taps[y][x][lane] =
                            from.weight[row * from.row + (column + lane) * from.column +
                                        y * from.kernel_row + x * from.kernel_column];
            for (int64_t x = 0; x < kSide; ++x)
                for (int64_t y = 0; y < kFilter; ++y)
                    for (int64_t tap = 0; tap < kFilter; ++tap)
                        for (int64_t lane = 0; lane < kColumns; ++lane)
                            half[x][y][lane] += taps[y][tap][lane] * matrix.at[x][tap];
            for (int64_t x = 0; x < kSide; ++x)
                for (int64_t y = 0; y < kSide; ++y)
                    for (int64_t tap = 0; tap < kFilter; ++tap)
                        for (int64_t lane = 0; lane < kColumns; ++lane)
                            full[x][y][lane] += half[x][tap][lane] * matrix.at[y][tap];
            for (int64_t x = 2; x < kSide; x += 2)
                for (int64_t y = 2; y < kSide; y += 2)
                    for (int64_t lane = 0; lane < kColumns; ++lane) {
                        double real[] = {full[x][y][lane], full[x][y + 1][lane]};
                        double imaginary[] = {full[x + 1][y][lane], full[x + 1][y + 1][lane]};
                        join(real, imaginary);
                        full[x][y][lane] = real[0];
                        full[x][y + 1][lane] = real[1];
                        full[x + 1][y][lane] = imaginary[0];
                        full[x + 1][y + 1][lane] = imaginary[1];
                    }
            float* to = panels + in_strips(channels, row, column);
            const int64_t panel = channels * channels;
            for (int64_t i = 0; i < kComplex + kReal; ++i) {
                const ValuePlace at = place_of(i);
                const double* c = full[at.re % kSide][at.re / kSide];
                const double* d = full[at.im % kSide][at.im / kSide];
                float* of = to + panel_of(i) * panel;
                for (int64_t lane = 0; lane < kColumns; ++lane)
                    if (i >= kComplex) {
                        of[lane] = static_cast<float>(kRealShare * c[lane]);
                    } else {
                        of[lane] = static_cast<float>(kComplexShare * c[lane]);
                        of[panel + lane] = static_cast<float>(-kComplexShare * (c[lane] + d[lane]));
                        of[2 * panel + lane] =
                            static_cast<float>(kComplexShare * (d[lane] - c[lane]));
                    }
            }
        }
}

void filter_gradient(int64_t channels, int64_t first, int64_t last, const float* sums,
                     float* gradient) {
    const FilterMatrix matrix;
    const int64_t panel = channels * channels;
    for (int64_t e = first; e < last; e += kLanes) {
        Floats full[kSide][kSide], half[kSide][kFilter] = {};  // [x][y]
        for (int64_t i = 0; i < kComplex + kReal; ++i) {
            const ValuePlace at = place_of(i);
            const float* of = sums + panel_of(i) * panel + e;
            Floats& re = full[at.re % kSide][at.re / kSide];
            re = load(of);
            if (i >= kComplex) {
                re *= static_cast<float>(kRealShare);
                continue;
            }
            full[at.im % kSide][at.im / kSide] =
                (re - load(of + 2 * panel)) * static_cast<float>(kComplexShare);
            re = (re - load(of + panel)) * static_cast<float>(kComplexShare);
        }
        for (int64_t x = 0; x < kSide; ++x) {
            for (int64_t y = 2; y < kSide && x >= 2 && x % 2 == 0; y += 2)
                join_adjoint(&full[x][y], &full[x + 1][y]);
            for (int64_t y = 0; y < kSide; ++y)
                for (int64_t tap = 0; tap < kFilter; ++tap)
                    half[x][tap] += full[x][y] * static_cast<float>(matrix.at[y][tap]);
        }
        for (int64_t y = 0; y < kFilter; ++y)
            for (int64_t x = 0; x < kFilter; ++x) {
                Floats sum = {};
                for (int64_t v = 0; v < kSide; ++v)
                    sum += half[v][y] * static_cast<float>(matrix.at[v][x]);
                store(gradient + (y * kFilter + x) * panel + e, sum);
            }
    }
}

constexpr FourierKernels fourier_kernels() {
    return {transform_filters, transform_tile,    multiply_values,
            invert_tile,       accumulate_values, filter_gradient};
}

}  // namespace
}  // namespace simgan_fast
