#include "cpu/maps.h"

#include <algorithm>
#include <cstring>

namespace simgan_fast {
namespace {

// Calls visit(pixel of the image, or -1 where there is none) for every pixel of the bordered image.
template <typename Visit>
void for_bordered(const ImageSize& size, bool reflect, const Visit& visit) {
    for (int64_t channel = 0; channel < size.channels; ++channel)
        for (int64_t y = -size.border; y < size.height + size.border; ++y)
            for (int64_t x = -size.border; x < size.width + size.border; ++x) {
                const int64_t row = padded_index(y, size.height, reflect);
                const int64_t column = padded_index(x, size.width, reflect);
                const bool outside = row < 0 || column < 0;
                visit(outside ? -1 : (channel * size.height + row) * size.width + column);
            }
}

}  // namespace

void fill_margin(const PaddedMap& map, bool reflect, float* data) {
    const size_t pixel = map.channels * sizeof(float), row_bytes = map.columns * pixel;
    for (int64_t row = 0; row < map.height; ++row) {
        float* left = data + offset_in(map, row, -1);
        float* right = data + offset_in(map, row, map.width);
        std::memset(left, 0, pixel);
        std::memset(right, 0, (map.columns - map.width - 1) * pixel);
        if (reflect) {
            std::memcpy(left, data + offset_in(map, row, 1), pixel);
            std::memcpy(right, data + offset_in(map, row, map.width - 2), pixel);
        }
    }
    float* top = data + offset_in(map, -1, -1);
    float* bottom = data + offset_in(map, map.height, -1);
    std::memset(top, 0, row_bytes);
    std::memset(bottom, 0, (map.rows - map.height - 1) * row_bytes);
    if (reflect) {
        std::memcpy(top, data + offset_in(map, 1, -1), row_bytes);
        std::memcpy(bottom, data + offset_in(map, map.height - 2, -1), row_bytes);
    }
}

void add_border(const ImageSize& size, bool reflect, const float* image, float* bordered) {
    for_bordered(size, reflect, [&](int64_t from) { *bordered++ = from < 0 ? 0 : image[from]; });
}

void fold_border(const ImageSize& size, bool reflect, const float* bordered, float* image) {
    std::fill_n(image, size.channels * size.height * size.width, 0.0f);
    for_bordered(size, reflect, [&](int64_t to) {
        if (to >= 0) image[to] += *bordered;
        ++bordered;
    });
}

}  // namespace simgan_fast
