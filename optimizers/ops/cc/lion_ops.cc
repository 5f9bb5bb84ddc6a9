// The signatures of the Lion ops, shared by the CPU and the XLA kernels.

#include <vector>

#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace lion {
namespace {

using ::tensorflow::shape_inference::DimensionHandle;
using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

enum class State { kResource, kTensor };

// The shape of a state input: a tensor, or a variable given by its handle.
ShapeHandle StateShape(InferenceContext* c, State state, int input) {
  if (state == State::kTensor) return c->input(input);
  const auto* variable = c->input_handle_shapes_and_types(input);
  return variable == nullptr || variable->empty() ? c->UnknownShape()
                                                  : (*variable)[0].shape;
}

// `var` and `m` of one shape are followed by the scalars, from `first` on, then
// by a gradient and, if `rows`, by the indices of its rows.
absl::Status CheckShapes(InferenceContext* c, State state, int first,
                         bool rows, int scalars = 6) {
  ShapeHandle var;
  TF_RETURN_IF_ERROR(
      c->Merge(StateShape(c, state, 0), StateShape(c, state, 1), &var));
  ShapeHandle unused;
  for (int i = first; i < first + scalars; ++i) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &unused));
  }
  ShapeHandle grad = c->input(first + scalars);
  if (rows) {
    TF_RETURN_IF_ERROR(c->WithRankAtLeast(var, 1, &var));
    TF_RETURN_IF_ERROR(c->WithRankAtLeast(grad, 1, &grad));
    ShapeHandle indices;
    TF_RETURN_IF_ERROR(
        c->WithRank(c->input(first + scalars + 1), 1, &indices));
    DimensionHandle count;
    TF_RETURN_IF_ERROR(c->Merge(c->Dim(grad, 0), c->Dim(indices, 0), &count));
    ShapeHandle row;
    TF_RETURN_IF_ERROR(c->Subshape(grad, 1, &row));
    TF_RETURN_IF_ERROR(c->Concatenate(c->Vector(c->Dim(var, 0)), row, &grad));
  }
  TF_RETURN_IF_ERROR(c->Merge(var, grad, &var));
  if (state == State::kTensor) {
    c->set_output(0, var);
    c->set_output(1, var);
  }
  return absl::OkStatus();
}

absl::Status ResourceShape(InferenceContext* c) {
  return CheckShapes(c, State::kResource, 2, false);
}

// With counters of rows after `m`, all variables being `states`.
template <int states, int scalars>
absl::Status ResourceRowsShape(InferenceContext* c) {
  ShapeHandle var = StateShape(c, State::kResource, 0);
  TF_RETURN_IF_ERROR(c->WithRankAtLeast(var, 1, &var));
  for (int i = 2; i < states; ++i) {
    ShapeHandle counter = StateShape(c, State::kResource, i);
    TF_RETURN_IF_ERROR(c->WithRank(counter, 1, &counter));
    DimensionHandle rows;
    TF_RETURN_IF_ERROR(c->Merge(c->Dim(var, 0), c->Dim(counter, 0), &rows));
  }
  return CheckShapes(c, State::kResource, states, true, scalars);
}

absl::Status UpdateShape(InferenceContext* c) {
  return CheckShapes(c, State::kTensor, 2, false);
}

absl::Status SparseUpdateShape(InferenceContext* c) {
  return CheckShapes(c, State::kTensor, 2, true);
}

// T: dtype of var. M: of the momentum. S: of the scalars, double if T is, else
// float. G: of the gradient, T or S. `use_locking` is accepted for the sake of
// TensorFlow's training ops, which have it; the variables are locked in any
// case. `seed` and `step`, the number of the step, make the noise by which a
// bfloat16 momentum is rounded, and weights of half precision if `stochastic`.
// last_step, seen: int32 [rows], a row's last step and its number of updates.
#define LION_TYPES "T: {float, double, bfloat16, half}"
#define LION_MOMENTUM "M: {float, double, bfloat16, half}"
#define LION_GRADIENT "G: {float, double, bfloat16, half}"

REGISTER_OP("ResourceApplyLion")
    .Input("var: resource")
    .Input("m: resource")
    .Input("lr: S")
    .Input("beta_1: S")
    .Input("beta_2: S")
    .Input("weight_decay: S")
    .Input("seed: int32")
    .Input("step: int32")
    .Input("grad: G")
    .Attr(LION_TYPES)
    .Attr(LION_MOMENTUM)
    .Attr(LION_GRADIENT)
    .Attr("S: {float, double}")
    .Attr("cautious: bool = false")
    .Attr("use_locking: bool = false")
    .Attr("stochastic: bool = false")
    .SetIsStateful()
    .SetShapeFn(ResourceShape);

REGISTER_OP("ResourceSparseApplyLion")
    .Input("var: resource")
    .Input("m: resource")
    .Input("lr: S")
    .Input("beta_1: S")
    .Input("beta_2: S")
    .Input("weight_decay: S")
    .Input("seed: int32")
    .Input("step: int32")
    .Input("grad: G")
    .Input("indices: Tindices")
    .Attr(LION_TYPES)
    .Attr(LION_MOMENTUM)
    .Attr(LION_GRADIENT)
    .Attr("S: {float, double}")
    .Attr("Tindices: {int32, int64}")
    .Attr("cautious: bool = false")
    .Attr("use_locking: bool = false")
    .Attr("stochastic: bool = false")
    .SetIsStateful()
    .SetShapeFn(ResourceRowsShape<2, 6>);

REGISTER_OP("ResourceSparseApplyDecayedLion")
    .Input("var: resource")
    .Input("m: resource")
    .Input("last_step: resource")
    .Input("lr: S")
    .Input("beta_1: S")
    .Input("beta_2: S")
    .Input("weight_decay: S")
    .Input("seed: int32")
    .Input("step: int32")
    .Input("grad: G")
    .Input("indices: Tindices")
    .Attr(LION_TYPES)
    .Attr(LION_MOMENTUM)
    .Attr(LION_GRADIENT)
    .Attr("S: {float, double}")
    .Attr("Tindices: {int32, int64}")
    .Attr("cautious: bool = false")
    .Attr("use_locking: bool = false")
    .Attr("stochastic: bool = false")
    .SetIsStateful()
    .SetShapeFn(ResourceRowsShape<3, 6>);

REGISTER_OP("ResourceSparseApplyCountedLion")
    .Input("var: resource")
    .Input("m: resource")
    .Input("seen: resource")
    .Input("lr: S")
    .Input("beta_1: S")
    .Input("beta_2: S")
    .Input("weight_decay: S")
    .Input("frequency_power: S")
    .Input("seed: int32")
    .Input("step: int32")
    .Input("grad: G")
    .Input("indices: Tindices")
    .Attr(LION_TYPES)
    .Attr(LION_MOMENTUM)
    .Attr(LION_GRADIENT)
    .Attr("S: {float, double}")
    .Attr("Tindices: {int32, int64}")
    .Attr("cautious: bool = false")
    .Attr("use_locking: bool = false")
    .Attr("stochastic: bool = false")
    .SetIsStateful()
    .SetShapeFn(ResourceRowsShape<3, 7>);

REGISTER_OP("ResourceSparseApplyDecayedCountedLion")
    .Input("var: resource")
    .Input("m: resource")
    .Input("last_step: resource")
    .Input("seen: resource")
    .Input("lr: S")
    .Input("beta_1: S")
    .Input("beta_2: S")
    .Input("weight_decay: S")
    .Input("frequency_power: S")
    .Input("seed: int32")
    .Input("step: int32")
    .Input("grad: G")
    .Input("indices: Tindices")
    .Attr(LION_TYPES)
    .Attr(LION_MOMENTUM)
    .Attr(LION_GRADIENT)
    .Attr("S: {float, double}")
    .Attr("Tindices: {int32, int64}")
    .Attr("cautious: bool = false")
    .Attr("use_locking: bool = false")
    .Attr("stochastic: bool = false")
    .SetIsStateful()
    .SetShapeFn(ResourceRowsShape<4, 7>);

REGISTER_OP("LionUpdate")
    .Input("var: T")
    .Input("m: M")
    .Input("lr: S")
    .Input("beta_1: S")
    .Input("beta_2: S")
    .Input("weight_decay: S")
    .Input("seed: int32")
    .Input("step: int32")
    .Input("grad: G")
    .Output("var_out: T")
    .Output("m_out: M")
    .Attr(LION_TYPES)
    .Attr(LION_MOMENTUM)
    .Attr(LION_GRADIENT)
    .Attr("S: {float, double}")
    .Attr("cautious: bool = false")
    .Attr("stochastic: bool = false")
    .SetShapeFn(UpdateShape);

REGISTER_OP("SparseLionUpdate")
    .Input("var: T")
    .Input("m: M")
    .Input("lr: S")
    .Input("beta_1: S")
    .Input("beta_2: S")
    .Input("weight_decay: S")
    .Input("seed: int32")
    .Input("step: int32")
    .Input("grad: G")
    .Input("indices: Tindices")
    .Output("var_out: T")
    .Output("m_out: M")
    .Attr(LION_TYPES)
    .Attr(LION_MOMENTUM)
    .Attr(LION_GRADIENT)
    .Attr("S: {float, double}")
    .Attr("Tindices: {int32, int64}")
    .Attr("cautious: bool = false")
    .Attr("stochastic: bool = false")
    .SetShapeFn(SparseUpdateShape);

// `indices` as they are, if all are in [0, rows); an error where the device can
// raise one: on a CPU, compiled by XLA or not.
REGISTER_OP("LionCheckIds")
    .Input("indices: Tindices")
    .Output("checked: Tindices")
    .Attr("Tindices: {int32, int64}")
    .Attr("rows: int")
    .SetShapeFn(::tensorflow::shape_inference::UnchangedShape);

#undef LION_TYPES
#undef LION_MOMENTUM
#undef LION_GRADIENT

}  // namespace
}  // namespace lion
