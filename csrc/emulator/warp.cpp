// The collectives that take more than a line: ldmatrix and mma.sync, with their counters.
#include "cuda/simt.h"

namespace simgan_fast {
namespace simt {
namespace {

using emulator::counters;
using emulator::Lane;

constexpr int kBanks = 8;  // groups of 16 bytes that shared memory serves at a time

// How often shared memory has to be asked for eight rows of 16 bytes.
int wavefronts(const Lane* rows) {
    int most = 0, of_bank[kBanks] = {};
    for (int i = 0; i < 8; ++i) {
        const bool again = std::any_of(rows, rows + i, [&](const Lane& row) {  // one read for both
            return row.in == rows[i].in;
        });
        const auto offset = static_cast<const char*>(rows[i].in) - shared();
        if (!again) most = std::max(most, ++of_bank[offset / 16 % kBanks]);
    }
    return most;
}

template <bool kTransposed>
void load_matrices(const Lane (&lanes)[32]) {
    uint16_t matrix[4][8][8];
    for (int i = 0; i < 32; ++i) std::memcpy(matrix[i / 8][i % 8], lanes[i].in, 16);
    for (int m = 0; m < 4; ++m) {
        counters.ldmatrix_wavefronts += wavefronts(lanes + 8 * m);
        for (int i = 0; i < 32; ++i) {
            const int row = i / 4, column = 2 * (i % 4);
            const uint32_t low = kTransposed ? matrix[m][column][row] : matrix[m][row][column];
            const uint32_t high =
                kTransposed ? matrix[m][column + 1][row] : matrix[m][row][column + 1];
            static_cast<uint32_t*>(lanes[i].out)[m] = low | high << 16;
        }
    }
    ++counters.ldmatrix;
}

template <bool kTransposed>
void ldmatrix(uint32_t (&in)[4], const void* row) {
    emulator::check_shared(row, 16);
    emulator::collective(load_matrices<kTransposed>, {row, in, 0});
}

struct Operands {
    const uint32_t* a;
    uint32_t b[2];
};

// As a tensor core does, which truncates.
float truncated(double sum) {
    const auto rounded = static_cast<float>(sum);
    return std::abs(rounded) > std::abs(sum) ? std::nextafter(rounded, 0.0f) : rounded;
}

// Sums of double, truncated once: how often and in which order a tensor core does it nobody says.
void multiply(const Lane (&lanes)[32]) {
    double a[16][16], b[16][8];
    for (int i = 0; i < 32; ++i) {
        const auto* in = static_cast<const Operands*>(lanes[i].in);
        const int g = i / 4, t = 2 * (i % 4);
        for (int q = 0; q < 4; ++q) {
            double* to = &a[g + q % 2 * 8][t + q / 2 * 8];
            to[0] = bits_to_float(in->a[q] << 16);
            to[1] = bits_to_float(in->a[q] & 0xffff0000u);
        }
        for (int q = 0; q < 2; ++q) {
            b[t + 8 * q][g] = bits_to_float(in->b[q] << 16);
            b[t + 8 * q + 1][g] = bits_to_float(in->b[q] & 0xffff0000u);
        }
    }
    for (int i = 0; i < 32; ++i) {
        auto* d = static_cast<float*>(lanes[i].out);
        for (int q = 0; q < 4; ++q) {
            const int row = i / 4 + q / 2 * 8, column = 2 * (i % 4) + q % 2;
            double sum = d[q];
            for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
            d[q] = truncated(sum);
        }
    }
    ++counters.mma;
}

}  // namespace

void ldmatrix_x4(uint32_t (&in)[4], const void* row) {
    ldmatrix<false>(in, row);
}
void ldmatrix_x4_trans(uint32_t (&in)[4], const void* row) {
    ldmatrix<true>(in, row);
}

void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const Operands operands{a, {b0, b1}};
    emulator::collective(multiply, {&operands, d, 0});
}

}  // namespace simt
}  // namespace simgan_fast
