// Padded maps and images, whatever reads them.
#pragma once

#include <cstdint>

#include "residual_blocks.h"

namespace simgan_fast {

constexpr int64_t kChannelGroup = 16;

inline int64_t up_to(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

inline int64_t floats_of(const PaddedMap& map) {
    return map.rows * map.columns * map.channels;
}

// Where pixel (row, column) of a map lies; -1 and height or width are in the margin.
inline int64_t offset_in(const PaddedMap& map, int64_t row, int64_t column) {
    return ((row + map.margin) * map.columns + column + map.margin) * map.channels;
}

// Fills what surrounds the pixels of a map with margin 1: one pixel of reflection or zeros, and
// zeros beyond it.
void fill_margin(const PaddedMap& map, bool reflect, float* data);

// The pixel that padding shows at place i of `count`, -1 where it is a zero.
inline int64_t padded_index(int64_t i, int64_t count, bool reflect) {
    if (reflect) i = i < 0 ? -i : i >= count ? 2 * count - 2 - i : i;
    return i >= 0 && i < count ? i : -1;
}

// An image [channels, height, width], and the same with `border` pixels around it, zeros or
// reflection: as a first convolution reads it, and the adjoint of that.
struct ImageSize {
    int64_t channels, height, width;
    int64_t border = 1;
};
void add_border(const ImageSize& size, bool reflect, const float* image, float* bordered);
void fold_border(const ImageSize& size, bool reflect, const float* bordered, float* image);

}  // namespace simgan_fast
