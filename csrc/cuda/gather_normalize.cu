// A block scales a stretch of one image. The output is written four values at a time; images of
// 35 x 55 bytes begin anywhere, so most are read byte by byte, which the load units can well do:
// the output is what takes the time.
#include <cmath>

#include "cuda/simt.h"
#include "gather_normalize.h"

namespace simgan_fast {
namespace {

constexpr int kGroup = 4;            // values written at a time
constexpr int kGroupsOfAThread = 2;  // all read before any is written

template <typename T>
struct alignas(kGroup * sizeof(T)) Group {
    T value[kGroup];
};

template <typename In, typename Out>
struct Gather {
    struct Params {
        const In* images;
        const int64_t* indices;
        const bool* flips;
        Out* out;
        int64_t available;
        int size, width;  // of an image, of a line
        int stretches;    // of an image
    };
    static constexpr int kThreads = 256, kBlocksPerSm = 6, kSharedBytes = 0;
    static constexpr int kStretch = kThreads * kGroupsOfAThread;  // groups

    // Groups begin at multiples of four of the whole output: the first and the last of an image
    // belong to a neighbour in part.
    static int stretches_of(int64_t size) {
        const int64_t groups = size / kGroup + 2;
        return static_cast<int>((groups + kStretch - 1) / kStretch);
    }

    SIMT_DEVICE static Out scaled(In value) {
        constexpr float kHalf = sizeof(In) == 1 ? 127.5f : 32767.5f;
        return simt::from_float<Out>(static_cast<float>(value) / kHalf - 1.0f);
    }

    // Values `at`, ..., at + 3 of an image, those that it has.
    SIMT_DEVICE static Group<In> read(const Params& p, const In* image, int at, bool mirrored) {
        Group<In> in{};
        const bool aligned = reinterpret_cast<uintptr_t>(image + at) % sizeof(Group<In>) == 0;
        if (at >= 0 && at + kGroup <= p.size && aligned && !mirrored)
            return simt::load(reinterpret_cast<const Group<In>*>(image + at));
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
            const int value = at + i;
            if (value < 0 || value >= p.size) continue;
            in.value[i] = simt::load(
                image + (mirrored ? value + p.width - 1 - 2 * (value % p.width) : value));
        }
        return in;
    }

    SIMT_DEVICE static void write(const Params& p, Out* image, int at, const Group<Out>& out) {
        if (at >= 0 && at + kGroup <= p.size)
            return simt::store(reinterpret_cast<Group<Out>*>(image + at), out);
#pragma unroll
        for (int i = 0; i < kGroup; ++i)
            if (at + i >= 0 && at + i < p.size) simt::store(image + at + i, out.value[i]);
    }

    SIMT_DEVICE static void run(const Params& p) {
        const int64_t number = simt::block() / p.stretches, start = number * p.size;
        const int64_t index = simt::load(p.indices + number);
        const bool exists = index >= 0 && index < p.available;
        const bool mirrored = p.flips != nullptr && simt::load(p.flips + number);
        const In* image = p.images + (exists ? index : 0) * p.size;
        const int first = simt::block() % p.stretches * kStretch + simt::thread();
        Group<In> in[kGroupsOfAThread];
#pragma unroll
        for (int i = 0; i < kGroupsOfAThread; ++i)
            if (exists) in[i] = read(p, image, place(start, first + i * kThreads), mirrored);
#pragma unroll
        for (int i = 0; i < kGroupsOfAThread; ++i) {
            Group<Out> out;
#pragma unroll
            for (int k = 0; k < kGroup; ++k)
                out.value[k] = exists ? scaled(in[i].value[k]) : simt::from_float<Out>(NAN);
            write(p, p.out + start, place(start, first + i * kThreads), out);
        }
    }

    // Where a group begins in the image that begins at `start`; up to 3 before its beginning.
    SIMT_DEVICE static int place(int64_t start, int group) {
        return group * kGroup - static_cast<int>(start % kGroup);
    }
};

template <typename In, typename Out>
void gather(const GatherNormalize& p, int64_t available, Out* out, void* stream) {
    using Kernel = Gather<In, Out>;
    const int64_t size = p.lines * p.width;
    const int stretches = Kernel::stretches_of(size);
    simt::launch<Kernel>("gather_normalize", size > 0 ? p.count * stretches : 0,
                         {static_cast<const In*>(p.images), p.indices, p.flips, out, available,
                          static_cast<int>(size), static_cast<int>(p.width), stretches},
                         stream);
}

}  // namespace

void gather_normalize_cuda(const GatherNormalize& p, int64_t available, uint16_t* bf16_out,
                           void* stream) {
    const auto to = [&](auto* out) {
        if (p.bytes == 1)
            gather<uint8_t>(p, available, out, stream);
        else
            gather<uint16_t>(p, available, out, stream);
    };
    if (bf16_out != nullptr)
        to(bf16_out);
    else
        to(p.out);
}

}  // namespace simgan_fast
