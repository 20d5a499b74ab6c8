// Working memory that outlives a call: fresh pages cost more than the work on them.
#pragma once

#include <cstdint>

namespace simgan_fast {

// A piece of memory, taken from those that are kept or new, and given back at the end.
class Scratch {
  public:
    explicit Scratch(int64_t floats);  // throws std::bad_alloc
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    float* data() const { return data_; }
    int64_t floats() const { return bytes_ / static_cast<int64_t>(sizeof(float)); }

  private:
    float* data_;
    int64_t bytes_;
};

// Frees what is kept for later; it says how many bytes that were.
int64_t release_scratch();

}  // namespace simgan_fast
