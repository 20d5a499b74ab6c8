// Work on torch's own threads.
#pragma once

#include <cstdint>
#include <functional>

namespace simgan_fast {

// Calls work(index, worker) for each index below `count`, on up to `threads` workers; worker is
// below `threads`, and no two calls at a time have the same. `work` must not throw.
void parallel_for(int64_t count, int64_t threads,
                  const std::function<void(int64_t index, int64_t worker)>& work);

}  // namespace simgan_fast
