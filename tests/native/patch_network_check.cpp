// patch_network against plain loops in double, for sanitizers and for processors other than this
// one: test_native_builds.py builds and runs it. Prints the largest errors, exits with 1 if one is
// too large.
#include "patch_network_cases.h"

using namespace simgan_fast;
using patches::Case;

namespace {

bool run(const Case& c, std::mt19937& random) {
    double largest = NAN;
    while (std::isnan(largest)) largest = patches::largest_error(c, random);  // or draw again
    const bool good = largest < 1e-5;
    std::printf("%s %lldx%lldx%lldx%lld, %lld channels, %s: %.1e %s\n", cpu_level().c_str(),
                (long long)c.images, (long long)c.channels, (long long)c.height, (long long)c.width,
                (long long)c.hidden, c.reflect ? "reflect" : "zeros", largest, good ? "" : "WRONG");
    return good;
}

}  // namespace

int main() {
    std::mt19937 random(1);
    bool good = true;
    for (const bool reflect : {false, true}) {
        good &= run({1, 1, 5, 5, 16, 1, reflect}, random);
        good &= run({2, 1, 12, 31, 48, 2, reflect}, random);
        good &= run({3, 3, 7, 62, 16, 2, reflect}, random);
        good &= run({17, 2, 6, 9, 32, 3, reflect}, random);
    }
    good &= run({1, 1, 1, 1, 16, 1, false}, random);
    good &= run({2, 8, 2, 3, 16, 2, false}, random);
    return good ? 0 : 1;
}
