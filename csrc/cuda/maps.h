// Channels-last bf16 maps in tiles: what the convolution and its weight gradient share.
#pragma once

#include <algorithm>

#include "cuda/simt.h"

namespace simgan_fast {
namespace {

constexpr int kTaps = 9;                 // of a 3x3 filter
constexpr int kLarge = 64, kSmall = 16;  // channels that a block works on

// A thread for each of `items`.
template <typename Kernel>
void launch_for_each(const char* op, int64_t items, const typename Kernel::Params& p,
                     void* stream) {
    simt::launch<Kernel>(op, (items + Kernel::kThreads - 1) / Kernel::kThreads, p, stream);
}

struct Maps {
    const uint16_t* values;  // [images, height, width, channels]
    int height, width, channels;
};

// How maps are cut into tiles of rows x columns. Shared memory has their rows at a distance of
// `pitch` pixels, or `pitch + 2` with what is around them.
struct Tiling {
    int rows, columns;
    int pitch;         // columns rounded up to 8: ldmatrix reads eight pixels of one row
    int down, across;  // tiles of an image
    int tiles;         // of all images: 2^31 of them would not fit into any memory
};

// Tiles of at most `most_pixels`, and `most_around` with what is around them. With `even` their
// pixels, those of the pitch, are a multiple of 16; most_pixels must allow an even number of rows.
inline Tiling tiling_of(int64_t images, int height, int width, int most_pixels, int most_around,
                        bool even) {
    constexpr int kColumns = 56;
    const auto up = [](int a, int b) { return (a + b - 1) / b; };
    Tiling t;
    t.across = up(width, kColumns);
    t.columns = up(width, t.across);
    t.pitch = up(t.columns, 8) * 8;
    const int most = std::min(most_pixels / t.pitch, most_around / (t.pitch + 2) - 2);
    t.rows = up(height, up(height, most));
    if (even && t.rows * t.pitch % 16 != 0) ++t.rows;
    t.down = up(height, t.rows);
    t.tiles = static_cast<int>(images * t.down * t.across);
    return t;
}

// The first pixel of a tile.
struct Place {
    int image, row, column;
};

SIMT_DEVICE Place place_of(const Tiling& t, int tile) {
    const int image = tile / (t.down * t.across), in_image = tile % (t.down * t.across);
    return {image, in_image / t.across * t.rows, in_image % t.across * t.columns};
}

// Where eight channels of a pixel lie in shared memory that holds kEights times eight of each.
// Eight pixels in a row never share a bank.
template <int kEights>
SIMT_DEVICE char* at(char* memory, int pixel, int eight) {
    static_assert(kEights == 2 || kEights == 8, "32 or 128 bytes a pixel");
    const int swizzled = eight ^ (pixel * kEights / 8 & (kEights - 1));
    return memory + (pixel * kEights + swizzled) * 16;
}

// Row or column `i` of a padded side as one of the side itself; -1: there is a zero.
SIMT_DEVICE int unpadded(int i, int side, bool reflect) {
    if (reflect && i == -1) return 1;
    if (reflect && i == side) return side - 2;
    return i >= 0 && i < side ? i : -1;
}

// Starts to copy rows x columns pixels from `first` on, of each kEights times eight channels from
// `channel` on, to rows of `pitch` pixels; zeros where there is no pixel, and past `columns`.
template <int kEights, int kThreads>
SIMT_DEVICE void copy_pixels(char* to, const Maps& from, Place first, int rows, int columns,
                             int pitch, int channel, bool reflect) {
    for (int i = simt::thread(); i < rows * pitch * kEights; i += kThreads) {
        const int pixel = i / kEights, eight = i % kEights;
        const int row = pixel / pitch, column = pixel % pitch;
        const int y = unpadded(first.row + row, from.height, reflect);
        const int x = unpadded(first.column + column, from.width, reflect);
        const bool real = y >= 0 && x >= 0 && column < columns;
        const int64_t offset =
            ((int64_t{first.image} * from.height + y) * from.width + x) * from.channels + channel +
            eight * 8;
        simt::cp_async_16(at<kEights>(to, pixel, eight), from.values + (real ? offset : 0), real);
    }
}

}  // namespace
}  // namespace simgan_fast
