// The CPU kernels: they check, lock and share out; lion_loops.cc computes.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "huge_pages.h"
#include "lion_loops.h"
#include "row_groups.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/lib/core/threadpool.h"
#include "tensorflow/core/platform/denormal.h"
#include "tensorflow/core/util/work_sharder.h"

namespace lion {
namespace {

namespace tf = ::tensorflow;
using tf::OpKernelConstruction;
using tf::OpKernelContext;
using tf::Tensor;
using tf::TensorShape;
using tf::errors::FailedPrecondition;
using tf::errors::InvalidArgument;

constexpr int64_t kCyclesPerElement = 8;
constexpr int64_t kCyclesPerPart = 400 * 4096;

Type ToType(tf::DataType dtype) {
  switch (dtype) {
    case tf::DT_FLOAT:
      return Type::kFloat32;
    case tf::DT_DOUBLE:
      return Type::kFloat64;
    case tf::DT_BFLOAT16:
      return Type::kBFloat16;
    default:
      return Type::kFloat16;
  }
}

absl::Status CheckShape(const char* name, const TensorShape& received,
                        const TensorShape& accepted) {
  if (received == accepted) return absl::OkStatus();
  return InvalidArgument("`", name, "` must have the shape ",
                         accepted.DebugString(),
                         ". Received: ", received.DebugString());
}

// Reads the scalar `name`, float or double.
absl::Status ReadScalar(OpKernelContext* ctx, const char* name, double* out) {
  const Tensor* tensor;
  TF_RETURN_IF_ERROR(ctx->input(name, &tensor));
  TF_RETURN_IF_ERROR(CheckShape(name, tensor->shape(), TensorShape({})));
  *out = tensor->dtype() == tf::DT_DOUBLE
             ? tensor->scalar<double>()()
             : static_cast<double>(tensor->scalar<float>()());
  return absl::OkStatus();
}

// Reads the int32 scalar `name`.
absl::Status ReadCount(OpKernelContext* ctx, const char* name, uint32_t* out) {
  const Tensor* tensor;
  TF_RETURN_IF_ERROR(ctx->input(name, &tensor));
  TF_RETURN_IF_ERROR(CheckShape(name, tensor->shape(), TensorShape({})));
  *out = static_cast<uint32_t>(tensor->scalar<int32_t>()());
  return absl::OkStatus();
}

// The variables of one update, all locked as long as this object lives.
//
// The lock is exclusive, also for sparse updates: what a reader may hold
// without it is a reference to the buffer, which then is copied before it is
// written to. So, unlike TensorFlow's own sparse updates, these never switch
// a variable to copy-on-read mode, in which every read of it (such as that of
// Keras's Embedding) would copy the table; and dense updates of a variable in
// that mode need no copy.
class LockedVariables {
 public:
  struct Request {
    int input;
    const char* name;
    tf::DataType dtype;
  };

  absl::Status Lock(OpKernelContext* ctx,
                    const std::vector<Request>& requests) {
    std::vector<tf::mutex*> mutexes;
    for (const Request& request : requests) {
      tf::core::RefCountPtr<tf::Var> var;
      const absl::Status status = tf::LookupResource(
          ctx, tf::HandleFromInput(ctx, request.input), &var);
      if (!status.ok()) {
        return FailedPrecondition("`", request.name,
                                  "` must be an initialized variable on the "
                                  "device of the update. Received: ",
                                  status.message());
      }
      for (const auto& other : vars_) {
        if (other.get() == var.get()) {
          return InvalidArgument("`", request.name,
                                 "` must be another variable than the others. "
                                 "Received: the same one twice");
        }
      }
      mutexes.push_back(var->mu());
      vars_.push_back(std::move(var));
    }
    std::sort(mutexes.begin(), mutexes.end());
    locks_.reserve(mutexes.size());
    for (tf::mutex* mutex : mutexes) locks_.emplace_back(*mutex);
    for (size_t i = 0; i < requests.size(); ++i) {
      const Request& request = requests[i];
      const Tensor& tensor = *vars_[i]->tensor();
      if (!vars_[i]->is_initialized || !tensor.IsInitialized()) {
        return FailedPrecondition("`", request.name,
                                  "` must be an initialized variable. "
                                  "Received: one without a value");
      }
      if (tensor.dtype() != request.dtype) {
        return InvalidArgument("`", request.name, "` must be of dtype ",
                               tf::DataTypeString(request.dtype),
                               ". Received: ",
                               tf::DataTypeString(tensor.dtype()));
      }
    }
    return absl::OkStatus();
  }

  const TensorShape& shape(int i) const { return vars_[i]->tensor()->shape(); }

  // Gives every variable a buffer of its own: a copy where a reader still
  // holds the present one.
  absl::Status MakeWritable(OpKernelContext* ctx, HugePages* huge_pages) {
    for (auto& var : vars_) {
      Tensor* tensor = var->tensor();
      if (tensor->RefCountIsOne()) {
        huge_pages->Use(tensor->data(), tensor->TotalBytes());
        continue;
      }
      Tensor copy;
      tf::AllocatorAttributes attributes;
      attributes.set_gpu_compatible(true);
      attributes.set_nic_compatible(true);
      TF_RETURN_IF_ERROR(ctx->allocate_temp(tensor->dtype(), tensor->shape(),
                                            &copy, attributes));
      std::memcpy(copy.data(), tensor->data(), tensor->TotalBytes());
      *tensor = copy;
    }
    return absl::OkStatus();
  }

  void* data(int i) { return vars_[i]->tensor()->data(); }

 private:
  std::vector<tf::core::RefCountPtr<tf::Var>> vars_;
  std::vector<tf::mutex_lock> locks_;  // released before the variables are
};

// What all of the kernels have: attributes, the rule, the dtypes' loops.
class LionKernel : public tf::OpKernel {
 public:
  explicit LionKernel(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("T", &var_dtype_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("M", &m_dtype_));
    tf::DataType grad;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("G", &grad));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("cautious", &cautious_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("stochastic", &stochastic_));
    tf::DataType scalars;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("S", &scalars));
    const tf::DataType accepted =
        var_dtype_ == tf::DT_DOUBLE ? tf::DT_DOUBLE : tf::DT_FLOAT;
    OP_REQUIRES(ctx, scalars == accepted,
                InvalidArgument("`lr`, `beta_1`, `beta_2` and `weight_decay` "
                                "must be of dtype ",
                                tf::DataTypeString(accepted), " for `var` of ",
                                tf::DataTypeString(var_dtype_), ". Received: ",
                                tf::DataTypeString(scalars)));
    OP_REQUIRES(ctx, grad == var_dtype_ || grad == accepted,
                InvalidArgument("`grad` must be of dtype ",
                                tf::DataTypeString(var_dtype_), " or ",
                                tf::DataTypeString(accepted), " for `var` of ",
                                tf::DataTypeString(var_dtype_), ". Received: ",
                                tf::DataTypeString(grad)));
    loops_ = GetLoops(ToType(var_dtype_), ToType(m_dtype_), ToType(grad));
  }

 protected:
  absl::Status ReadRule(OpKernelContext* ctx, Rule* rule) const {
    TF_RETURN_IF_ERROR(ReadScalar(ctx, "lr", &rule->lr));
    TF_RETURN_IF_ERROR(ReadScalar(ctx, "beta_1", &rule->beta_1));
    TF_RETURN_IF_ERROR(ReadScalar(ctx, "beta_2", &rule->beta_2));
    TF_RETURN_IF_ERROR(ReadScalar(ctx, "weight_decay", &rule->weight_decay));
    rule->frequency_power = 0;
    TF_RETURN_IF_ERROR(ReadCount(ctx, "seed", &rule->seed));
    TF_RETURN_IF_ERROR(ReadCount(ctx, "step", &rule->step));
    rule->cautious = cautious_;
    rule->stochastic = stochastic_;
    return absl::OkStatus();
  }

  // One step of all elements. Outputs may be the inputs.
  void UpdateAll(OpKernelContext* ctx, const Rule& rule, const void* var,
                 const void* m, const Tensor& grad, void* var_out,
                 void* m_out) const {
    const int64_t n = grad.NumElements();
    const void* g = grad.data();
    double scale = 1;
    if (rule.cautious && n > 0) {
      std::atomic<int64_t> kept{0};
      Share(ctx, n, kCyclesPerElement, [&](int64_t begin, int64_t end) {
        kept += loops_.count_kept(rule, m, g, begin, end);
      });
      scale = var_dtype_ == tf::DT_DOUBLE ? CautiousScale<double>(kept, n)
                                          : CautiousScale<float>(kept, n);
    }
    Share(ctx, n, kCyclesPerElement, [&](int64_t begin, int64_t end) {
      loops_.update(rule, scale, var, m, g, var_out, m_out, begin, end);
    });
  }

  // Checks `grad` [n, ...] and `indices` [n] against a table of `shape`.
  static absl::Status CheckRows(const Tensor& grad, const Tensor& indices,
                                const TensorShape& shape) {
    if (shape.dims() < 1) {
      return InvalidArgument("`var` must have at least one dimension. ",
                             "Received: ", shape.DebugString());
    }
    if (indices.dims() != 1) {
      return InvalidArgument("`indices` must be a vector. Received: ",
                             indices.shape().DebugString());
    }
    if (indices.NumElements() > std::numeric_limits<int32_t>::max()) {
      return InvalidArgument("`indices` must be fewer than 2^31. Received: ",
                             indices.NumElements());
    }
    TensorShape rows = shape;
    rows.set_dim(0, indices.NumElements());
    return CheckShape("grad", grad.shape(), rows);
  }

  // Fails if one of `indices` is not in [0, rows).
  static absl::Status CheckIds(const Tensor& indices, int64_t rows) {
    const std::string problem = ToIds(indices, rows).Problem();
    return problem.empty() ? absl::OkStatus() : InvalidArgument(problem);
  }

  // One step of the rows `indices`, in place; they are n > 0 and checked.
  void UpdateRows(OpKernelContext* ctx, const Rule& rule, const Table& table,
                  const Tensor& indices, int64_t rows) const {
    const Ids ids = ToIds(indices, rows);
    const int64_t parts = ids.Parts(Workers(ctx).num_threads);
    Share(ctx, parts, kCyclesPerPart, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        ids.Update(loops_, rule, table, part, parts);
      }
    });
  }

  tf::DataType var_dtype_, m_dtype_;
  HugePages huge_pages_;

 private:
  static Ids ToIds(const Tensor& indices, int64_t rows) {
    return Ids(indices.data(), indices.dtype() == tf::DT_INT64,
               indices.NumElements(), rows);
  }

  static const tf::DeviceBase::CpuWorkerThreads& Workers(
      OpKernelContext* ctx) {
    return *ctx->device()->tensorflow_cpu_worker_threads();
  }

  // Calls `work(begin, end)` on TensorFlow's threads. TensorFlow's pool
  // flushes subnormals and the thread that calls an op does not: here all do,
  // lest a result depend on the thread.
  template <typename Work>
  static void Share(OpKernelContext* ctx, int64_t total, int64_t cycles,
                    const Work& work) {
    const auto& workers = Workers(ctx);
    tf::Shard(workers.num_threads, workers.workers, total, cycles,
              [&work](int64_t begin, int64_t end) {
                tf::port::ScopedFlushDenormal flush;
                work(begin, end);
              });
  }

  bool cautious_, stochastic_;
  Loops loops_;
};

class ResourceApplyLionOp : public LionKernel {
 public:
  using LionKernel::LionKernel;

  void Compute(OpKernelContext* ctx) override {
    Rule rule;
    OP_REQUIRES_OK(ctx, ReadRule(ctx, &rule));
    const Tensor* grad;
    OP_REQUIRES_OK(ctx, ctx->input("grad", &grad));
    LockedVariables variables;
    OP_REQUIRES_OK(ctx, variables.Lock(ctx, {{0, "var", var_dtype_},
                                             {1, "m", m_dtype_}}));
    OP_REQUIRES_OK(ctx,
                   CheckShape("m", variables.shape(1), variables.shape(0)));
    OP_REQUIRES_OK(ctx, CheckShape("grad", grad->shape(), variables.shape(0)));
    OP_REQUIRES_OK(ctx, variables.MakeWritable(ctx, &huge_pages_));
    void* var = variables.data(0);
    void* m = variables.data(1);
    UpdateAll(ctx, rule, var, m, *grad, var, m);
  }
};

// Of rows: with momentum decayed or not, with rows counted or not.
template <bool decayed, bool counted>
class ResourceSparseApplyLionOp : public LionKernel {
 public:
  using LionKernel::LionKernel;

  void Compute(OpKernelContext* ctx) override {
    Rule rule;
    OP_REQUIRES_OK(ctx, ReadRule(ctx, &rule));
    if (counted) {
      OP_REQUIRES_OK(ctx, ReadScalar(ctx, "frequency_power",
                                     &rule.frequency_power));
    }
    const Tensor* grad;
    const Tensor* indices;
    OP_REQUIRES_OK(ctx, ctx->input("grad", &grad));
    OP_REQUIRES_OK(ctx, ctx->input("indices", &indices));
    std::vector<LockedVariables::Request> requests = {{0, "var", var_dtype_},
                                                      {1, "m", m_dtype_}};
    if (decayed) requests.push_back({2, "last_step", tf::DT_INT32});
    const int seen = static_cast<int>(requests.size());
    if (counted) requests.push_back({seen, "seen", tf::DT_INT32});
    LockedVariables variables;
    OP_REQUIRES_OK(ctx, variables.Lock(ctx, requests));
    const TensorShape shape = variables.shape(0);
    OP_REQUIRES_OK(ctx, CheckShape("m", variables.shape(1), shape));
    OP_REQUIRES_OK(ctx, CheckRows(*grad, *indices, shape));
    for (int i = 2; i < static_cast<int>(requests.size()); ++i) {
      OP_REQUIRES_OK(ctx, CheckShape(requests[i].name, variables.shape(i),
                                     TensorShape({shape.dim_size(0)})));
    }
    OP_REQUIRES_OK(ctx, CheckIds(*indices, shape.dim_size(0)));
    if (indices->NumElements() == 0) return;
    OP_REQUIRES_OK(ctx, variables.MakeWritable(ctx, &huge_pages_));
    const int64_t width = grad->NumElements() / indices->NumElements();
    const auto counts = [&](bool there, int i) {
      return there ? static_cast<int32_t*>(variables.data(i)) : nullptr;
    };
    UpdateRows(ctx, rule,
               {variables.data(0), variables.data(1), grad->data(), width,
                counts(decayed, 2), static_cast<int32_t>(rule.step),
                counts(counted, seen)},
               *indices, shape.dim_size(0));
  }
};

class LionUpdateOp : public LionKernel {
 public:
  using LionKernel::LionKernel;

  void Compute(OpKernelContext* ctx) override {
    Rule rule;
    OP_REQUIRES_OK(ctx, ReadRule(ctx, &rule));
    const TensorShape shape = ctx->input(0).shape();
    const Tensor* grad;
    OP_REQUIRES_OK(ctx, ctx->input("grad", &grad));
    OP_REQUIRES_OK(ctx, CheckShape("m", ctx->input(1).shape(), shape));
    OP_REQUIRES_OK(ctx, CheckShape("grad", grad->shape(), shape));
    const void* var = ctx->input(0).data();
    const void* m = ctx->input(1).data();
    Tensor* var_out;
    Tensor* m_out;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output(
                            {0}, 0, shape, &var_out));
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output(
                            {1}, 1, shape, &m_out));
    UpdateAll(ctx, rule, var, m, *grad, var_out->data(), m_out->data());
  }
};

class SparseLionUpdateOp : public LionKernel {
 public:
  using LionKernel::LionKernel;

  void Compute(OpKernelContext* ctx) override {
    Rule rule;
    OP_REQUIRES_OK(ctx, ReadRule(ctx, &rule));
    const TensorShape shape = ctx->input(0).shape();
    const Tensor* grad;
    const Tensor* indices;
    OP_REQUIRES_OK(ctx, ctx->input("grad", &grad));
    OP_REQUIRES_OK(ctx, ctx->input("indices", &indices));
    OP_REQUIRES_OK(ctx, CheckShape("m", ctx->input(1).shape(), shape));
    OP_REQUIRES_OK(ctx, CheckRows(*grad, *indices, shape));
    OP_REQUIRES_OK(ctx, CheckIds(*indices, shape.dim_size(0)));
    void* out[2];
    for (int i = 0; i < 2; ++i) {
      const void* in = ctx->input(i).data();
      const size_t bytes = ctx->input(i).TotalBytes();
      Tensor* output;
      OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output(
                              {i}, i, shape, &output));
      out[i] = output->data();
      if (out[i] != in) std::memcpy(out[i], in, bytes);
    }
    if (indices->NumElements() == 0) return;
    const int64_t width = grad->NumElements() / indices->NumElements();
    UpdateRows(ctx, rule, {out[0], out[1], grad->data(), width, nullptr, 0,
                nullptr},
               *indices, shape.dim_size(0));
  }
};

class LionCheckIdsOp : public tf::OpKernel {
 public:
  explicit LionCheckIdsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("rows", &rows_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor& indices = ctx->input(0);
    const std::string problem =
        Ids(indices.data(), indices.dtype() == tf::DT_INT64,
            indices.NumElements(), rows_)
            .Problem();
    OP_REQUIRES(ctx, problem.empty(), InvalidArgument(problem));
    ctx->set_output(0, indices);
  }

 private:
  int64_t rows_;
};

REGISTER_KERNEL_BUILDER(
    Name("LionCheckIds").Device(tf::DEVICE_CPU),
    LionCheckIdsOp);
REGISTER_KERNEL_BUILDER(
    Name("ResourceApplyLion").Device(tf::DEVICE_CPU),
    ResourceApplyLionOp);
REGISTER_KERNEL_BUILDER(
    Name("ResourceSparseApplyLion").Device(tf::DEVICE_CPU),
    ResourceSparseApplyLionOp<false, false>);
REGISTER_KERNEL_BUILDER(
    Name("ResourceSparseApplyDecayedLion").Device(tf::DEVICE_CPU),
    ResourceSparseApplyLionOp<true, false>);
REGISTER_KERNEL_BUILDER(
    Name("ResourceSparseApplyCountedLion").Device(tf::DEVICE_CPU),
    ResourceSparseApplyLionOp<false, true>);
REGISTER_KERNEL_BUILDER(
    Name("ResourceSparseApplyDecayedCountedLion").Device(tf::DEVICE_CPU),
    ResourceSparseApplyLionOp<true, true>);
REGISTER_KERNEL_BUILDER(
    Name("LionUpdate").Device(tf::DEVICE_CPU),
    LionUpdateOp);
REGISTER_KERNEL_BUILDER(
    Name("SparseLionUpdate").Device(tf::DEVICE_CPU),
    SparseLionUpdateOp);

}  // namespace
}  // namespace lion
