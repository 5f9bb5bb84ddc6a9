// The CPU kernel's row loop as a custom call of XLA for CPU: what the sparse
// ops are lowered to there. The same bits, in place, at the same price, and an
// error for ids outside the table. Beside it the check of ids alone.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>

#include "lion_loops.h"
#include "lion_rows_call.h"
#include "row_groups.h"
#include "tensorflow/core/platform/denormal.h"
#include "xla/ffi/api/ffi.h"

namespace lion {
namespace {

namespace ffi = ::xla::ffi;

Type ToType(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F32:
      return Type::kFloat32;
    case ffi::DataType::F64:
      return Type::kFloat64;
    case ffi::DataType::BF16:
      return Type::kBFloat16;
    default:
      return Type::kFloat16;
  }
}

// Parts of one update, taken by any thread that is free: the caller does what
// the pool does not get to, so that a pool full of waiting callers goes on.
class Parts {
 public:
  Parts(const Loops& loops, const Rule& rule, const Table& table,
        const Ids& ids, int64_t parts)
      : loops_(loops), rule_(rule), table_(table), ids_(ids), parts_(parts) {}

  void Work() {
    tensorflow::port::ScopedFlushDenormal flush;
    for (int64_t part = next_++; part < parts_; part = next_++) {
      ids_.Update(loops_, rule_, table_, part, parts_);
      std::lock_guard<std::mutex> lock(mutex_);
      if (++done_ == parts_) all_done_.notify_one();
    }
  }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    all_done_.wait(lock, [this] { return done_ == parts_; });
  }

 private:
  const Loops loops_;
  const Rule rule_;
  const Table table_;
  const Ids ids_;
  const int64_t parts_;
  std::atomic<int64_t> next_{0};
  int64_t done_ = 0;
  std::mutex mutex_;
  std::condition_variable all_done_;
};

// XLA gives a result the memory of its operand, or of a copy if it must.
void* InPlace(const ffi::AnyBuffer& operand, const ffi::AnyBuffer& result) {
  if (operand.untyped_data() != result.untyped_data()) {
    std::memcpy(result.untyped_data(), operand.untyped_data(),
                operand.size_bytes());
  }
  return result.untyped_data();
}

ffi::Error UpdateRows(ffi::ThreadPool pool, ffi::AnyBuffer var,
                      ffi::AnyBuffer m, ffi::AnyBuffer last_step,
                      ffi::AnyBuffer seen, ffi::AnyBuffer grad,
                      ffi::AnyBuffer indices, ffi::AnyBuffer rates,
                      ffi::AnyBuffer counts, ffi::RemainingRets results,
                      bool cautious, bool stochastic) {
  const int64_t rows = var.dimensions()[0];
  const auto n = static_cast<int64_t>(indices.element_count());
  const Ids ids(indices.untyped_data(),
                indices.element_type() == ffi::DataType::S64, n, rows);
  const std::string problem = ids.Problem();
  if (!problem.empty()) return ffi::Error::InvalidArgument(problem);

  const double* rate = rates.typed_data<double>();
  const int32_t* count = counts.typed_data<int32_t>();
  Rule rule;
  rule.lr = rate[0];
  rule.beta_1 = rate[1];
  rule.beta_2 = rate[2];
  rule.weight_decay = rate[3];
  rule.frequency_power = rate[4];
  rule.seed = static_cast<uint32_t>(count[0]);
  rule.step = static_cast<uint32_t>(count[1]);
  rule.cautious = cautious;
  rule.stochastic = stochastic;

  Table table;
  table.var = InPlace(var, **results.get<ffi::AnyBuffer>(0));
  table.m = InPlace(m, **results.get<ffi::AnyBuffer>(1));
  const auto counters = [&](const ffi::AnyBuffer& operand, size_t i) {
    return operand.element_count() == 0
               ? nullptr
               : static_cast<int32_t*>(
                     InPlace(operand, **results.get<ffi::AnyBuffer>(i)));
  };
  table.last_step = counters(last_step, 2);
  table.seen = counters(seen, 3);
  table.grad = grad.untyped_data();
  table.width = static_cast<int64_t>(grad.element_count()) / n;
  table.step = count[1];

  const int64_t threads = std::max<int64_t>(pool.num_threads(), 1);
  const int64_t parts = ids.Parts(threads);
  const Loops loops =
      GetLoops(ToType(var.element_type()), ToType(m.element_type()),
               ToType(grad.element_type()));
  auto work = std::make_shared<Parts>(loops, rule, table, ids, parts);
  for (int64_t i = 1; i < parts; ++i) {
    pool.Schedule([work] { work->Work(); });
  }
  work->Work();
  work->Wait();
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER(kUpdateRows, UpdateRows,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::ThreadPool>()
                           .Arg<ffi::AnyBuffer>()
                           .Arg<ffi::AnyBuffer>()
                           .Arg<ffi::AnyBuffer>()
                           .Arg<ffi::AnyBuffer>()
                           .Arg<ffi::AnyBuffer>()
                           .Arg<ffi::AnyBuffer>()
                           .Arg<ffi::AnyBuffer>()
                           .Arg<ffi::AnyBuffer>()
                           .RemainingRets()
                           .Attr<bool>("cautious")
                           .Attr<bool>("stochastic"));

ffi::Error CheckIds(ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> result,
                    int64_t rows) {
  const std::string problem =
      Ids(indices.untyped_data(), indices.element_type() == ffi::DataType::S64,
          static_cast<int64_t>(indices.element_count()), rows)
          .Problem();
  if (!problem.empty()) return ffi::Error::InvalidArgument(problem);
  InPlace(indices, *result);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER(kCheckIds, CheckIds,
                       ffi::Ffi::Bind()
                           .Arg<ffi::AnyBuffer>()
                           .Ret<ffi::AnyBuffer>()
                           .Attr<int64_t>("rows"));

[[maybe_unused]] const XLA_FFI_Error* const registered[] = {
    ffi::Ffi::RegisterStaticHandler(XLA_FFI_GetApi(), kRowsCall, "Host",
                                    kUpdateRows),
    ffi::Ffi::RegisterStaticHandler(XLA_FFI_GetApi(), kCheckCall, "Host",
                                    kCheckIds)};

}  // namespace
}  // namespace lion
