// What patch_network.cpp asks of a CPU level.
#pragma once

#include <cstdint>

#include "residual_blocks.h"

namespace simgan_fast {

// c[i] = start[i] + the sum over pieces s of a[i, s] * b[s], then the ReLU, for rows i. There are
// - a[i, s]: `depth` floats at a + i * a_row + s * a_piece;
// - b: `pieces * depth` rows of `columns` floats, packed: strips of DirectKernels::strip columns,
//   the last maybe of fewer, each contiguous;
// - start[i], c[i]: `columns` floats at start + i * start_row and c + i * c_row, maybe the same.
// Columns are a multiple of 16.
struct MapProduct {
    const float* a;
    int64_t a_row, a_piece, pieces, depth;
    const float* b;
    const float* start;
    int64_t start_row;
    float* c;
    int64_t c_row;
    int64_t rows, columns;
    bool relu;
};

// sums[r] += the sum over lines and pixels of a[line, pixel, r] * b[line, pixel]: `columns` floats
// each, `rows` a multiple of 16, columns too.
struct OuterProduct {
    const float *a, *b;
    int64_t a_line, a_pixel, b_line, b_pixel;
    int64_t lines, pixels, rows, columns;
    float* sums;
};

struct DirectKernels {
    int64_t strip;  // columns that are packed together
    void (*multiply)(const MapProduct& p);
    void (*accumulate)(const OuterProduct& p);
    // to += the sum over all pixels.
    void (*add_pixels)(const PaddedMap& map, const float* from, float* to);
    // The largest of the 3x3 pixels around each, of maps whose margin is 0 and that have no value
    // below 0; NaN is largest.
    void (*pool)(const PaddedMap& map, const float* from, float* to);
    // gradient of `from`, 0 where from is not above 0, from that of `to`: to the first that is as
    // large as the largest. Margins of grad_to are not read, those of grad_from not defined.
    void (*pool_backward)(const PaddedMap& map, const float* from, const float* to,
                          const float* grad_to, float* grad_from);
};

}  // namespace simgan_fast
