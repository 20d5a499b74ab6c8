// The native ops on whatever bytes come: shapes, strides, alignments, targets, threads and values
// are read from them. Built with sanitizers, by libFuzzer where clang has it and else with the
// plain driver below; ops.py does that. The op is the one that the environment variable FUZZ_OP
// names.
//
// An op has to stay within its buffers, which end where their memory ends and begin behind a
// sentinel; to give what plain loops give; and, for numbers of any kind, the same bits on one
// thread as on several and for weights of any strides.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "gather_normalize.h"
#include "history_exchange.h"
#include "native/patch_network_cases.h"
#include "native/residual_blocks_cases.h"
#include "patch_cross_entropy.h"
#include "random_ops.h"

using namespace simgan_fast;

namespace {

#define REQUIRE(condition)                                                       \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::abort();                                                        \
        }                                                                        \
    } while (false)

// What is left of the input; zeros where nothing is.
class Bytes {
  public:
    Bytes(const uint8_t* data, size_t size) : data_(data), left_(size) {}
    uint8_t next() {
        if (left_ == 0) return 0;
        --left_;
        return *data_++;
    }
    int64_t between(int64_t least, int64_t most) {
        const int64_t value = next() | next() << 8;
        return least + value % (most - least + 1);
    }
    bool flag() { return next() % 2 == 1; }
    uint64_t word() {
        uint64_t word = 0;
        for (int i = 0; i < 8; ++i) word = word << 8 | next();
        return word;
    }

  private:
    const uint8_t* data_;
    size_t left_;
};

// splitmix64: a large buffer from eight bytes of input.
class Numbers {
  public:
    explicit Numbers(uint64_t seed) : state_(seed) {}
    uint64_t bits() {
        uint64_t z = state_ += 0x9E3779B97F4A7C15;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        return z ^ z >> 31;
    }
    float ordinary() { return static_cast<float>(static_cast<int64_t>(bits()) >> 40) * 0x1p-21f; }
    // NaN, infinity, subnormal or huge numbers, and zeros of both signs.
    float any() {
        const uint32_t special[] = {0x7FC00000, 0x7F800000, 0xFF800000, 0x00000001,
                                    0x80000001, 0x7F7FFFFF, 0xFF7FFFFF, 0x80000000};
        const uint64_t random = bits();
        const uint32_t chosen =
            random % 2 ? special[random / 2 % 8] : static_cast<uint32_t>(random >> 32);
        float value;
        std::memcpy(&value, &chosen, sizeof value);
        return value;
    }

  private:
    uint64_t state_;
};

// Memory that ends behind its last element, where AddressSanitizer watches, and begins with a
// sentinel of 16 to 64 bytes, so that it is aligned as its elements are and no more.
template <typename T>
class Buffer {
  public:
    Buffer(Bytes& bytes, int64_t count)
        : sentinel_(16 + bytes.next() % 49 / sizeof(T) * sizeof(T)),
          count_(count),
          memory_(new unsigned char[sentinel_ + count * sizeof(T)]) {
        std::memset(memory_.get(), 0xA5, sentinel_);
    }
    Buffer(Bytes& bytes, int64_t count, T value) : Buffer(bytes, count) {
        std::fill_n(data(), count, value);
    }
    Buffer(Buffer&&) = default;
    ~Buffer() {
        if (!memory_) return;
        for (size_t i = 0; i < sentinel_; ++i) REQUIRE(memory_[i] == 0xA5);
    }
    T* data() const { return reinterpret_cast<T*>(memory_.get() + sentinel_); }
    T* begin() const { return data(); }
    T* end() const { return data() + count_; }
    int64_t size() const { return count_; }
    T& operator[](int64_t i) const { return data()[i]; }
    // The same bits, but that one NaN is like another: which operand's sign it has is the
    // compiler's choice, and it chooses anew for every number of rows that a product has in
    // registers.
    bool operator==(const Buffer& other) const {
        const auto alike = [](const T& a, const T& b) {
            return std::memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
        };
        return count_ == other.count_ && std::equal(begin(), end(), other.begin(), alike);
    }

  private:
    size_t sentinel_;
    int64_t count_;
    std::unique_ptr<unsigned char[]> memory_;
};

// Ordinary numbers; one in `rare` is of any kind, none where that is 0.
Buffer<float> floats(Bytes& bytes, int64_t count, int64_t rare) {
    Buffer<float> values(bytes, count);
    Numbers numbers(bytes.word());
    for (float& value : values)
        value = rare > 0 && numbers.bits() % rare == 0 ? numbers.any() : numbers.ordinary();
    return values;
}

// 0, for ordinary numbers alone, in three of four cases.
int64_t rareness(Bytes& bytes) {
    return bytes.next() % 4 == 0 ? bytes.between(1, 300) : 0;
}

void patch_cross_entropy(Bytes& bytes) {
    const int64_t images = bytes.between(0, 9), patches = bytes.between(0, 70);
    const auto reduction = static_cast<PatchReduction>(bytes.between(0, 3));
    const bool one_label = bytes.flag();
    const int64_t label = bytes.flag(), rare = rareness(bytes);
    const auto logits = floats(bytes, images * 2 * patches, rare);
    const Buffer<int64_t> target(bytes, images);
    int64_t first_bad = -1;
    for (int64_t i = 0; i < images; ++i) {
        target[i] = bytes.next() == 255 ? static_cast<int64_t>(bytes.word()) : bytes.flag();
        if (first_bad < 0 && target[i] != 0 && target[i] != 1) first_bad = i;
    }
    const PatchCrossEntropy p{
        logits.data(), one_label ? nullptr : target.data(), label, images, patches, reduction};
    const bool one = reduction == PatchReduction::kMean || reduction == PatchReduction::kSum;
    const int64_t count = one ? 1 : reduction == PatchReduction::kImage ? images : images * patches;
    const Buffer<float> loss(bytes, count, 77.0f), on_the_way(bytes, logits.size(), NAN),
        gradient(bytes, logits.size(), NAN), grad = floats(bytes, count, rare);
    const int64_t bad = patch_cross_entropy_cpu(p, loss.data(), one ? on_the_way.data() : nullptr);
    REQUIRE(bad == (one_label ? -1 : first_bad));
    if (bad >= 0) {
        for (const float value : loss) REQUIRE(value == 77.0f);
        return;
    }
    patch_cross_entropy_backward_cpu(p, grad.data(), gradient.data());
    if (rare > 0) return;
    double total = 0;
    const double share = reduction == PatchReduction::kMean ? 1.0 / images : 1.0;
    for (int64_t i = 0; i < images; ++i) {
        const double sign = (one_label ? label : target[i]) == 1 ? -1 : 1;
        double sum = 0;
        for (int64_t j = 0; j < patches; ++j) {
            const int64_t zero = i * 2 * patches + j, other = zero + patches;
            const double gap = (double{logits[other]} - logits[zero]) * sign;
            const double expected = std::log1p(std::exp(gap));
            const double slope = sign * share / (1 + std::exp(-gap));
            sum += expected;
            if (reduction == PatchReduction::kNone)
                REQUIRE(std::fabs(loss[i * patches + j] - expected) < 1e-5);
            if (one) {
                REQUIRE(std::fabs(on_the_way[zero] + slope) < 1e-5);
                REQUIRE(std::fabs(on_the_way[other] - slope) < 1e-5);
            }
            const double factor = grad[one                                   ? 0
                                       : reduction == PatchReduction::kImage ? i
                                                                             : i * patches + j];
            REQUIRE(std::fabs(gradient[zero] + slope * factor) < 1e-4);
            REQUIRE(std::fabs(gradient[other] - slope * factor) < 1e-4);
        }
        if (reduction == PatchReduction::kImage) REQUIRE(std::fabs(loss[i] - sum) < 1e-3);
        total += sum;
    }
    if (one && images > 0) REQUIRE(std::fabs(loss[0] - total * share) <= 1e-5 * (1 + total));
}

void history_exchange(Bytes& bytes) {
    // One in sixteen is so large that threads share it.
    const bool large = bytes.next() % 16 == 0;
    const int64_t slots = bytes.between(1, large ? 90 : 40), rows = bytes.between(0, slots);
    const int64_t row_bytes = bytes.between(0, large ? 40'000 : 300), threads = bytes.between(1, 4);
    const uint64_t seed = bytes.word();
    const auto step = static_cast<int64_t>(bytes.word() >> 2);
    const Buffer<int64_t> counter(bytes, 1, step);
    const Buffer<unsigned char> buffer(bytes, slots * row_bytes), before(bytes, buffer.size()),
        fresh(bytes, rows * row_bytes), drawn(bytes, fresh.size());
    for (int64_t i = 0; i < buffer.size(); ++i)
        buffer[i] = before[i] = static_cast<unsigned char>(i / row_bytes);
    for (int64_t i = 0; i < fresh.size(); ++i) fresh[i] = static_cast<unsigned char>(128 + i % 100);
    history_exchange_cpu({buffer.data(), fresh.data(), drawn.data(), counter.data(), slots, rows,
                          row_bytes, seed, threads});
    REQUIRE(counter[0] == step + 1);
    const Buffer<int64_t> from(bytes, rows), to(bytes, rows);
    permutation_cpu({from.data(), 0, rows, slots, static_cast<uint64_t>(step), seed, 0});
    permutation_cpu({to.data(), 0, rows, slots, static_cast<uint64_t>(step), seed, 1});
    for (int64_t i = 0; i < rows; ++i)
        REQUIRE(!std::memcmp(drawn.data() + i * row_bytes, before.data() + from[i] * row_bytes,
                             row_bytes));
    for (int64_t i = 0; i < rows; ++i)
        std::memcpy(before.data() + to[i] * row_bytes, fresh.data() + i * row_bytes, row_bytes);
    REQUIRE(buffer == before);
}

void random(Bytes& bytes) {
    const uint64_t step = bytes.word(), seed = bytes.word();
    const auto stream = static_cast<uint32_t>(bytes.word());
    const int64_t counters = bytes.between(0, 5);
    const Buffer<int64_t> blocks(bytes, 4 * counters), words(bytes, 4 * counters, -1);
    for (int64_t& counter : blocks) counter = static_cast<int64_t>(bytes.word());
    philox4x32_cpu(blocks.data(), words.data(), counters, seed);
    for (const int64_t word : words) REQUIRE(word >= 0 && word <= 0xFFFFFFFF);
    if (bytes.next() % 8 == 0) {  // a slice of a huge range: distinct, and in it
        const int64_t size = 1 + static_cast<int64_t>(bytes.word() >> (2 + bytes.next() % 40));
        const int64_t count = std::min<int64_t>(size, bytes.between(0, 40));
        const int64_t start = static_cast<int64_t>(bytes.word() >> 1) % (size - count + 1);
        const Buffer<int64_t> part(bytes, count, -1);
        permutation_cpu({part.data(), start, count, size, step, seed, stream});
        std::sort(part.begin(), part.end());
        for (int64_t i = 0; i < count; ++i)
            REQUIRE(part[i] >= 0 && part[i] < size && (i == 0 || part[i] != part[i - 1]));
        return;
    }
    const int64_t size = bytes.between(1, 300);
    const Buffer<int64_t> all(bytes, size, -1);
    permutation_cpu({all.data(), 0, size, size, step, seed, stream});
    std::vector<bool> seen(size);
    for (const int64_t value : all) {
        REQUIRE(value >= 0 && value < size && !seen[value]);
        seen[value] = true;
    }
    const int64_t start = bytes.between(0, size), count = bytes.between(0, size - start);
    const Buffer<int64_t> part(bytes, count, -1);
    permutation_cpu({part.data(), start, count, size, step, seed, stream});
    REQUIRE(std::equal(part.begin(), part.end(), all.begin() + start));
}

void gather_normalize(Bytes& bytes) {
    const bool large = bytes.next() % 32 == 0;  // shared by threads
    const int64_t available = bytes.between(1, 5), count = bytes.between(0, large ? 30 : 6);
    const int64_t lines = bytes.between(0, large ? 60 : 6);
    const int64_t width = bytes.between(0, large ? 600 : 80), threads = bytes.between(1, 4);
    const int64_t size = bytes.flag() ? 2 : 1;
    const bool mirrored = bytes.flag();
    Numbers numbers(bytes.word());
    const Buffer<uint16_t> wide(bytes, size == 2 ? available * lines * width : 0);
    const Buffer<uint8_t> narrow(bytes, size == 1 ? available * lines * width : 0);
    for (uint16_t& value : wide) value = static_cast<uint16_t>(numbers.bits());
    for (uint8_t& value : narrow) value = static_cast<uint8_t>(numbers.bits());
    const Buffer<int64_t> indices(bytes, count);
    const Buffer<bool> flips(bytes, count);
    for (int64_t i = 0; i < count; ++i) {
        indices[i] = static_cast<int64_t>(numbers.bits() % available);
        flips[i] = numbers.bits() % 2 == 0;
    }
    const Buffer<float> out(bytes, count * lines * width, NAN);
    const void* images = size == 2 ? static_cast<const void*>(wide.data()) : narrow.data();
    const bool wrong = count > 0 && bytes.next() % 16 == 0;
    if (wrong) indices[count / 2] = bytes.flag() ? available : -1;
    const bool in_range =
        gather_normalize_cpu({images, indices.data(), mirrored ? flips.data() : nullptr, out.data(),
                              count, lines, width, size, threads},
                             available);
    REQUIRE(in_range != wrong);
    if (wrong) {
        for (const float value : out) REQUIRE(std::isnan(value));
        return;
    }
    for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < lines * width; ++j) {
            const int64_t x = j % width, row = indices[i] * lines + j / width;
            const int64_t at = row * width + (mirrored && flips[i] ? width - 1 - x : x);
            const float expected = size == 2 ? wide[at] / 32767.5f - 1 : narrow[at] / 127.5f - 1;
            REQUIRE(out[i * lines * width + j] == expected);
        }
}

// A weight [out][in][size][size] as torch may have it: contiguous, channels last, or one number
// seen at every tap (strides of zero). `weight` holds as many floats as the first two need.
Convolution laid_out(Bytes& bytes, const float* weight, const float* bias, int64_t in,
                     int64_t size) {
    const int64_t all = size * size;
    switch (bytes.next() % 3) {
        case 0:
            return {weight, {in * all, all, size, 1}, bias};
        case 1:
            return {weight, {in * all, 1, in * size, in}, bias};
        default:
            return {weight, {in, 1, 0, 0}, bias};
    }
}

// The same weight, contiguous.
Buffer<float> contiguous(Bytes& bytes, const Convolution& from, int64_t out, int64_t in,
                         int64_t size) {
    Buffer<float> weight(bytes, out * in * size * size);
    float* to = weight.data();
    const int64_t* s = from.strides;
    for (int64_t co = 0; co < out; ++co)
        for (int64_t ci = 0; ci < in; ++ci)
            for (int64_t row = 0; row < size; ++row)
                for (int64_t column = 0; column < size; ++column)
                    *to++ = from.weight[co * s[0] + ci * s[1] + row * s[2] + column * s[3]];
    return weight;
}

blocks::Case blocks_case(Bytes& bytes, int64_t size, int64_t most_channels) {
    blocks::Case c{};
    c.size = size;
    c.reflect = bytes.flag();
    const int64_t least = c.reflect ? size / 2 + 1 : 1;
    c.images = bytes.between(1, 3);
    c.height = bytes.between(least, 9), c.width = bytes.between(least, 14);
    c.channels = 8 * bytes.between(1, most_channels / 8), c.blocks = bytes.between(1, 2);
    c.tile = bytes.between(4, 6), c.threads = bytes.next() % 4 == 0 ? bytes.between(2, 4) : 1;
    return c;
}

using Results = std::vector<Buffer<float>>;

// Forward, forward without kept maps, and backward.
Results run_blocks(Bytes& bytes, const blocks::Case& c, const std::vector<Convolution>& views,
                   const RefinerEnds* ends, const Buffer<float>& x, const Buffer<float>& grad) {
    const ResidualBlocks p{c.images,  c.height, c.width,   c.channels, c.blocks, views.data(),
                           c.reflect, c.tile,   c.threads, ends,       c.size};
    const PaddedMap map = padded_map(p);
    const int64_t kept = 2 * c.blocks + (ends ? 1 : 0), taps = c.size * c.size;
    const Buffer<float> maps(bytes, c.images * kept * map.rows * map.columns * map.channels, NAN);
    Results results;
    for (const int64_t count :
         {grad.size(), grad.size(), ends ? 0 : x.size(),
          2 * c.blocks * taps * c.channels * c.channels, 2 * c.blocks * c.channels,
          ends ? taps * c.channels * ends->in_channels : 0, ends ? c.channels : 0,
          ends ? c.channels * ends->out_channels : 0, ends ? ends->out_channels : 0})
        results.emplace_back(bytes, count, 0.0f);
    float* y = results[0].data();
    const auto at = [&](int i) { return results[i].size() > 0 ? results[i].data() : nullptr; };
    residual_blocks_cpu(p, x.data(), y, maps.data());
    residual_blocks_cpu(p, x.data(), results[1].data(), nullptr);
    REQUIRE(results[0] == results[1]);
    residual_blocks_backward_cpu(p, grad.data(), ends ? x.data() : nullptr, ends ? nullptr : y,
                                 maps.data(), {at(2), at(3), at(4), at(5), at(6), at(7), at(8)});
    return results;
}

void blocks_of_any_numbers(Bytes& bytes, int64_t size, bool ended) {
    blocks::Case c = blocks_case(bytes, size, size == 3 ? 40 : 24);
    const int64_t in = bytes.between(1, 3), out = bytes.between(1, 3), rare = rareness(bytes);
    const int64_t taps = size * size, pixels = c.images * c.height * c.width;
    const auto weight = floats(bytes, taps * c.channels * c.channels, rare);
    const auto bias = floats(bytes, c.channels, rare), shift = floats(bytes, out, rare);
    const auto first = floats(bytes, taps * c.channels * in, rare);
    const auto last = floats(bytes, out * c.channels, rare);
    const auto x = floats(bytes, pixels * (ended ? in : c.channels), rare);
    const auto grad = floats(bytes, pixels * (ended ? out : c.channels), rare);
    std::vector<Convolution> views, plain_views;
    Results plain;
    for (int64_t i = 0; i < 2 * c.blocks; ++i) {
        views.push_back(laid_out(bytes, weight.data(), bias.data(), c.channels, size));
        plain.push_back(contiguous(bytes, views.back(), c.channels, c.channels, size));
        plain_views.push_back(
            {plain.back().data(), {c.channels * taps, taps, size, 1}, bias.data()});
    }
    const RefinerEnds ends{in, out, laid_out(bytes, first.data(), bias.data(), in, size),
                           laid_out(bytes, last.data(), shift.data(), c.channels, 1)};
    const auto results = run_blocks(bytes, c, views, ended ? &ends : nullptr, x, grad);
    c.threads = bytes.flag() ? bytes.between(2, 4) : 1;
    const auto others = run_blocks(bytes, c, plain_views, ended ? &ends : nullptr, x, grad);
    for (size_t i = 0; i < results.size(); ++i) REQUIRE(results[i] == others[i]);
    if (bytes.next() % 8 == 0) forget_weights();
    if (bytes.next() % 64 == 0) release_scratch();
}

// Half of the cases against loops in double, half with numbers of any kind.
template <int64_t kSize>
void residual_blocks(Bytes& bytes) {
    if (bytes.flag()) return blocks_of_any_numbers(bytes, kSize, false);
    blocks::Case c = blocks_case(bytes, kSize, 8);  // few channels: the loops are slow
    c.images = c.blocks = 1;
    std::mt19937 random(static_cast<uint32_t>(bytes.word()));
    for (const double e : blocks::errors_of(c, random)) REQUIRE(e < 3e-5);
}

void residual_network(Bytes& bytes) {
    blocks_of_any_numbers(bytes, bytes.next() % 4 == 0 ? 7 : 3, true);
}

void patches_of_any_numbers(Bytes& bytes, const patches::Case& c) {
    const int64_t rare = rareness(bytes);
    PatchNetwork p{c.images, c.channels, c.height, c.width, {c.hidden, 32, 16, 16, 2},
                   {},       c.reflect,  c.threads};
    PatchNetwork other = p;
    other.threads = bytes.flag() ? bytes.between(2, 4) : 1;
    Results weights, biases, plain;
    for (int64_t i = 0, before = c.channels; i < kPatchConvolutions; before = p.channels[i++]) {
        const int64_t size = patches::kSizes[i], taps = size * size;
        weights.push_back(floats(bytes, p.channels[i] * before * taps, rare));
        biases.push_back(floats(bytes, p.channels[i], rare));
        p.convolutions[i] = laid_out(bytes, weights[i].data(), biases[i].data(), before, size);
        plain.push_back(contiguous(bytes, p.convolutions[i], p.channels[i], before, size));
        other.convolutions[i] = {plain[i].data(), {before * taps, taps, size, 1}, biases[i].data()};
    }
    const int64_t h1 = (c.height + 1) / 2, w1 = (c.width + 1) / 2;
    const int64_t h2 = (h1 + 1) / 2, w2 = (w1 + 1) / 2;
    const auto images = floats(bytes, c.images * c.channels * c.height * c.width, rare);
    const auto grad = floats(bytes, c.images * 2 * h2 * w2, rare);
    const auto run = [&](const PatchNetwork& network) {
        const Buffer<float> maps(
            bytes, c.images * ((h1 + 2) * (w1 + 2) * c.hidden + (h2 + 2) * (w2 + 2) * 96), NAN);
        Results results;
        for (const int64_t count : {grad.size(), grad.size(), images.size()})
            results.emplace_back(bytes, count, 0.0f);
        patch_network_cpu(network, images.data(), results[0].data(), maps.data());
        patch_network_cpu(network, images.data(), results[1].data(), nullptr);
        REQUIRE(results[0] == results[1]);
        PatchNetworkGradients to{results[2].data(), {}, {}};
        for (int i = 0; i < kPatchConvolutions; ++i) {
            results.emplace_back(bytes, weights[i].size(), 0.0f);
            to.weights[i] = results.back().data();
            results.emplace_back(bytes, biases[i].size(), 0.0f);
            to.biases[i] = results.back().data();
        }
        patch_network_backward_cpu(network, grad.data(), images.data(), maps.data(), to);
        return results;
    };
    const Results results = run(p), others = run(other);
    for (size_t i = 0; i < results.size(); ++i) REQUIRE(results[i] == others[i]);
}

void patch_network(Bytes& bytes) {
    patches::Case c{};
    c.reflect = bytes.flag();
    const int64_t least = c.reflect ? 5 : 1;  // so that every map has two rows to reflect
    c.channels = bytes.between(1, 3), c.images = bytes.between(1, 2);
    c.height = bytes.between(least, 9), c.width = bytes.between(least, 20);
    c.hidden = 16 * bytes.between(1, 3);
    c.threads = bytes.next() % 4 == 0 ? bytes.between(2, 4) : 1;
    if (bytes.next() % 4 != 0) return patches_of_any_numbers(bytes, c);
    c.images = 1, c.hidden = 16;  // the loops in double are slow
    std::mt19937 random(static_cast<uint32_t>(bytes.word()));
    REQUIRE(!(patches::largest_error(c, random) >= 3e-5));  // NaN: rounding decides
}

struct Op {
    const char* name;
    void (*run)(Bytes&);
};

constexpr Op kOps[] = {{"patch_cross_entropy", patch_cross_entropy},
                       {"history_exchange", history_exchange},
                       {"random", random},
                       {"gather_normalize", gather_normalize},
                       {"residual_blocks", residual_blocks<3>},
                       {"residual_blocks_seven", residual_blocks<7>},
                       {"residual_network", residual_network},
                       {"patch_network", patch_network}};

const Op& chosen() {
    const char* name = std::getenv("FUZZ_OP");
    for (const Op& op : kOps)
        if (name != nullptr && op.name == std::string(name)) return op;
    std::fprintf(stderr, "FUZZ_OP names no op\n");
    std::exit(2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const Op& op = chosen();
    Bytes bytes(data, size);
    op.run(bytes);
    return 0;
}

#ifdef FUZZ_PLAIN_DRIVER
#include <chrono>

// CASES SECONDS SEED: random bytes in place of libFuzzer's, and its last line.
int main(int count, char** words) {
    if (count != 4) return 2;
    const auto number = [&](int i) { return std::atoll(words[i]); };
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(number(2));
    Numbers numbers(static_cast<uint64_t>(number(3)));
    uint8_t bytes[512];
    int64_t done = 0;
    for (; done < number(1) && std::chrono::steady_clock::now() < end; ++done) {
        for (size_t i = 0; i < sizeof bytes; i += 8) {
            const uint64_t bits = numbers.bits();
            std::memcpy(bytes + i, &bits, 8);
        }
        LLVMFuzzerTestOneInput(bytes, sizeof bytes);
    }
    forget_weights();
    release_scratch();
    std::printf("Done %lld runs\n", static_cast<long long>(done));
    return 0;
}
#endif
