// Each loop once per instruction set; no intrinsics, the compiler vectorizes.

#include "lion_loops.h"

#include <cmath>
#include <memory>

namespace lion {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kPrefetchedBytes = 256;  // of a row, at most
constexpr int64_t kUsualWidth = 16;        // one vector of float32
constexpr int64_t kOnStack = 256;          // elements of a row's sum

template <bool write>
LION_INLINE void PrefetchRow(const void* start, int64_t bytes) {
  const int64_t end = bytes < kPrefetchedBytes ? bytes : kPrefetchedBytes;
  for (int64_t at = 0; at < end; at += kCacheLine) {
    __builtin_prefetch(static_cast<const char*>(start) + at, write, 3);
  }
}

// `Update` with what is constant in a loop taken out of it.
template <typename T, typename M, typename G, typename C = Compute<T>>
LION_INLINE void UpdateSpan(const Rule& rule, C lr, C decay, C scale,
                            const T* var, const M* m, const G* grad, T* var_out, M* m_out,
                            int64_t n, uint32_t element) {
  if (kHalf<T> && rule.stochastic) {
    if (rule.cautious) {
      Update<true, true, T, M, G>(rule, lr, decay, scale, var, m, grad, var_out,
                                  m_out, n, element);
    } else {
      Update<false, true, T, M, G>(rule, lr, decay, scale, var, m, grad, var_out,
                                   m_out, n, element);
    }
  } else if (rule.cautious) {
    Update<true, false, T, M, G>(rule, lr, decay, scale, var, m, grad, var_out,
                                 m_out, n, element);
  } else {
    Update<false, false, T, M, G>(rule, lr, decay, scale, var, m, grad, var_out,
                                  m_out, n, element);
  }
}

template <typename T, typename M, typename G>
LION_INLINE void UpdateLoop(const Rule& rule, double scale, const void* var,
                            const void* m, const void* grad, void* var_out,
                            void* m_out, int64_t begin, int64_t end) {
  using C = Compute<T>;
  const auto element = static_cast<uint32_t>(begin);
  const T* var_in = static_cast<const T*>(var) + begin;
  const M* m_in = static_cast<const M*>(m) + begin;
  const G* g = static_cast<const G*>(grad) + begin;
  T* to_var = static_cast<T*>(var_out) + begin;
  M* to_m = static_cast<M*>(m_out) + begin;
  UpdateSpan<T, M, G>(rule, static_cast<C>(rule.lr), C(1),
                      static_cast<C>(scale), var_in, m_in, g, to_var, to_m,
                      end - begin, element);
}

template <typename M, typename G>
LION_INLINE int64_t CountLoop(const Rule& rule, const void* m,
                              const void* grad, int64_t begin, int64_t end) {
  return CountKept<M, G>(rule, Compute<G>(1), static_cast<const M*>(m) + begin,
                         static_cast<const G*>(grad) + begin, end - begin);
}

// beta_2^k for the k steps that a row sat out. A counter that was set back
// must not make the momentum grow.
template <typename C>
LION_INLINE C Decay(double beta_2, int32_t step, int32_t last_step) {
  const int64_t skipped = static_cast<int64_t>(step) - last_step - 1;
  if (skipped <= 0) return 1;
  return std::pow(static_cast<C>(beta_2), static_cast<C>(skipped));
}

// The rate's factor in the update number `count` of a row. A counter that was
// set back must not make the rate infinite.
template <typename C>
LION_INLINE C Frequency(double power, int32_t count) {
  if (count <= 1) return 1;
  // In double: libraries differ in the last bit of a float's power.
  return static_cast<C>(std::pow(static_cast<double>(count), -power));
}

// `width` is the table's, apart because the compiler may know it.
template <typename T, typename M, typename G>
LION_INLINE void RowsLoop(const Rule& rule, const Table& table, int64_t width,
                          const RowEntries& batch) {
  using C = Compute<T>;
  T* const all_var = static_cast<T*>(table.var);
  M* const all_m = static_cast<M*>(table.m);
  const G* const grad = static_cast<const G*>(table.grad);
  C on_stack[kOnStack];
  std::unique_ptr<C[]> on_heap(width > kOnStack ? new C[width] : nullptr);
  C* const sum = width > kOnStack ? on_heap.get() : on_stack;

  const int shift = batch.position_bits;
  const uint64_t positions = (uint64_t{1} << shift) - 1;
  const uint64_t* const end = batch.entries + batch.count;
  for (const uint64_t* entry = batch.entries; entry < end;) {
    const auto row = static_cast<int64_t>(*entry >> shift);
    for (bool first = true; entry < end && *entry >> shift == row; ++entry) {
      const uint64_t ahead = entry[kEntriesAhead];
      const auto next = static_cast<int64_t>(ahead >> shift);
      PrefetchRow<false>(grad + (ahead & positions) * width,
                         width * sizeof(G));
      PrefetchRow<true>(all_var + next * width, width * sizeof(T));
      PrefetchRow<true>(all_m + next * width, width * sizeof(M));
      if (table.last_step != nullptr) {
        __builtin_prefetch(table.last_step + next, 1, 3);
      }
      if (table.seen != nullptr) __builtin_prefetch(table.seen + next, 1, 3);
      const G* g = grad + (*entry & positions) * width;
      if (first) {
        LION_INDEPENDENT
        for (int64_t j = 0; j < width; ++j) sum[j] = Widen(g[j]);
      } else {
        LION_INDEPENDENT
        for (int64_t j = 0; j < width; ++j) sum[j] += Widen(g[j]);
      }
      first = false;
    }
    C decay = 1;
    if (table.last_step != nullptr) {
      decay = Decay<C>(rule.beta_2, table.step, table.last_step[row]);
      table.last_step[row] = table.step;
    }
    C lr = static_cast<C>(rule.lr);
    if (table.seen != nullptr) {
      lr *= Frequency<C>(rule.frequency_power, ++table.seen[row]);
    }
    T* const var = all_var + row * width;
    M* const m = all_m + row * width;
    const auto element = static_cast<uint32_t>(row * width);
    C scale = 1;
    if (rule.cautious) {
      scale = CautiousScale<C>(
          CountKept<M, C, C>(rule, decay, m, sum, width), width);
    }
    UpdateSpan<T, M, C>(rule, lr, decay, scale, var, m, sum, var, m, width,
                        element);
  }
}

#define LION_LOOPS(Name, target)                                             \
  template <typename T, typename M, typename G>                              \
  struct Name {                                                              \
    target static void Dense(const Rule& rule, double scale,                 \
                             const void* var, const void* m,                 \
                             const void* grad, void* var_out, void* m_out,   \
                             int64_t begin, int64_t end) {                   \
      UpdateLoop<T, M, G>(rule, scale, var, m, grad, var_out, m_out, begin,  \
                          end);                                              \
    }                                                                        \
    target static int64_t Count(const Rule& rule, const void* m,             \
                                const void* grad, int64_t begin,             \
                                int64_t end) {                               \
      return CountLoop<M, G>(rule, m, grad, begin, end);                     \
    }                                                                        \
    target static void Rows(const Rule& rule, const Table& table,            \
                            const RowEntries& batch) {                       \
      if (table.width == kUsualWidth) {                                      \
        RowsLoop<T, M, G>(rule, table, kUsualWidth, batch);                  \
      } else {                                                               \
        RowsLoop<T, M, G>(rule, table, table.width, batch);                  \
      }                                                                      \
    }                                                                        \
    static Loops Get() { return {Dense, Count, Rows}; }                      \
  };

LION_LOOPS(Baseline, )
#if defined(__x86_64__)
LION_LOOPS(Avx2, __attribute__((target("avx2"))))
LION_LOOPS(Avx512,
           __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl,"
                                 "prefer-vector-width=512"))))
#endif

template <typename T, typename M, typename G>
Loops ForProcessor() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return Avx512<T, M, G>::Get();
  }
  if (__builtin_cpu_supports("avx2")) return Avx2<T, M, G>::Get();
#endif
  return Baseline<T, M, G>::Get();
}

template <typename T, typename G>
Loops ForMomentum(Type m) {
  switch (m) {
    case Type::kFloat32:
      return ForProcessor<T, float, G>();
    case Type::kFloat64:
      return ForProcessor<T, double, G>();
    case Type::kBFloat16:
      return ForProcessor<T, BFloat16, G>();
    default:
      return ForProcessor<T, Float16, G>();
  }
}

template <typename T>
Loops ForGradient(Type m, bool wide) {
  return wide ? ForMomentum<T, Compute<T>>(m) : ForMomentum<T, T>(m);
}

}  // namespace

Loops GetLoops(Type var, Type m, Type grad) {
  const bool wide = grad != var;
  switch (var) {
    case Type::kFloat32:
      return ForGradient<float>(m, wide);
    case Type::kFloat64:
      return ForGradient<double>(m, wide);
    case Type::kBFloat16:
      return ForGradient<BFloat16>(m, wide);
    default:
      return ForGradient<Float16>(m, wide);
  }
}

}  // namespace lion
