// residual_blocks against plain loops in double, for sanitizers and for processors other than this
// one: test_native_builds.py builds and runs it. Prints the largest errors, exits with 1
// if one is too large.
#include "residual_blocks_cases.h"

using namespace simgan_fast;
using blocks::Case;

namespace {

bool run(const Case& c, std::mt19937& random) {
    const auto errors = blocks::errors_of(c, random);
    bool good = true;
    for (const double e : errors) good = good && e < 2e-5;
    std::printf(
        "%s %lldx %lldx%lldx%lld %lld blocks %lldx%lld F(%lld) %s: %.1e %.1e %.1e %.1e %.1e %s\n",
        cpu_level().c_str(), (long long)c.images, (long long)c.height, (long long)c.width,
        (long long)c.channels, (long long)c.blocks, (long long)c.size, (long long)c.size,
        (long long)c.tile, c.reflect ? "reflect" : "zeros", errors[0], errors[1], errors[2],
        errors[3], errors[4], good ? "" : "TOO LARGE");
    return good;
}

bool run_ends(const Case& c, int64_t in, int64_t out) {
    const bool good = blocks::ends_are_written(c, in, out);
    if (!good) std::printf("with ends: not all is written\n");
    return good;
}

}  // namespace

int main() {
    std::mt19937 random(1);
    bool good = true;
    for (const int64_t tile : {4, 5, 6})
        for (const bool reflect : {false, true}) {
            good &= run({1, 2, 2, 8, 1, tile, 1, reflect}, random);
            good &= run({3, tile, 2 * tile, 16, 1, tile, 2, reflect}, random);
            good &= run({1, tile + 1, 3 * tile - 1, 40, 2, tile, 3, reflect}, random);
            good &= run({5, 9, 7, 24, 1, tile, 2, reflect}, random);
            good &= run({1, 13, 5 * tile + 3, 32, 1, tile, 1, reflect}, random);
        }
    for (const bool reflect : {false, true}) {
        good &= run({1, 4, 5, 8, 2, 4, 1, reflect, 7}, random);
        good &= run({3, 10, 21, 24, 1, 4, 2, reflect, 7}, random);
        good &= run({40, 4, 11, 8, 1, 4, 3, reflect, 7}, random);
    }
    good &= run({1, 1, 1, 8, 1, 4, 1, false, 7}, random);
    good &= run({1, 1, 1, 8, 1, 4, 1, false}, random);
    good &= run({18, 1, 3, 8, 1, 5, 4, false}, random);
    good &= run_ends({3, 5, 11, 24, 2, 4, 2, true}, 1, 1);
    good &= run_ends({2, 9, 2, 8, 1, 5, 3, true}, 3, 2);
    good &= run_ends({5, 1, 1, 16, 1, 6, 1, false}, 2, 3);
    good &= run_ends({3, 5, 11, 24, 2, 4, 2, true, 7}, 3, 2);
    forget_weights();
    release_scratch();
    return good ? 0 : 1;
}
