// The distinct ids of a batch, with the positions of each, in linear time.

#ifndef OPTIMIZERS_OPS_CC_ROW_GROUPS_H_
#define OPTIMIZERS_OPS_CC_ROW_GROUPS_H_

#include <cstdint>
#include <vector>

#include "lion_loops.h"

namespace lion {

// One of `parts` disjoint sets of ids, which threads group side by side. An
// id's positions are in ascending order, whatever the number of parts, so its
// gradients are always summed in the same order.
class RowSet {
 public:
  // Reads `indices` [n] and keeps the ids of set `part`. Returns the position
  // of an id that is not in [0, rows), or -1 if there is none.
  template <typename Index>
  int64_t Build(const Index* indices, int64_t n, int64_t rows, uint32_t part,
                uint32_t parts) {
    // A set holds about n / parts positions, and at most n. Its table starts
    // out for the first and grows with the ids.
    uint32_t mask = 255;
    while (mask < 2 * n / parts) mask = 2 * mask + 1;
    std::vector<int32_t> slots(mask + 1, -1);
    std::vector<int32_t> group_of;
    std::vector<int32_t> mine;
    group_of.reserve(n / parts + 1);
    mine.reserve(n / parts + 1);
    starts_.assign(1, 0);
    for (int64_t i = 0; i < n; ++i) {
      const auto id = static_cast<int64_t>(indices[i]);
      if (static_cast<uint64_t>(id) >= static_cast<uint64_t>(rows)) return i;
      const uint32_t hash = Mix(id);
      if (parts > 1 && Part(hash, parts) != part) continue;
      uint32_t slot = hash & mask;
      while (slots[slot] >= 0 && rows_[slots[slot]] != id) {
        slot = (slot + 1) & mask;
      }
      if (slots[slot] < 0) {
        slots[slot] = static_cast<int32_t>(rows_.size());
        rows_.push_back(id);
        starts_.push_back(0);
      }
      ++starts_[slots[slot] + 1];
      group_of.push_back(slots[slot]);
      mine.push_back(static_cast<int32_t>(i));
      if (2 * rows_.size() > mask) Grow(&slots, &mask);
    }
    for (size_t g = 1; g < starts_.size(); ++g) starts_[g] += starts_[g - 1];
    std::vector<int32_t> next(starts_.begin(), starts_.end());
    positions_.resize(mine.size());
    for (size_t i = 0; i < mine.size(); ++i) {
      positions_[next[group_of[i]]++] = mine[i];
    }
    return -1;
  }

  // All that was built; valid as long as this object.
  RowGroups groups() const {
    return {rows_.data(), starts_.data(), positions_.data(),
            static_cast<int64_t>(rows_.size())};
  }

 private:
  static uint32_t Mix(int64_t id) {
    uint64_t x = static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
    return static_cast<uint32_t>(x >> 32);
  }

  // From the high bits; the slot is from the low ones.
  static uint32_t Part(uint32_t hash, uint32_t parts) {
    return static_cast<uint32_t>((static_cast<uint64_t>(hash) * parts) >> 32);
  }

  void Grow(std::vector<int32_t>* slots, uint32_t* mask) {
    *mask = 2 * *mask + 1;
    slots->assign(static_cast<size_t>(*mask) + 1, -1);
    for (size_t g = 0; g < rows_.size(); ++g) {
      uint32_t slot = Mix(rows_[g]) & *mask;
      while ((*slots)[slot] >= 0) slot = (slot + 1) & *mask;
      (*slots)[slot] = static_cast<int32_t>(g);
    }
  }

  std::vector<int64_t> rows_;
  std::vector<int32_t> starts_;
  std::vector<int32_t> positions_;
};

}  // namespace lion

#endif  // OPTIMIZERS_OPS_CC_ROW_GROUPS_H_
