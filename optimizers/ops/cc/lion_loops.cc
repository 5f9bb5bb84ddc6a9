// Each loop once per instruction set; no intrinsics, the compiler vectorizes.

#include "lion_loops.h"

#include <cmath>
#include <memory>

namespace lion {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kRowsAhead = 16;  // prefetched before their turn
constexpr int64_t kGradientsAhead = 16;
constexpr int64_t kPrefetchedBytes = 512;  // of a row, at most
constexpr int64_t kOnStack = 256;          // elements of a row's sum

template <bool write>
LION_INLINE void PrefetchRow(const void* start, int64_t bytes) {
  const int64_t end = bytes < kPrefetchedBytes ? bytes : kPrefetchedBytes;
  for (int64_t at = 0; at < end; at += kCacheLine) {
    __builtin_prefetch(static_cast<const char*>(start) + at, write, 3);
  }
}

template <typename T, typename M>
LION_INLINE void UpdateLoop(const Rule& rule, double scale, const void* var,
                            const void* m, const void* grad, void* var_out,
                            void* m_out, int64_t begin, int64_t end) {
  using C = Compute<T>;
  const auto element = static_cast<uint32_t>(begin);
  const T* var_in = static_cast<const T*>(var) + begin;
  const M* m_in = static_cast<const M*>(m) + begin;
  const T* g = static_cast<const T*>(grad) + begin;
  T* to_var = static_cast<T*>(var_out) + begin;
  M* to_m = static_cast<M*>(m_out) + begin;
  if (rule.cautious) {
    Update<true, T, M, T>(rule, C(1), static_cast<C>(scale), var_in, m_in, g,
                          to_var, to_m, end - begin, element);
  } else {
    Update<false, T, M, T>(rule, C(1), C(1), var_in, m_in, g, to_var, to_m,
                           end - begin, element);
  }
}

template <typename T, typename M>
LION_INLINE int64_t CountLoop(const Rule& rule, const void* m,
                              const void* grad, int64_t begin, int64_t end) {
  return CountKept<M, T, Compute<T>>(
      rule, Compute<T>(1), static_cast<const M*>(m) + begin,
      static_cast<const T*>(grad) + begin, end - begin);
}

template <typename T, typename M>
LION_INLINE void RowsLoop(const Rule& rule, const Table& table,
                          const RowGroups& groups) {
  using C = Compute<T>;
  const int64_t width = table.width;
  T* const all_var = static_cast<T*>(table.var);
  M* const all_m = static_cast<M*>(table.m);
  const T* const grad = static_cast<const T*>(table.grad);
  C on_stack[kOnStack];
  std::unique_ptr<C[]> on_heap(width > kOnStack ? new C[width] : nullptr);
  C* const sum = width > kOnStack ? on_heap.get() : on_stack;

  const int32_t* const end = groups.positions + groups.starts[groups.count];
  const int32_t* position = groups.positions;
  for (int64_t i = 0; i < groups.count; ++i) {
    if (i + kRowsAhead < groups.count) {
      const int64_t next = groups.rows[i + kRowsAhead];
      PrefetchRow<true>(all_var + next * width, width * sizeof(T));
      PrefetchRow<true>(all_m + next * width, width * sizeof(M));
      if (table.last_step != nullptr) {
        __builtin_prefetch(table.last_step + next, 1, 3);
      }
    }
    const int64_t row = groups.rows[i];
    const int32_t* const last = groups.positions + groups.starts[i + 1];
    for (bool first = true; position < last; ++position, first = false) {
      if (end - position > kGradientsAhead) {
        PrefetchRow<false>(grad + position[kGradientsAhead] * width,
                           width * sizeof(T));
      }
      const T* g = grad + *position * width;
      if (first) {
        LION_INDEPENDENT
        for (int64_t j = 0; j < width; ++j) sum[j] = Widen(g[j]);
      } else {
        LION_INDEPENDENT
        for (int64_t j = 0; j < width; ++j) sum[j] += Widen(g[j]);
      }
    }
    C decay = 1;
    if (table.last_step != nullptr) {
      // A counter that was set back must not make the momentum grow.
      const int64_t skipped =
          static_cast<int64_t>(table.step) - table.last_step[row] - 1;
      if (skipped > 0) {
        decay = std::pow(static_cast<C>(rule.beta_2), static_cast<C>(skipped));
      }
      table.last_step[row] = table.step;
    }
    T* const var = all_var + row * width;
    M* const m = all_m + row * width;
    const auto element = static_cast<uint32_t>(row * width);
    if (rule.cautious) {
      const int64_t kept = CountKept<M, C, C>(rule, decay, m, sum, width);
      Update<true, T, M, C>(rule, decay, CautiousScale<C>(kept, width), var, m,
                            sum, var, m, width, element);
    } else {
      Update<false, T, M, C>(rule, decay, C(1), var, m, sum, var, m, width,
                             element);
    }
  }
}

#define LION_LOOPS(Name, target)                                             \
  template <typename T, typename M>                                          \
  struct Name {                                                              \
    target static void Dense(const Rule& rule, double scale,                 \
                             const void* var, const void* m,                 \
                             const void* grad, void* var_out, void* m_out,   \
                             int64_t begin, int64_t end) {                   \
      UpdateLoop<T, M>(rule, scale, var, m, grad, var_out, m_out, begin,     \
                       end);                                                 \
    }                                                                        \
    target static int64_t Count(const Rule& rule, const void* m,             \
                                const void* grad, int64_t begin,             \
                                int64_t end) {                               \
      return CountLoop<T, M>(rule, m, grad, begin, end);                     \
    }                                                                        \
    target static void Rows(const Rule& rule, const Table& table,            \
                            const RowGroups& groups) {                       \
      RowsLoop<T, M>(rule, table, groups);                                   \
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

template <typename T, typename M>
Loops ForProcessor() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return Avx512<T, M>::Get();
  }
  if (__builtin_cpu_supports("avx2")) return Avx2<T, M>::Get();
#endif
  return Baseline<T, M>::Get();
}

template <typename T>
Loops ForMomentum(Type m) {
  switch (m) {
    case Type::kFloat32:
      return ForProcessor<T, float>();
    case Type::kFloat64:
      return ForProcessor<T, double>();
    case Type::kBFloat16:
      return ForProcessor<T, BFloat16>();
    default:
      return ForProcessor<T, Float16>();
  }
}

}  // namespace

Loops GetLoops(Type var, Type m) {
  switch (var) {
    case Type::kFloat32:
      return ForMomentum<float>(m);
    case Type::kFloat64:
      return ForMomentum<double>(m);
    case Type::kBFloat16:
      return ForMomentum<BFloat16>(m);
    default:
      return ForMomentum<Float16>(m);
  }
}

}  // namespace lion
