// Channels-last bf16 maps in tiles: what the convolution and its weight gradient share.
#pragma once

#include <algorithm>

#include "cuda/simt.h"

namespace simgan_fast {
namespace {

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
// `pitch` pixels, and more with what is around them.
struct Tiling {
    int rows, columns;
    int pitch;         // columns rounded up to 8: ldmatrix reads eight pixels of one row
    int down, across;  // tiles of an image
    int tiles;         // of all images: 2^31 of them would not fit into any memory
};

constexpr int kMostColumns = 56;

// What shared memory has room for: a tile's pixels, and how many with the rows and columns around
// it. With `even` the pixels of a tile, those of the pitch, are a multiple of 16; `pixels` must
// allow an even number of rows.
struct Room {
    int pixels, around;
    int more_rows, more_columns;
    bool even = false;
};

inline int up(int a, int b) {
    return (a + b - 1) / b;
}

// With `across` tiles beside each other.
inline Tiling tiling_across(int64_t images, int height, int width, const Room& room, int across) {
    Tiling t;
    t.across = across;
    t.columns = up(width, t.across);
    t.pitch = up(t.columns, 8) * 8;
    const int most = std::min(room.pixels / t.pitch,
                              room.around / (t.pitch + room.more_columns) - room.more_rows);
    t.rows = up(height, up(height, most));
    if (room.even && t.rows * t.pitch % 16 != 0) ++t.rows;
    t.down = up(height, t.rows);
    t.tiles = static_cast<int>(images * t.down * t.across);
    return t;
}

inline Tiling tiling_of(int64_t images, int height, int width, const Room& room) {
    return tiling_across(images, height, width, room, up(width, kMostColumns));
}

// The same with as few tiles as there can be; of those the widest.
inline Tiling fewest_tiles(int64_t images, int height, int width, const Room& room) {
    Tiling best = tiling_of(images, height, width, room);
    for (int across = best.across + 1; across <= up(width, 8); ++across) {
        const Tiling other = tiling_across(images, height, width, room, across);
        if (other.tiles < best.tiles) best = other;
    }
    return best;
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

// Row or column `i` of a padded side as one of the side itself; -1: there is a zero. On both ends
// `reflected` of the padding are reflections.
SIMT_DEVICE int unpadded(int i, int side, int reflected) {
    if (i < 0 && i >= -reflected) return -i;
    if (i >= side && i < side + reflected) return 2 * side - 2 - i;
    return i >= 0 && i < side ? i : -1;
}

// Rows of a tile or of what is around it.
struct Rows {
    int begin, end;
};

// Starts to copy rows of `columns` pixels, of which `first` is row 0's first, of each kEights times
// eight channels from `channel` on, to where they lie if row 0 is at `to` and `pitch` pixels are a
// row; zeros where there is no pixel, and past `columns`.
template <int kEights, int kThreads>
SIMT_DEVICE void copy_pixels(char* to, const Maps& from, Place first, Rows rows, int columns,
                             int pitch, int channel, int reflected) {
    const int begin = rows.begin * pitch * kEights, end = rows.end * pitch * kEights;
    for (int i = begin + simt::thread(); i < end; i += kThreads) {
        const int pixel = i / kEights, eight = i % kEights;
        const int row = pixel / pitch, column = pixel % pitch;
        const int y = unpadded(first.row + row, from.height, reflected);
        const int x = unpadded(first.column + column, from.width, reflected);
        const bool real = y >= 0 && x >= 0 && column < columns;
        const int64_t offset =
            ((int64_t{first.image} * from.height + y) * from.width + x) * from.channels + channel +
            eight * 8;
        simt::cp_async_16(at<kEights>(to, pixel, eight), from.values + (real ? offset : 0), real);
    }
}

}  // namespace
}  // namespace simgan_fast
