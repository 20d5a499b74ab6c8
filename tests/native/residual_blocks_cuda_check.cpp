// The CUDA kernels of the residual blocks and of the refiner's ends on memory of just the size that
// they ask for, for AddressSanitizer; exits with 1 where a result was not written.
#include <cmath>
#include <cstdio>
#include <memory>

#include "cuda/residual_blocks.cu"
#include "cuda/residual_network.cu"

using namespace simgan_fast;

namespace {

constexpr uint16_t kNaN = 0x7fc0, kSmallValue = 0x3c00;  // 2^-7

// On the heap by itself, aligned as torch's memory is.
class Values {
  public:
    Values(int64_t count, uint16_t value)
        : count_(count), values_(new (kAlignment) uint16_t[count]) {
        std::fill_n(values_.get(), count, value);
    }
    uint16_t* get() const { return values_.get(); }
    bool written() const {
        return std::all_of(get(), get() + count_, [](uint16_t v) { return v != kNaN; });
    }

  private:
    static constexpr std::align_val_t kAlignment{16};
    struct Delete {
        void operator()(uint16_t* p) const { operator delete[](p, kAlignment); }
    };
    int64_t count_;
    std::unique_ptr<uint16_t[], Delete> values_;
};

float* floats(const Values& v) {
    return reinterpret_cast<float*>(v.get());
}

// planes: 1, or 3 of float32, where x, y, weights and their gradients are floats, twice as large.
bool run(int64_t images, int64_t height, int64_t width, int64_t channels, int64_t size,
         bool reflect, int64_t planes) {
    const int64_t blocks = size == 3 ? 2 : 1;  // one of 7x7 takes seconds
    const int64_t words = planes == 1 ? 1 : 2;
    const int64_t values = images * height * width * channels, map = planes * values;
    const int64_t weights = 2 * blocks * size * size * channels * channels,
                  biases = 2 * blocks * channels;
    const Values weight(words * weights, kSmallValue), arranged(planes * weights, kNaN);
    const Values x(words * values, kSmallValue), y(words * values, kNaN);
    const Values maps((2 * blocks - 1) * map, kNaN), working(map, kNaN);
    const Values bias(2 * biases, 0);  // floats
    ResidualBlocksCuda p{images,      height, width,        channels,
                         blocks,      size,   reflect,      weight.get(),
                         planes == 1, planes, floats(bias), arranged.get()};
    residual_blocks_cuda(p, x.get(), working.get(), maps.get(), true, y.get(), nullptr);
    const Values grad_x(words * values, kNaN), grad_map(map, kNaN), hidden(map, kNaN);
    const Values grad_weight(words * weights, kNaN), grad_bias(words * biases, kNaN);
    const int64_t around = images * (height + size - 1) * (width + size - 1) * planes * channels;
    const Values padded(reflect ? around : 0, kNaN);
    const Values parts(2 * residual_blocks_cuda_parts(p), kNaN);  // floats
    residual_blocks_backward_cuda(
        p, x.get(), x.get(), y.get(), working.get(), maps.get(),
        {grad_x.get(), grad_weight.get(), grad_bias.get(),
         planes == 1 ? grad_x.get() : grad_map.get(), hidden.get(), padded.get(), floats(parts)},
        nullptr);
    return maps.written() && y.written() && grad_x.written() && grad_weight.written() &&
           grad_bias.written();
}

// Images with `ends` channels.
bool run_network(int64_t images, int64_t height, int64_t width, int64_t channels, int64_t ends,
                 bool reflect, int64_t planes) {
    constexpr int64_t kBlocks = 1;
    const int64_t words = planes == 1 ? 1 : 2;
    const int64_t pixels = images * height * width, map = planes * pixels * channels;
    const int64_t weights = 2 * 9 * channels * channels, biases = 2 * channels;
    const int64_t first = 9 * ends * channels, last = ends * channels;
    const Values weight(words * weights, kSmallValue), arranged(planes * weights, kNaN);
    const Values x(words * pixels * ends, kSmallValue), y(words * pixels * ends, kNaN);
    const Values maps((2 * kBlocks + 1) * map, kNaN);
    // Floats, each twice as large:
    const Values bias(2 * biases, 0), first_weight(2 * first, kSmallValue);
    const Values last_weight(2 * last, kSmallValue);
    const ResidualBlocksCuda blocks{images,      height, width,        channels,
                                    kBlocks,     3,      reflect,      weight.get(),
                                    planes == 1, planes, floats(bias), arranged.get()};
    const ResidualNetworkCuda p{
        blocks,       ends,        ends, floats(first_weight), floats(bias), floats(last_weight),
        floats(bias), planes == 1, true};
    residual_network_cuda(p, x.get(), maps.get(), true, y.get(), nullptr);
    const Values grad_weight(words * weights, kNaN), grad_bias(words * biases, kNaN);
    const Values grad_map(map, kNaN), hidden(map, kNaN), grad_images(words * pixels * ends, kNaN);
    const Values grad_first(words * first, kNaN), grad_first_bias(words * channels, kNaN);
    const Values grad_last(words * last, kNaN), grad_last_bias(words * ends, kNaN);
    const Values padded(reflect ? planes * images * (height + 2) * (width + 2) * channels : 0,
                        kNaN);
    const Values parts(2 * residual_network_cuda_parts(p), kNaN);
    residual_network_backward_cuda(p, x.get(), x.get(), y.get(), maps.get(),
                                   {{nullptr, grad_weight.get(), grad_bias.get(), grad_map.get(),
                                     hidden.get(), padded.get(), floats(parts)},
                                    grad_images.get(),
                                    grad_first.get(),
                                    grad_first_bias.get(),
                                    grad_last.get(),
                                    grad_last_bias.get()},
                                   nullptr);
    return maps.written() && y.written() && grad_images.written() && grad_first.written() &&
           grad_first_bias.written() && grad_last.written() && grad_last_bias.written();
}

}  // namespace

int main() {
    for (const bool reflect : {false, true})
        if (!run(2, 5, 3, 16, 3, reflect, 1) || !run(1, 3, 57, 16, 3, reflect, 1) ||
            !run(1, 2, 2, 64, 3, reflect, 1) || !run(2, 4, 33, 16, 7, reflect, 1) ||
            !run(1, 4, 5, 64, 7, reflect, 1) || !run_network(2, 5, 3, 16, 3, reflect, 1) ||
            !run_network(1, 3, 57, 16, 1, reflect, 1) || !run_network(1, 2, 2, 64, 1, reflect, 1) ||
            !run(2, 5, 3, 16, 3, reflect, 3) || !run(1, 2, 2, 64, 3, reflect, 3) ||
            !run(1, 4, 5, 16, 7, reflect, 3) || !run_network(2, 5, 3, 16, 3, reflect, 3)) {
            std::puts("not all was written");
            return 1;
        }
}
