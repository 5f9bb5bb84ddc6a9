// The ids of a batch sorted by row, in linear time.

#ifndef OPTIMIZERS_OPS_CC_ROW_GROUPS_H_
#define OPTIMIZERS_OPS_CC_ROW_GROUPS_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lion_loops.h"

namespace lion {

// Bits that hold 0 to `last`.
inline int BitsFor(uint64_t last) {
  return last == 0 ? 0 : 64 - __builtin_clzll(last);
}

// Whether `id` stands for no row at all: the least number of its type, which
// fills up batches that must have a certain size.
template <typename Index>
inline bool IsPadding(Index id) {
  return id == std::numeric_limits<Index>::min();
}

// One of `parts` disjoint sets of rows, which threads update side by side,
// with the positions of each row in the batch. These are in ascending order,
// whatever the number of parts: a row's gradients are always summed alike.
class RowSet {
 public:
  // Keeps of `indices` [n], all in [0, rows) or padding, those of set `part`.
  // An id and its position must fit in 64 bits together.
  template <typename Index>
  RowSet(const Index* indices, int64_t n, int64_t rows, uint32_t part,
         uint32_t parts)
      : position_bits_(BitsFor(n - 1)),
        entries_(new uint64_t[n + kEntriesAhead]) {
    for (int64_t i = 0; i < n; ++i) {
      const auto id = static_cast<uint64_t>(indices[i]);
      // Written in any case: a branch on chance would cost more.
      entries_[count_] = id << position_bits_ | static_cast<uint64_t>(i);
      count_ += (Part(id, parts) == part) & !IsPadding(indices[i]);
    }
    SortByRow(BitsFor(rows - 1));
    if (count_ > 0) {
      std::fill_n(&entries_[count_], kEntriesAhead, entries_[count_ - 1]);
    }
  }

  // Valid as long as this object.
  RowEntries entries() const {
    return {entries_.get(), count_, position_bits_};
  }

 private:
  static constexpr int kDigitBits = 8;

  // Rows that may share a cache line, in the table or in `last_step`, are of
  // one set.
  static uint32_t Part(uint64_t id, uint32_t parts) {
    const uint64_t hash = ((id >> 4) * 0x9E3779B97F4A7C15u) >> 32;
    return static_cast<uint32_t>((hash * parts) >> 32);
  }

  // Radix sort, from the lowest digit of the row up; stable.
  void SortByRow(int row_bits) {
    constexpr uint64_t kDigit = (1u << kDigitBits) - 1;
    const int passes = (row_bits + kDigitBits - 1) / kDigitBits;
    std::vector<int64_t> starts(passes << kDigitBits, 0);
    for (int64_t i = 0; i < count_; ++i) {
      uint64_t row = entries_[i] >> position_bits_;
      for (int pass = 0; pass < passes; ++pass, row >>= kDigitBits) {
        ++starts[(pass << kDigitBits) + (row & kDigit)];
      }
    }
    std::unique_ptr<uint64_t[]> sorted(new uint64_t[count_ + kEntriesAhead]);
    for (int pass = 0; pass < passes; ++pass) {
      int64_t* const start = &starts[pass << kDigitBits];
      int64_t before = 0;
      for (uint64_t digit = 0; digit <= kDigit; ++digit) {
        before += std::exchange(start[digit], before);
      }
      const int shift = position_bits_ + pass * kDigitBits;
      for (int64_t i = 0; i < count_; ++i) {
        const uint64_t entry = entries_[i];
        sorted[start[entry >> shift & kDigit]++] = entry;
      }
      entries_.swap(sorted);
    }
  }

  int position_bits_;
  int64_t count_ = 0;
  std::unique_ptr<uint64_t[]> entries_;
};

// The ids of a batch, int32 or int64, for a table of `rows` rows.
class Ids {
 public:
  Ids(const void* data, bool wide, int64_t n, int64_t rows)
      : data_(data), wide_(wide), n_(n), rows_(rows) {}

  // What is wrong with them, by the name of their argument; "" if nothing is.
  std::string Problem() const {
    const std::string of = std::to_string(rows_);
    if (BitsFor(rows_) + BitsFor(n_) > 64) {
      return "`indices` must be fewer for `var` of " + of +
             " rows. Received: " + std::to_string(n_);
    }
    const int64_t i = wide_ ? FirstOutside(static_cast<const int64_t*>(data_))
                            : FirstOutside(static_cast<const int32_t*>(data_));
    if (i == n_) return "";
    const int64_t id = wide_ ? static_cast<const int64_t*>(data_)[i]
                             : static_cast<const int32_t*>(data_)[i];
    return "`indices` must be in [0, " + of +
           "), the rows of `var`. Received: indices[" + std::to_string(i) +
           "] = " + std::to_string(id);
  }

  // Into how many parts an update is worth to be shared out.
  int64_t Parts(int64_t threads) const {
    constexpr int64_t kIdsPerPart = 4096;  // fewer are not worth a thread
    return std::min(threads, (n_ + kIdsPerPart - 1) / kIdsPerPart);
  }

  // One step of the rows of part `part`; there are ids, without a problem.
  void Update(const Loops& loops, const Rule& rule, const Table& table,
              int64_t part, int64_t parts) const {
    const RowSet set =
        wide_ ? RowSet(static_cast<const int64_t*>(data_), n_, rows_, part,
                       parts)
              : RowSet(static_cast<const int32_t*>(data_), n_, rows_, part,
                       parts);
    loops.update_rows(rule, table, set.entries());
  }

 private:
  template <typename Index>
  int64_t FirstOutside(const Index* ids) const {
    int64_t i = 0;
    while (i < n_ &&
           (static_cast<uint64_t>(ids[i]) < static_cast<uint64_t>(rows_) ||
            IsPadding(ids[i]))) {
      ++i;
    }
    return i;
  }

  const void* data_;
  bool wide_;
  int64_t n_, rows_;
};

}  // namespace lion

#endif  // OPTIMIZERS_OPS_CC_ROW_GROUPS_H_
