// The loops of the CPU kernels, chosen by dtype and by processor at run time.

#ifndef OPTIMIZERS_OPS_CC_LION_LOOPS_H_
#define OPTIMIZERS_OPS_CC_LION_LOOPS_H_

#include <cstdint>

#include "lion.h"

namespace lion {

enum class Type { kFloat32, kFloat64, kBFloat16, kFloat16 };

// Rows of a batch, each once. Row number i of the table is rows[i]; its
// gradients are grad[positions[starts[i]]] to grad[positions[starts[i+1]-1]],
// and are summed in this order.
struct RowGroups {
  const int64_t* rows;
  const int32_t* starts;
  const int32_t* positions;
  int64_t count;
};

// The memory of a sparse update; `last_step` is null unless it is decayed.
struct Table {
  void* var;
  void* m;
  const void* grad;
  int64_t width;
  int32_t* last_step;
  int32_t step;
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
                      const RowGroups& groups);
};

// The loops for a variable and a momentum of these dtypes, for the processor
// that this runs on.
Loops GetLoops(Type var, Type m);

}  // namespace lion

#endif  // OPTIMIZERS_OPS_CC_LION_LOOPS_H_
