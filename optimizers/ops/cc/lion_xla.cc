// Lion's XLA lowering: the ops of lion_ops.cc in terms of the XLA builder.

#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "lion.h"
#include "lion_rows_call.h"
#include "tensorflow/compiler/tf2xla/type_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/tpu/tpu_defs.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla_rows.h"

namespace lion {
namespace {

using ::tensorflow::DataType;

struct Rates {
  // Scalars of the compute type; `lr` may have the shape of the update.
  XlaOp lr, beta_1, beta_2, weight_decay, frequency_power;
};

// Counters of rows, S32 [rows], of no elements where a mode keeps none.
struct Counters {
  XlaOp last_step, seen;
};

struct State {
  XlaOp var, m;
};

// The two half precisions are computed in float32.
PrimitiveType ComputeType(PrimitiveType type) {
  return type == xla::F64 ? xla::F64 : xla::F32;
}

// The true fraction of `kept` over the dimensions from `first` on, broadcast
// to `shape`. Counted in integers: a float32 count stops growing at 2^24.
XlaOp Fraction(XlaOp kept, const TensorShape& shape, int first,
               PrimitiveType compute) {
  XlaBuilder* b = kept.builder();
  std::vector<int64_t> outer(first), inner(shape.dims() - first);
  std::iota(outer.begin(), outer.end(), 0);
  std::iota(inner.begin(), inner.end(), first);
  int64_t size = 1;
  for (int64_t i : inner) size *= shape.dim_size(i);
  const PrimitiveType count =
      size > std::numeric_limits<int32_t>::max() ? xla::S64 : xla::S32;
  XlaOp sum =
      xla::Reduce(xla::ConvertElementType(kept, count), xla::Zero(b, count),
                  xla::CreateScalarAddComputation(count, b), inner);
  XlaOp fraction = xla::ConvertElementType(sum, compute) /
                   xla::ConstantR0WithType(b, compute, size);
  return xla::BroadcastInDim(fraction, shape.dim_sizes(), outer);
}

// What is rounded at random: the noise's scalars, both U32, and by `element`
// [...] each number of an element in its table.
struct Noise {
  XlaOp seed, step, element;
};

// The bits of `Hash` in lion.h.
XlaOp Hash(const Noise& noise) {
  XlaBuilder* b = noise.element.builder();
  const auto number = [&](uint32_t x) { return xla::ConstantR0(b, x); };
  const auto high = [&](XlaOp x, uint32_t bits) {
    return xla::ShiftRightLogical(x, number(bits));
  };
  XlaOp x = noise.element + noise.seed * number(0x9E3779B9u);
  x = x * number(0x85EBCA6Bu);
  x = (x ^ high(x, 16) ^ noise.step * number(0xC2B2AE35u)) *
      number(0x7FEB352Du);
  x = (x ^ high(x, 15)) * number(0x846CA68Bu);
  return x ^ high(x, 16);
}

// The F32 `x` in `type`, BF16 or F16, rounded as by `NarrowAtRandom` in lion.h.
XlaOp NarrowAtRandom(XlaOp x, XlaOp noise, PrimitiveType type) {
  XlaBuilder* b = x.builder();
  const auto number = [&](uint32_t n) { return xla::ConstantR0(b, n); };
  const auto low = [&](XlaOp n, uint32_t bits) {
    return xla::ShiftRightLogical(n, number(bits));
  };
  XlaOp bits = xla::BitcastConvertType(x, xla::U32);
  XlaOp rounded;
  if (type == xla::BF16) {
    rounded = low(
        xla::Select(xla::Ne(x, x), bits | number(0x400000u), bits + noise), 16);
  } else {
    XlaOp size = bits & number(0x7FFFFFFFu);
    XlaOp special = xla::Select(xla::Ne(x, x), xla::FullLike(size, 0x7E00),
                                xla::FullLike(size, 0x7C00));
    XlaOp tiny = xla::Lt(size, number(113u << 23));
    XlaOp units = xla::BitcastConvertType(
        xla::Select(tiny, size, xla::ZerosLike(size)), xla::F32);
    XlaOp subnormal = xla::ConvertElementType(
        units * xla::ConstantR0(b, 0x1p24f) +
            xla::ConvertElementType(noise, xla::F32) *
                xla::ConstantR0(b, 0x1p-16f),
        xla::U32);
    XlaOp normal = low(size + low(noise, 3) - number(112u << 23), 13);
    rounded = xla::Select(xla::Ge(size, number(0x477FF000u)), special,
                          xla::Select(tiny, subnormal, normal)) |
              (low(bits, 16) & number(0x8000u));
  }
  return xla::BitcastConvertType(xla::ConvertElementType(rounded, xla::U16),
                                 type);
}

// `later`, but computed after `earlier`, of the same shape and a float. Where
// the result overwrites what `earlier` reads, XLA for CPU copies all of it
// first, unless it sees a dependency; XLA does not see that this one is none.
XlaOp After(XlaOp earlier, XlaOp later) {
  XlaOp always =
      xla::Or(xla::Eq(earlier, earlier), xla::Ne(earlier, earlier));
  return xla::Select(always, later, xla::ZerosLike(later));
}

// One step of the rule, all of the compute type and of `shape`. `cautious`
// rescales over the dimensions from `first` on.
State Step(const State& old, XlaOp grad, const Rates& rates,
           const TensorShape& shape, PrimitiveType compute, bool cautious,
           int first) {
  XlaOp one = xla::One(grad.builder(), compute);
  XlaOp c = rates.beta_1 * old.m + (one - rates.beta_1) * grad;
  XlaOp update = xla::Sign(c);
  if (cautious) {
    XlaOp kept = xla::Gt(update * xla::Sign(grad), xla::ZerosLike(grad));
    XlaOp fraction = Fraction(kept, shape, first, compute);
    XlaOp floor = xla::ScalarLike(fraction, kCautiousFloor);
    // A product, not a select: NaN propagates.
    update = update * (xla::ConvertElementType(kept, compute) /
                       xla::Max(fraction, floor));
  }
  XlaOp var = old.var - rates.lr * (update + rates.weight_decay * old.var);
  return {var, rates.beta_2 * old.m + (one - rates.beta_2) * grad};
}

// All the ops: variables or tensors, dense or rows, momentum decayed or not,
// rows counted or not.
template <bool kResource, bool kSparse, bool kDecayed, bool kCounted = false>
class LionXlaOp : public tensorflow::XlaOpKernel {
 public:
  explicit LionXlaOp(tensorflow::OpKernelConstruction* ctx)
      : XlaOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("T", &var_dtype_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("M", &m_dtype_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("cautious", &cautious_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("stochastic", &stochastic_));
    OP_REQUIRES_OK(ctx,
                   tensorflow::DataTypeToPrimitiveType(var_dtype_, &var_type_));
    OP_REQUIRES_OK(ctx,
                   tensorflow::DataTypeToPrimitiveType(m_dtype_, &m_type_));
    compute_ = ComputeType(var_type_);
    on_cpu_ = ctx->device_type().type_string() ==
              tensorflow::DEVICE_CPU_XLA_JIT;
  }

  void Compile(tensorflow::XlaOpKernelContext* ctx) override {
    State old;
    TensorShape shape, m_shape;
    OP_REQUIRES_OK(ctx, Read(ctx, "var", var_dtype_, &shape, &old.var));
    OP_REQUIRES_OK(ctx, Read(ctx, "m", m_dtype_, &m_shape, &old.m));
    OP_REQUIRES(ctx, m_shape == shape,
                absl::InvalidArgumentError(
                    "m must have the shape of var, " + shape.DebugString() +
                    ". Received: " + m_shape.DebugString()));
    Rates rates;
    OP_REQUIRES_OK(ctx, ReadScalar(ctx, "lr", &rates.lr));
    OP_REQUIRES_OK(ctx, ReadScalar(ctx, "beta_1", &rates.beta_1));
    OP_REQUIRES_OK(ctx, ReadScalar(ctx, "beta_2", &rates.beta_2));
    OP_REQUIRES_OK(ctx, ReadScalar(ctx, "weight_decay", &rates.weight_decay));
    rates.frequency_power = xla::Zero(ctx->builder(), compute_);
    if constexpr (kCounted) {
      OP_REQUIRES_OK(
          ctx, ReadScalar(ctx, "frequency_power", &rates.frequency_power));
    }
    Noise noise;
    OP_REQUIRES_OK(ctx, ReadScalar(ctx, "seed", &noise.seed, xla::U32));
    OP_REQUIRES_OK(ctx, ReadScalar(ctx, "step", &noise.step, xla::U32));

    TensorShape grad_shape = shape;
    if constexpr (kSparse) {
      const TensorShape indices = ctx->InputShape("indices");
      OP_REQUIRES(ctx, indices.dims() == 1,
                  absl::InvalidArgumentError(
                      "indices must be a vector. Received: " +
                      indices.DebugString()));
      OP_REQUIRES(ctx, shape.dims() >= 1,
                  absl::InvalidArgumentError(
                      "var must have rows. Received: a scalar"));
      grad_shape.set_dim(0, indices.dim_size(0));
    }
    const TensorShape received = ctx->InputShape("grad");
    OP_REQUIRES(ctx, received == grad_shape,
                absl::InvalidArgumentError(
                    "grad must have the shape " + grad_shape.DebugString() +
                    ". Received: " + received.DebugString()));

    State next = old;
    if (shape.num_elements() > 0 && grad_shape.num_elements() > 0) {
      XlaOp grad = xla::ConvertElementType(ctx->Input("grad"), compute_);
      if constexpr (kSparse) {
        XlaOp none = xla::ConstantR1<int32_t>(ctx->builder(), {});
        Counters counters = {none, none};
        if constexpr (kDecayed) {
          OP_REQUIRES_OK(ctx, ReadCounter(ctx, "last_step", shape,
                                          &counters.last_step));
        }
        if constexpr (kCounted) {
          OP_REQUIRES_OK(ctx,
                         ReadCounter(ctx, "seen", shape, &counters.seen));
        }
        if (on_cpu_) {
          next = CallCpuKernel(ctx, old, shape, rates, noise, &counters);
        } else {
          next = UpdateRows(ctx, old, shape, grad, grad_shape, rates, noise,
                            &counters);
        }
        if constexpr (kDecayed) {
          OP_REQUIRES_OK(
              ctx, ctx->AssignVariable("last_step", tensorflow::DT_INT32,
                                       counters.last_step));
        }
        if constexpr (kCounted) {
          OP_REQUIRES_OK(ctx,
                         ctx->AssignVariable("seen", tensorflow::DT_INT32,
                                             counters.seen));
        }
      } else {
        noise.element = xla::Reshape(
            xla::Iota(ctx->builder(), xla::U32, shape.num_elements()),
            shape.dim_sizes());
        next = Update(old, grad, rates, shape, noise, /*first=*/0);
      }
    }
    if constexpr (kResource) {
      OP_REQUIRES_OK(ctx, ctx->AssignVariable("var", var_dtype_, next.var));
      OP_REQUIRES_OK(ctx, ctx->AssignVariable("m", m_dtype_, next.m));
    } else {
      ctx->SetOutput(0, next.var);
      ctx->SetOutput(1, next.m);
    }
  }

 private:
  static absl::Status Read(tensorflow::XlaOpKernelContext* ctx,
                           absl::string_view name, DataType dtype,
                           TensorShape* shape, XlaOp* value) {
    if constexpr (kResource) {
      return ctx->ReadVariableInput(name, dtype, shape, value);
    }
    *shape = ctx->InputShape(name);
    *value = ctx->Input(name);
    return absl::OkStatus();
  }

  absl::Status ReadScalar(tensorflow::XlaOpKernelContext* ctx,
                          absl::string_view name, XlaOp* value,
                          PrimitiveType type = xla::PRIMITIVE_TYPE_INVALID)
      const {
    const TensorShape shape = ctx->InputShape(name);
    if (shape.dims() != 0) {
      return absl::InvalidArgumentError(
          std::string(name) +
          " must be a scalar. Received: " + shape.DebugString());
    }
    *value = xla::ConvertElementType(
        ctx->Input(name),
        type == xla::PRIMITIVE_TYPE_INVALID ? compute_ : type);
    return absl::OkStatus();
  }

  State Update(State old, XlaOp grad, const Rates& rates,
               const TensorShape& shape, const Noise& noise, int first) const {
    old.var = xla::ConvertElementType(old.var, compute_);
    old.m = xla::ConvertElementType(old.m, compute_);
    const State next =
        Step(old, grad, rates, shape, compute_, cautious_, first);
    XlaOp var = xla::ConvertElementType(next.var, var_type_);
    XlaOp m = xla::ConvertElementType(next.m, m_type_);
    const auto narrow = [](XlaOp x, XlaOp noise, PrimitiveType type) {
      return NarrowAtRandom(xla::ConvertElementType(x, xla::F32), noise, type);
    };
    const bool half = var_type_ == xla::BF16 || var_type_ == xla::F16;
    if (stochastic_ && half) {
      XlaOp high = xla::ShiftRightLogical(
          Hash(noise), xla::ConstantR0<uint32_t>(grad.builder(), 16));
      var = narrow(next.var, high, var_type_);
    }
    if (m_type_ == xla::BF16) {
      XlaOp low = Hash(noise) &
                  xla::ConstantR0<uint32_t>(grad.builder(), 0xFFFFu);
      m = narrow(next.m, low, m_type_);
    }
    return {var, kResource && on_cpu_ ? After(var, m) : m};
  }

  static absl::Status ReadCounter(tensorflow::XlaOpKernelContext* ctx,
                                  absl::string_view name,
                                  const TensorShape& shape, XlaOp* counter) {
    TensorShape received;
    TF_RETURN_IF_ERROR(ctx->ReadVariableInput(name, tensorflow::DT_INT32,
                                              &received, counter));
    if (received == TensorShape({shape.dim_size(0)})) return absl::OkStatus();
    return absl::InvalidArgumentError(
        std::string(name) + " must have one element per row of var, " +
        shape.DebugString() + ". Received: " + received.DebugString());
  }

  // The row loop of the CPU kernel, by kRowsCall; `counters` become new.
  State CallCpuKernel(tensorflow::XlaOpKernelContext* ctx, const State& old,
                      const TensorShape& shape, const Rates& rates,
                      const Noise& noise, Counters* counters) const {
    XlaBuilder* b = ctx->builder();
    const auto vector = [&](std::vector<XlaOp> scalars, PrimitiveType type) {
      for (XlaOp& x : scalars) {
        x = xla::Reshape(xla::ConvertElementType(x, type), {1});
      }
      return xla::ConcatInDim(b, scalars, 0);
    };
    const std::vector<XlaOp> operands = {
        old.var,
        old.m,
        counters->last_step,
        counters->seen,
        ctx->Input("grad"),
        ctx->Input("indices"),
        vector({rates.lr, rates.beta_1, rates.beta_2, rates.weight_decay,
                rates.frequency_power},
               xla::F64),
        vector({noise.seed, noise.step}, xla::S32)};
    std::vector<xla::Shape> shapes;
    for (XlaOp operand : operands) {
      // With the layout of row after row, which the kernel wants.
      const xla::Shape plain = b->GetShape(operand).value();
      shapes.push_back(xla::ShapeUtil::MakeShapeWithDescendingLayout(
          plain.element_type(), plain.dimensions()));
    }
    constexpr int states = 4;
    std::vector<std::pair<xla::ShapeIndex, std::pair<int64_t, xla::ShapeIndex>>>
        in_place;
    for (int i = 0; i < states; ++i) in_place.push_back({{i}, {i, {}}});
    const auto word = [](bool x) { return x ? "true" : "false"; };
    XlaOp updated = xla::CustomCallWithLayout(
        b, kRowsCall, operands,
        xla::ShapeUtil::MakeTupleShape(
            std::vector<xla::Shape>(shapes.begin(), shapes.begin() + states)),
        shapes,
        std::string("{cautious = ") + word(cautious_) +
            ", stochastic = " + word(stochastic_) + "}",
        /*has_side_effect=*/false, in_place, /*literal=*/nullptr,
        xla::CustomCallSchedule::SCHEDULE_NONE,
        xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    counters->last_step = xla::GetTupleElement(updated, 2);
    counters->seen = xla::GetTupleElement(updated, 3);
    return {xla::GetTupleElement(updated, 0), xla::GetTupleElement(updated, 1)};
  }

  // The same in XLA's own operations; `counters` become new.
  State UpdateRows(tensorflow::XlaOpKernelContext* ctx, const State& old,
                   const TensorShape& shape, XlaOp grad,
                   const TensorShape& grad_shape, Rates rates, Noise noise,
                   Counters* counters) const {
    XlaBuilder* b = ctx->builder();
    const Segments segments = FindSegments(
        ctx->Input("indices"), grad_shape.dim_size(0), shape.dim_size(0));
    const auto gather = [&](XlaOp table, const TensorShape& table_shape) {
      return GatherRows(table, table_shape, segments.rows, /*sorted=*/true);
    };
    const auto replace = [&](XlaOp table, int rank, XlaOp rows,
                             PrimitiveType type) {
      return ScatterRows(table, rank, segments.rows, rows, Replace(b, type),
                         /*distinct=*/true);
    };
    grad = ScatterRows(
        xla::Broadcast(xla::Zero(b, compute_), grad_shape.dim_sizes()),
        shape.dims(), segments.segment,
        GatherRows(grad, grad_shape, segments.order, /*sorted=*/false),
        xla::CreateScalarAddComputation(compute_, b), /*distinct=*/false);
    State rows = {gather(old.var, shape), gather(old.m, shape)};
    const TensorShape counter({shape.dim_size(0)});
    if constexpr (kDecayed) {
      XlaOp step = ctx->Input("step");
      // A counter that was set back must not make the momentum grow.
      XlaOp skipped = xla::Max(step - gather(counters->last_step, counter) -
                                   xla::One(b, xla::S32),
                               xla::Zero(b, xla::S32));
      XlaOp decay = xla::Pow(rates.beta_2,
                             xla::ConvertElementType(skipped, compute_));
      XlaOp steps = xla::Broadcast(step, {grad_shape.dim_size(0)});
      rows.m = xla::Mul(xla::ConvertElementType(rows.m, compute_), decay,
                        /*broadcast_dimensions=*/{0});
      counters->last_step = replace(counters->last_step, 1, steps, xla::S32);
    }
    if constexpr (kCounted) {
      XlaOp one = xla::One(b, xla::S32);
      XlaOp count = gather(counters->seen, counter) + one;
      // A counter that was set back must not make the rate infinite.
      XlaOp factor =
          xla::Pow(xla::ConvertElementType(xla::Max(count, one), compute_),
                   xla::Neg(rates.frequency_power));
      rates.lr = xla::BroadcastInDim(rates.lr * factor,
                                     grad_shape.dim_sizes(), {0});
      counters->seen = replace(counters->seen, 1, count, xla::S32);
    }
    const int64_t n = grad_shape.dim_size(0);
    const int64_t width = grad_shape.num_elements() / n;
    XlaOp start = xla::ConvertElementType(segments.rows, xla::U32) *
                  xla::ConstantR0<uint32_t>(b, width);
    noise.element = xla::Reshape(
        xla::Add(xla::BroadcastInDim(start, {n, width}, {0, 1}),
                 xla::Iota(b, xla::U32, width), {1}),
        grad_shape.dim_sizes());
    rows = Update(rows, grad, rates, grad_shape, noise, /*first=*/1);
    return {replace(old.var, shape.dims(), rows.var, var_type_),
            replace(old.m, shape.dims(), rows.m, m_type_)};
  }

  bool cautious_, stochastic_, on_cpu_;
  DataType var_dtype_, m_dtype_;
  PrimitiveType var_type_, m_type_, compute_;
};

class LionCheckIdsXla : public tensorflow::XlaOpKernel {
 public:
  explicit LionCheckIdsXla(tensorflow::OpKernelConstruction* ctx)
      : XlaOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("rows", &rows_));
    on_cpu_ = ctx->device_type().type_string() ==
              tensorflow::DEVICE_CPU_XLA_JIT;
  }

  void Compile(tensorflow::XlaOpKernelContext* ctx) override {
    XlaOp indices = ctx->Input(0);
    if (on_cpu_ && ctx->InputShape(0).num_elements() > 0) {
      XlaBuilder* b = ctx->builder();
      const xla::Shape shape = b->GetShape(indices).value();
      indices = xla::CustomCall(
          b, kCheckCall, {indices}, shape,
          "{rows = " + std::to_string(rows_) + " : i64}",
          /*has_side_effect=*/false,
          /*output_operand_aliasing=*/{{{}, {0, {}}}}, /*literal=*/nullptr,
          xla::CustomCallSchedule::SCHEDULE_NONE,
          xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    }
    ctx->SetOutput(0, indices);
  }

 private:
  int64_t rows_;
  bool on_cpu_;
};

using ResourceApplyLionXla = LionXlaOp<true, false, false>;
using ResourceSparseApplyLionXla = LionXlaOp<true, true, false>;
using ResourceSparseApplyDecayedLionXla = LionXlaOp<true, true, true>;
using ResourceSparseApplyCountedLionXla = LionXlaOp<true, true, false, true>;
using ResourceSparseApplyDecayedCountedLionXla =
    LionXlaOp<true, true, true, true>;
using LionUpdateXla = LionXlaOp<false, false, false>;
using SparseLionUpdateXla = LionXlaOp<false, true, false>;

// Registered for XLA's devices one by one and not by REGISTER_XLA_OP, whose
// registrations TensorFlow collects once, at the first compilation of the
// process: a library loaded after it would run everywhere but under XLA.
#define REGISTER_LION(NAME)                                               \
  REGISTER_KERNEL_BUILDER(                                                \
      Name(#NAME).Device(tensorflow::DEVICE_CPU_XLA_JIT), NAME##Xla);     \
  REGISTER_KERNEL_BUILDER(                                                \
      Name(#NAME).Device(tensorflow::DEVICE_GPU_XLA_JIT), NAME##Xla);     \
  REGISTER_KERNEL_BUILDER(                                                \
      Name(#NAME).Device(tensorflow::DEVICE_TPU_XLA_JIT), NAME##Xla)

REGISTER_LION(ResourceApplyLion);
REGISTER_LION(ResourceSparseApplyLion);
REGISTER_LION(ResourceSparseApplyDecayedLion);
REGISTER_LION(ResourceSparseApplyCountedLion);
REGISTER_LION(ResourceSparseApplyDecayedCountedLion);
REGISTER_LION(LionUpdate);
REGISTER_LION(SparseLionUpdate);
REGISTER_LION(LionCheckIds);

#undef REGISTER_LION

}  // namespace
}  // namespace lion
