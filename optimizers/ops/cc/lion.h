// Lion's rule (arXiv 2302.06675) on spans of memory, for every dtype at once.
//
// With before-update values on the right:
//   c = beta_1 * m + (1 - beta_1) * g
//   var = var - lr * (sign(c) + weight_decay * var)
//   m = beta_2 * m + (1 - beta_2) * g
// sign(+-0) is 0, NaN propagates, and no product is fused with a sum (the
// build says -ffp-contract=off): every processor gives the same bits.
// bfloat16 and float16 are computed in float32.

#ifndef OPTIMIZERS_OPS_CC_LION_H_
#define OPTIMIZERS_OPS_CC_LION_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

// The loops are inlined into functions that are compiled once per instruction
// set (see lion_loops.cc), and so must be all that they call.
#define LION_INLINE inline __attribute__((always_inline))

// Outputs may be their inputs, element for element, and overlap in no other
// way, so a loop carries nothing from one element to the next.
#if defined(__clang__)
#define LION_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define LION_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace lion {

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

template <typename T>
using Compute =
    std::conditional_t<std::is_same<T, double>::value, double, float>;

// Least fraction of kept elements that the cautious rescaling divides by.
constexpr double kCautiousFloor = 1e-3;

// The scalars of a step. `frequency_power` is that of a row's rate by its
// count. `seed` and `step`, the step's number, make the noise of the stochastic
// rounding; `stochastic` asks for that of half-precision weights.
struct Rule {
  double lr, beta_1, beta_2, weight_decay, frequency_power;
  uint32_t seed, step;
  bool cautious, stochastic;
};

template <typename To, typename From>
LION_INLINE To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

LION_INLINE float Widen(float x) { return x; }
LION_INLINE double Widen(double x) { return x; }
LION_INLINE float Widen(BFloat16 x) {
  return BitCast<float>(static_cast<uint32_t>(x.bits) << 16);
}
// No step of it is a float32 subnormal, which TensorFlow's threads flush.
LION_INLINE float Widen(Float16 x) {
  const uint32_t shifted = (x.bits & 0x7FFFu) << 13;
  const uint32_t exponent = shifted & (0x7C00u << 13);
  const uint32_t normal = shifted + (112u << 23);
  const uint32_t special = normal + (112u << 23);  // infinity, NaN
  const float subnormal = BitCast<float>(shifted + (113u << 23)) -
                          BitCast<float>(113u << 23);
  const uint32_t magnitude = exponent == (0x7C00u << 13) ? special
                             : exponent == 0 ? BitCast<uint32_t>(subnormal)
                                             : normal;
  return BitCast<float>(magnitude | (x.bits & 0x8000u) << 16);
}

// Round to nearest, ties to even.
template <typename C>
LION_INLINE void Narrow(C x, float* out) {
  *out = static_cast<float>(x);
}
template <typename C>
LION_INLINE void Narrow(C x, double* out) {
  *out = static_cast<double>(x);
}
template <typename C>
LION_INLINE void Narrow(C x, BFloat16* out) {
  const uint32_t bits = BitCast<uint32_t>(static_cast<float>(x));
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  const uint32_t rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
  out->bits = static_cast<uint16_t>((nan ? bits | 0x400000u : rounded) >> 16);
}
template <typename C>
LION_INLINE void Narrow(C x, Float16* out) {
  const uint32_t bits = BitCast<uint32_t>(static_cast<float>(x));
  const uint32_t size = bits & 0x7FFFFFFFu;
  const uint32_t special = size > 0x7F800000u ? 0x7E00u : 0x7C00u;
  const uint32_t subnormal =
      BitCast<uint32_t>(BitCast<float>(size) + 0.5f) - (126u << 23);
  const uint32_t normal =
      (size - (112u << 23) + 0xFFFu + ((size >> 13) & 1u)) >> 13;
  const uint32_t rounded = size >= (143u << 23)  ? special
                           : size < (113u << 23) ? subnormal
                                                 : normal;
  out->bits = static_cast<uint16_t>(rounded | (bits >> 16 & 0x8000u));
}

// A number that is uniform over the steps of one element and over elements.
// It depends on no weight and no momentum, which may rest while steps go on,
// and needs no state: equal inputs give equal bits, on any number of threads.
LION_INLINE uint32_t Hash(uint32_t seed, uint32_t step, uint32_t element) {
  uint32_t x = (element + seed * 0x9E3779B9u) * 0x85EBCA6Bu;
  x = (x ^ (x >> 16) ^ step * 0xC2B2AE35u) * 0x7FEB352Du;
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

// Rounds up or down at random, with the probability that makes the mean right:
// what is mostly below half a unit in the last place of the result, such as
// (1 - beta_2) * g beside m, would be lost for good by rounding to nearest.
// `noise` is uniform in [0, 2^16). Only half precisions have such a rounding.
template <typename C>
LION_INLINE void NarrowAtRandom(C x, uint32_t noise, BFloat16* out) {
  const uint32_t bits = BitCast<uint32_t>(static_cast<float>(x));
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  out->bits =
      static_cast<uint16_t>((nan ? bits | 0x400000u : bits + noise) >> 16);
}
template <typename C>
LION_INLINE void NarrowAtRandom(C x, uint32_t noise, Float16* out) {
  const uint32_t bits = BitCast<uint32_t>(static_cast<float>(x));
  const uint32_t size = bits & 0x7FFFFFFFu;
  const uint32_t special = size > 0x7F800000u ? 0x7E00u : 0x7C00u;
  // In units of the least subnormal, 2^-24; below 2^10 of them.
  const uint32_t units = size < (113u << 23) ? size : 0u;
  const uint32_t subnormal = static_cast<uint32_t>(static_cast<int32_t>(
      BitCast<float>(units) * 0x1p24f + static_cast<float>(noise) * 0x1p-16f));
  const uint32_t normal = (size + (noise >> 3) - (112u << 23)) >> 13;
  const uint32_t rounded = size >= 0x477FF000u    ? special
                           : size < (113u << 23) ? subnormal
                                                 : normal;
  out->bits = static_cast<uint16_t>(rounded | (bits >> 16 & 0x8000u));
}
template <typename C, typename T>
LION_INLINE void NarrowAtRandom(C x, uint32_t noise, T* out) {
  Narrow(x, out);
}

template <typename T>
constexpr bool kHalf =
    std::is_same<T, BFloat16>::value || std::is_same<T, Float16>::value;

template <typename C>
LION_INLINE C Sign(C x) {
  return x > 0 ? C(1) : x < 0 ? C(-1) : x;
}

template <typename C>
LION_INLINE C Direction(C beta_1, C m, C g) {
  return Sign(beta_1 * m + (1 - beta_1) * g);
}

// How many elements' updates agree with their gradients. `decay` multiplies
// the momentum first.
template <typename M, typename G, typename C = Compute<G>>
LION_INLINE int64_t CountKept(const Rule& rule, C decay, const M* m,
                              const G* grad, int64_t n) {
  const C beta_1 = static_cast<C>(rule.beta_1);
  int64_t kept = 0;
  LION_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    const C g = Widen(grad[i]);
    const C old_m = decay * static_cast<C>(Widen(m[i]));
    kept += Direction(beta_1, old_m, g) * Sign(g) > 0;
  }
  return kept;
}

// The factor of the kept updates when `kept` of `n` are.
template <typename C>
LION_INLINE C CautiousScale(int64_t kept, int64_t n) {
  const C fraction = static_cast<C>(kept) / static_cast<C>(n);
  const C floor = static_cast<C>(kCautiousFloor);
  return 1 / (fraction > floor ? fraction : floor);
}

// One step at the rate `lr` for `n` elements, the first of which is number
// `element` of its variable. Outputs may be the inputs.
template <bool cautious, bool stochastic, typename T, typename M, typename G,
          typename C = Compute<T>>
LION_INLINE void Update(const Rule& rule, C lr, C decay, C scale, const T* var,
                        const M* m, const G* grad, T* var_out, M* m_out,
                        int64_t n, uint32_t element) {
  const C beta_1 = static_cast<C>(rule.beta_1);
  const C beta_2 = static_cast<C>(rule.beta_2);
  const C weight_decay = static_cast<C>(rule.weight_decay);
  constexpr bool random_m = std::is_same<M, BFloat16>::value;
  constexpr bool random_var = stochastic && kHalf<T>;
  const uint32_t seed = rule.seed;
  const uint32_t step = rule.step;
  LION_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    const C g = Widen(grad[i]);
    const C old_m = decay * static_cast<C>(Widen(m[i]));
    const C old = Widen(var[i]);
    C update = Direction(beta_1, old_m, g);
    if (cautious) update *= update * Sign(g) > 0 ? scale : C(0);
    const C moved = old - lr * (update + weight_decay * old);
    const C new_m = beta_2 * old_m + (1 - beta_2) * g;
    uint32_t noise = 0;
    if (random_m || random_var) {
      noise = Hash(seed, step, element + static_cast<uint32_t>(i));
    }
    if (random_var) {
      NarrowAtRandom(moved, noise >> 16, &var_out[i]);
    } else {
      Narrow(moved, &var_out[i]);
    }
    if (random_m) {
      NarrowAtRandom(new_m, noise & 0xFFFFu, &m_out[i]);
    } else {
      Narrow(new_m, &m_out[i]);
    }
  }
}

}  // namespace lion

#endif  // OPTIMIZERS_OPS_CC_LION_H_
