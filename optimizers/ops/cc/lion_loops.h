// The loops of the CPU kernels, chosen by dtype and by processor at run time.

#ifndef OPTIMIZERS_OPS_CC_LION_LOOPS_H_
#define OPTIMIZERS_OPS_CC_LION_LOOPS_H_

#include <cstdint>

#include "lion.h"

namespace lion {

enum class Type { kFloat32, kFloat64, kBFloat16, kFloat16 };

// A batch's ids, sorted by row; a row's gradients are summed in this order. An
// entry is row << position_bits | position: the row of the table that gradient
// number `position` is for. Prefetching reads `kEntriesAhead` more entries.
struct RowEntries {
  const uint64_t* entries;
  int64_t count;
  int position_bits;
};

constexpr int64_t kEntriesAhead = 32;

// The memory of a sparse update; `last_step` is null unless it is decayed,
// `seen` unless rates go by how often a row was seen.
struct Table {
  void* var;
  void* m;
  const void* grad;
  int64_t width;
  int32_t* last_step;
  int32_t step;
  int32_t* seen;
};

struct Loops {
  // Elements [begin, end) of a dense update with this cautious scale.
  void (*update)(const Rule& rule, double scale, const void* var,
                 const void* m, const void* grad, void* var_out, void* m_out,
                 int64_t begin, int64_t end);
  // Elements of [begin, end) whose update agrees with the gradient.
  int64_t (*count_kept)(const Rule& rule, const void* m, const void* grad,
                        int64_t begin, int64_t end);
  void (*update_rows)(const Rule& rule, const Table& table,
                      const RowEntries& batch);
};

// The loops for these dtypes, for the processor that this runs on. The
// gradient's is the variable's or the one that its rule is computed in.
Loops GetLoops(Type var, Type m, Type grad);

}  // namespace lion

#endif  // OPTIMIZERS_OPS_CC_LION_LOOPS_H_
