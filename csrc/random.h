// Philox4x32-10 and the keyed Feistel permutation, as docs/random.md specifies them.
//
// Integer arithmetic only, one source for the CPU and for CUDA: the same bits everywhere. Frozen by
// tests/golden/random.json. Everything is in an anonymous namespace, so that a file compiled for
// one CPU level never lends its code to another.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define SIMGAN_FAST_HOST_DEVICE __host__ __device__
#else
#define SIMGAN_FAST_HOST_DEVICE
#endif

namespace simgan_fast {
namespace {

constexpr int kFeistelRounds = 8;
constexpr int kFeistelMinBits =
    8;  // fewer are not fair: of the orders of 5, some come twice as often

// One Philox4x32-10 block: `words` is the counter on entry and four random words on return.
// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
SIMGAN_FAST_HOST_DEVICE inline void philox4x32(uint32_t words[4], uint32_t key_lo,
                                               uint32_t key_hi) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t{0xD2511F53} * words[0];
        const uint64_t b = uint64_t{0xCD9E8D57} * words[2];
        words[0] = static_cast<uint32_t>(b >> 32) ^ words[1] ^ key_lo;
        words[1] = static_cast<uint32_t>(b);
        words[2] = static_cast<uint32_t>(a >> 32) ^ words[3] ^ key_hi;
        words[3] = static_cast<uint32_t>(a);
        key_lo += 0x9E3779B9;
        key_hi += 0xBB67AE85;
    }
}

// The finaliser of MurmurHash3 over key ^ half: every bit of the result depends on every bit of
// both.
SIMGAN_FAST_HOST_DEVICE inline uint32_t feistel_round(uint32_t half, uint32_t key) {
    uint32_t x = half ^ key;
    x ^= x >> 16;
    x *= 0x85EBCA6B;
    x ^= x >> 13;
    x *= 0xC2B2AE35;
    x ^= x >> 16;
    return x;
}

// A permutation of [0, size), 1 <= size <= 2^62, chosen by (seed, stream, step).
struct Permutation {
    uint64_t size;
    int right_bits;
    uint32_t left_mask, right_mask;
    uint32_t keys[kFeistelRounds];
};

SIMGAN_FAST_HOST_DEVICE inline Permutation make_permutation(uint64_t size, uint64_t step,
                                                            uint32_t stream, uint64_t seed) {
    int bits = kFeistelMinBits;
    while (bits < 62 && (size - 1) >> bits != 0) ++bits;
    const int left_bits = bits / 2;
    Permutation p{};
    p.size = size;
    p.right_bits = bits - left_bits;
    p.left_mask = (uint32_t{1} << left_bits) - 1;
    p.right_mask = (uint32_t{1} << p.right_bits) - 1;
    for (uint32_t block = 0; block < kFeistelRounds / 4; ++block) {
        uint32_t* words = p.keys + 4 * block;
        words[0] = static_cast<uint32_t>(step);
        words[1] = static_cast<uint32_t>(step >> 32);
        words[2] = stream;
        words[3] = block;
        philox4x32(words, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    }
    return p;
}

// Where the permutation sends `index`. The network permutes a power of two, less than 2 * size or
// 256; a value outside [0, size) is sent on until it falls inside (cycle walking).
SIMGAN_FAST_HOST_DEVICE inline uint64_t permuted(const Permutation& p, uint64_t index) {
    do {
        uint32_t left = static_cast<uint32_t>(index >> p.right_bits);
        uint32_t right = static_cast<uint32_t>(index) & p.right_mask;
        for (int round = 0; round < kFeistelRounds; round += 2) {
            left ^= feistel_round(right, p.keys[round]) & p.left_mask;
            right ^= feistel_round(left, p.keys[round + 1]) & p.right_mask;
        }
        index = uint64_t{left} << p.right_bits | right;
    } while (index >= p.size);
    return index;
}

}  // namespace
}  // namespace simgan_fast
