// The distinct rows of a batch of ids, in XLA's static shapes.

#ifndef OPTIMIZERS_OPS_CC_XLA_ROWS_H_
#define OPTIMIZERS_OPS_CC_XLA_ROWS_H_

#include <cstdint>
#include <limits>
#include <vector>

#include "tensorflow/core/framework/tensor_shape.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/comparators.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/lib/slicing.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape_util.h"

namespace lion {

using ::tensorflow::TensorShape;
using ::xla::PrimitiveType;
using ::xla::XlaBuilder;
using ::xla::XlaOp;

// A batch of n ids as its distinct rows, in static shapes. Segments after the
// last distinct row name rows out of bounds, which a scatter drops.
struct Segments {
  XlaOp rows;     // [n, 1] row of each segment; ascending, distinct
  XlaOp order;    // [n, 1] position in the batch of each sorted id
  XlaOp segment;  // [n, 1] segment of each sorted id
};

// Slices of `table` [rows, ...] at `indices` [n, 1]; clamped to the bounds.
inline XlaOp GatherRows(XlaOp table, const TensorShape& shape, XlaOp indices,
                        bool sorted) {
  xla::GatherDimensionNumbers dims;
  std::vector<int64_t> slice = {1};
  for (int i = 1; i < shape.dims(); ++i) {
    dims.add_offset_dims(i);
    slice.push_back(shape.dim_size(i));
  }
  dims.add_collapsed_slice_dims(0);
  dims.add_start_index_map(0);
  dims.set_index_vector_dim(1);
  return xla::Gather(table, indices, dims, slice, sorted);
}

// `table` [rows, ...] combined with `updates` [n, ...] at the ascending
// `indices` [n, 1]; those out of bounds are dropped.
inline XlaOp ScatterRows(XlaOp table, int rank, XlaOp indices, XlaOp updates,
                         const xla::XlaComputation& combine, bool distinct) {
  xla::ScatterDimensionNumbers dims;
  for (int i = 1; i < rank; ++i) dims.add_update_window_dims(i);
  dims.add_inserted_window_dims(0);
  dims.add_scatter_dims_to_operand_dims(0);
  dims.set_index_vector_dim(1);
  return xla::Scatter(table, indices, updates, combine, dims,
                      /*indices_are_sorted=*/true, distinct);
}

// The computation (old, new) -> new.
inline xla::XlaComputation Replace(XlaBuilder* builder, PrimitiveType type) {
  auto b = builder->CreateSubBuilder("replace");
  const xla::Shape scalar = xla::ShapeUtil::MakeShape(type, {});
  xla::Parameter(b.get(), 0, scalar, "old");
  xla::Parameter(b.get(), 1, scalar, "new");
  return b->BuildAndNoteError();
}

// The segments of `ids` [n] in a table of `num_rows` rows; n > 0.
inline Segments FindSegments(XlaOp ids, int64_t n, int64_t num_rows) {
  XlaBuilder* b = ids.builder();
  // Unsigned: XLA for GPU sorts such keys by radix.
  const PrimitiveType type =
      num_rows + n >= std::numeric_limits<int32_t>::max() ? xla::U64
                                                          : xla::U32;
  // All ids outside the table become the row `num_rows`. Compared as int64,
  // lest a large id wrap round into the table.
  ids = xla::ConvertElementType(ids, xla::S64);
  XlaOp limit = xla::Broadcast(xla::ConstantR0<int64_t>(b, num_rows), {n});
  XlaOp inside = xla::And(xla::Ge(ids, xla::ZerosLike(ids)),
                          xla::Lt(ids, limit));
  ids = xla::ConvertElementType(xla::Select(inside, ids, limit), type);

  // Stable: the gradients of a row are summed in the order of the batch.
  XlaOp position = xla::Iota(b, xla::S32, n);
  XlaOp sorted =
      xla::Sort({ids, position},
                xla::CreateScalarLtComputation({type, xla::S32}, b),
                /*dimension=*/0, /*is_stable=*/true);
  ids = xla::GetTupleElement(sorted, 0);
  XlaOp order = xla::GetTupleElement(sorted, 1);

  XlaOp before = xla::ConcatInDim(
      b,
      {xla::Broadcast(xla::MaxValue(b, type), {1}),
       xla::SliceInDim(ids, 0, n - 1, 1, 0)},
      0);
  XlaOp first = xla::ConvertElementType(xla::Ne(ids, before), xla::S32);
  XlaOp seen = xla::ReduceWindowWithGeneralPadding(
      first, xla::Zero(b, xla::S32),
      xla::CreateScalarAddComputation(xla::S32, b), {n}, {1}, {}, {},
      {{n - 1, 0}});
  XlaOp segment = xla::Reshape(seen - xla::One(b, xla::S32), {n, 1});

  XlaOp padding = xla::ConvertElementType(position, type) +
                  xla::ConstantR0WithType(b, type, num_rows + 1);
  XlaOp rows = ScatterRows(padding, 1, segment, ids, Replace(b, type),
                           /*distinct=*/false);
  return {xla::Reshape(rows, {n, 1}), xla::Reshape(order, {n, 1}), segment};
}

}  // namespace lion

#endif  // OPTIMIZERS_OPS_CC_XLA_ROWS_H_
