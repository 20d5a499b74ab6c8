// Channels-last maps in planes and in tiles: what the kernels that read or write them share.
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

// A value of a map is the sum of kPlanes bf16: of bfloat16 itself, of float32 three, each the
// rounding of what those before it leave. All channels of a pixel have their first in plane 0,
// which their second ones follow, then the third. Floats above 3.39e38 count as infinite, those
// below 1e-33 lose digits.
struct Maps {
    const uint16_t* values;  // [images, height, width, kPlanes channels]
    int height, width, channels;
};

// What rounding to bf16 leaves: of infinity nothing, as its difference from itself would be NaN.
SIMT_DEVICE float left(float value, float rounded) {
    const float rest = value - rounded;
    return rest - rest == 0 ? rest : 0.0f;
}

// Two values as a word for each plane, low half first, and back.
template <int kPlanes>
SIMT_DEVICE void to_planes(float low, float high, uint32_t (&words)[kPlanes]) {
    words[0] = simt::pack_bf16(low, high);
#pragma unroll
    for (int plane = 1; plane < kPlanes; ++plane) {
        low = left(low, simt::low_bf16(words[plane - 1]));
        high = left(high, simt::high_bf16(words[plane - 1]));
        words[plane] = simt::pack_bf16(low, high);
    }
}

template <int kPlanes>
SIMT_DEVICE void from_planes(const uint32_t (&words)[kPlanes], float& low, float& high) {
    low = simt::low_bf16(words[kPlanes - 1]);
    high = simt::high_bf16(words[kPlanes - 1]);
#pragma unroll
    for (int plane = kPlanes - 2; plane >= 0; --plane) {  // exact in this order
        low += simt::low_bf16(words[plane]);
        high += simt::high_bf16(words[plane]);
    }
}

// Two neighbouring channels of a pixel of all, in a map, and in floats [pixels, channels].
template <int kPlanes>
struct Planes {
    SIMT_DEVICE static void load(const void* map, int64_t pixel, int channels, int channel,
                                 float (&to)[2]) {
        const auto* from = static_cast<const uint16_t*>(map) + pixel * kPlanes * channels + channel;
        uint32_t words[kPlanes];
#pragma unroll
        for (int plane = 0; plane < kPlanes; ++plane)
            words[plane] = simt::load(reinterpret_cast<const uint32_t*>(from + plane * channels));
        from_planes(words, to[0], to[1]);
    }
    SIMT_DEVICE static void store(void* map, int64_t pixel, int channels, int channel,
                                  const float (&two)[2]) {
        auto* to = static_cast<uint16_t*>(map) + pixel * kPlanes * channels + channel;
        uint32_t words[kPlanes];
        to_planes(two[0], two[1], words);
#pragma unroll
        for (int plane = 0; plane < kPlanes; ++plane)
            simt::store(reinterpret_cast<uint32_t*>(to + plane * channels), words[plane]);
    }
};

struct Floats {
    struct alignas(8) Word {
        float value[2];
    };
    SIMT_DEVICE static void load(const void* map, int64_t pixel, int channels, int channel,
                                 float (&to)[2]) {
        const auto* from = static_cast<const float*>(map) + pixel * channels + channel;
        const Word two = simt::load(reinterpret_cast<const Word*>(from));
        to[0] = two.value[0];
        to[1] = two.value[1];
    }
    SIMT_DEVICE static void store(void* map, int64_t pixel, int channels, int channel,
                                  const float (&two)[2]) {
        auto* to = static_cast<float*>(map) + pixel * channels + channel;
        simt::store(reinterpret_cast<Word*>(to), Word{{two[0], two[1]}});
    }
};

// The products of planes that matter to float32, the other three being below its rounding; the
// smallest first, so that sums do not lose them.
template <int kPlanes>
constexpr int kProducts = kPlanes == 1 ? 1 : 6;

// The planes of the first factor, 2 0 1 1 0 0, and of the second, 0 2 1 0 1 0: two bits each.
template <int kPlanes>
SIMT_DEVICE int first_plane(int product) {
    return kPlanes == 1 ? 0 : 0x052 >> 2 * product & 3;
}
template <int kPlanes>
SIMT_DEVICE int second_plane(int product) {
    return kPlanes == 1 ? 0 : 0x118 >> 2 * product & 3;
}

// sum += a b. Tensor cores truncate what they add to: too much for float32, whose sums are rounded
// elsewhere.
template <int kPlanes>
SIMT_DEVICE void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (kPlanes == 1) {
        simt::mma_16x8x16(sum, a, b0, b1);
    } else {
        float products[4] = {};
        simt::mma_16x8x16(products, a, b0, b1);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[i] += products[i];
    }
}

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
// eight channels from `channel` of all planes on, to where they lie if row 0 is at `to` and `pitch`
// pixels are a row; zeros where there is no pixel, and past `columns`.
template <int kPlanes, int kEights, int kThreads>
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
            ((int64_t{first.image} * from.height + y) * from.width + x) * kPlanes * from.channels +
            channel + eight * 8;
        simt::cp_async_16(at<kEights>(to, pixel, eight), from.values + (real ? offset : 0), real);
    }
}

}  // namespace
}  // namespace simgan_fast
