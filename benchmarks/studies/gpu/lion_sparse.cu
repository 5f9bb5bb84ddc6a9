// Lion's sparse update as CUDA kernels, timed: what a native op would bring.
//
//   nvcc -O3 -std=c++17 -arch=sm_90 --fmad=false lion_sparse.cu && ./a.out
//
// At FBGEMM's published shape: 10 tables of 1.68M rows, here one of 16.8M, of
// 128 float32; 1,048,570 lookups of 350,280 distinct rows, each lookup with a
// gradient of its own. `./a.out small` is a quick check. The last line of the
// output is JSON. Same arithmetic as lion.h; a row's gradients are summed in
// the order of the batch, within blocks of lookups: the same bits each time.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cub/cub.cuh>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#define CHECK(call)                                                     \
  do {                                                                  \
    const cudaError_t error = (call);                                   \
    if (error != cudaSuccess) {                                         \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,                \
              cudaGetErrorString(error));                               \
      exit(1);                                                          \
    }                                                                   \
  } while (false)

constexpr int kWidth = 128;  // a warp's lanes hold four values each
constexpr int kBlock = 64;   // sorted lookups that a warp sums
constexpr int kWarps = 8;    // of a thread block
constexpr int kAhead = 4;    // gradients that a warp has under way
constexpr uint32_t kNone = 0xFFFFFFFFu;

struct Rule {
  float lr = 1e-3f, beta_1 = 0.9f, beta_2 = 0.99f, weight_decay = 0.01f;
  uint32_t seed = 1, step = 1;
};

__host__ __device__ uint32_t Mix(uint32_t x) {
  x = (x ^ x >> 16) * 0x7FEB352Du;
  x = (x ^ x >> 15) * 0x846CA68Bu;
  return x ^ x >> 16;
}

// A number in [-0.5, 0.5), the same on either side.
__host__ __device__ float Value(uint64_t element, uint32_t salt) {
  const uint32_t x = Mix(static_cast<uint32_t>(element) * 0x85EBCA6Bu +
                         static_cast<uint32_t>(element >> 32) + salt);
  return static_cast<float>(x >> 8) * 0x1p-24f - 0.5f;
}

// `Hash` in lion.h.
__device__ uint32_t Hash(const Rule& rule, uint32_t element) {
  uint32_t x = (element + rule.seed * 0x9E3779B9u) * 0x85EBCA6Bu;
  x = (x ^ x >> 16 ^ rule.step * 0xC2B2AE35u) * 0x7FEB352Du;
  x = (x ^ x >> 15) * 0x846CA68Bu;
  return x ^ x >> 16;
}

__host__ __device__ float Sign(float x) {
  return x > 0 ? 1.f : x < 0 ? -1.f : x;
}

__host__ __device__ void Step(const Rule& rule, float g, float* var,
                              float* m) {
  const float c = rule.beta_1 * *m + (1 - rule.beta_1) * g;
  *var = *var - rule.lr * (Sign(c) + rule.weight_decay * *var);
  *m = rule.beta_2 * *m + (1 - rule.beta_2) * g;
}

__device__ float4 Load(const float* m) {
  return *reinterpret_cast<const float4*>(m);
}
__device__ float4 Load(const __nv_bfloat16* m) {
  const uint2 two = *reinterpret_cast<const uint2*>(m);
  return {__uint_as_float(two.x << 16), __uint_as_float(two.x & 0xFFFF0000u),
          __uint_as_float(two.y << 16), __uint_as_float(two.y & 0xFFFF0000u)};
}
__device__ void Store(const Rule& rule, uint32_t element, float4 x, float* m) {
  *reinterpret_cast<float4*>(m) = x;
}
// Rounded at random, by `NarrowAtRandom` in lion.h.
__device__ void Store(const Rule& rule, uint32_t element, float4 x,
                      __nv_bfloat16* m) {
  const float values[4] = {x.x, x.y, x.z, x.w};
  uint32_t bits[4];
  for (int i = 0; i < 4; ++i) {
    bits[i] = __float_as_uint(values[i]);
    bits[i] = isnan(values[i]) ? bits[i] | 0x400000u
                               : bits[i] + (Hash(rule, element + i) & 0xFFFFu);
  }
  *reinterpret_cast<uint2*>(m) = {bits[0] >> 16 | (bits[1] & 0xFFFF0000u),
                                  bits[2] >> 16 | (bits[3] & 0xFFFF0000u)};
}

// One row's step by a warp: lane `lane` has the sums `g` of its four elements.
template <typename M>
__device__ void Apply(const Rule& rule, uint32_t row, int lane, float4 g,
                      float* var, M* m) {
  const uint64_t at = static_cast<uint64_t>(row) * kWidth + lane * 4;
  float4 v = *reinterpret_cast<const float4*>(var + at);
  float4 old = Load(m + at);
  Step(rule, g.x, &v.x, &old.x);
  Step(rule, g.y, &v.y, &old.y);
  Step(rule, g.z, &v.z, &old.z);
  Step(rule, g.w, &v.w, &old.w);
  *reinterpret_cast<float4*>(var + at) = v;
  Store(rule, static_cast<uint32_t>(at), old, m + at);
}

__device__ void Add(float4* sum, float4 x) {
  sum->x += x.x;
  sum->y += x.y;
  sum->z += x.z;
  sum->w += x.w;
}

// A warp sums one block of sorted lookups and updates the rows that lie in it
// whole. A row that goes on in the next block leaves its part in `tails`, one
// that came from the block before in `heads`, both [blocks, kWidth].
template <typename M>
__global__ void __launch_bounds__(kWarps * 32)
    Blocks(Rule rule, const uint32_t* ids, const uint32_t* positions, int n,
           const float* grad, float* var, M* m, float* heads, float* tails) {
  const int lane = threadIdx.x % 32;
  const int block = blockIdx.x * kWarps + threadIdx.x / 32;
  const int begin = block * kBlock;
  if (begin >= n) return;
  const int count = min(kBlock, n - begin);
  const uint32_t before = begin > 0 ? ids[begin - 1] : kNone;
  const uint32_t after = begin + count < n ? ids[begin + count] : kNone;
  uint32_t id[2], at[2];
  for (int half = 0; half < 2; ++half) {
    const int i = half * 32 + lane;
    id[half] = i < count ? ids[begin + i] : kNone;
    at[half] = i < count ? positions[begin + i] : 0;
  }
  uint32_t row = __shfl_sync(~0u, id[0], 0);
  bool whole = row != before;
  float4 sum = {0, 0, 0, 0};
  for (int start = 0; start < count; start += kAhead) {
    float4 g[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int i = start + k;
      const uint32_t position =
          __shfl_sync(~0u, i < 32 ? at[0] : at[1], i % 32);
      if (i < count) {
        g[k] = __ldcs(reinterpret_cast<const float4*>(
                          grad + static_cast<uint64_t>(position) * kWidth) +
                      lane);
      }
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int j = start + k + 1;
      if (j > count) break;
      Add(&sum, g[k]);
      uint32_t next = __shfl_sync(~0u, j < 32 ? id[0] : id[1], j % 32);
      if (j == count) next = after;
      if (next == row && j < count) continue;
      float4* part = nullptr;
      if (!whole) part = reinterpret_cast<float4*>(heads);
      else if (next == row) part = reinterpret_cast<float4*>(tails);
      if (part != nullptr) {
        part[static_cast<uint64_t>(block) * 32 + lane] = sum;
      } else {
        Apply(rule, row, lane, sum, var, m);
      }
      row = next;
      whole = true;
      sum = {0, 0, 0, 0};
    }
  }
}

// A warp a block: adds up the parts of the row that begins in it and goes on.
template <typename M>
__global__ void __launch_bounds__(kWarps * 32)
    Across(Rule rule, const uint32_t* ids, int n, float* var, M* m,
           const float* heads, const float* tails) {
  const int lane = threadIdx.x % 32;
  const int block = blockIdx.x * kWarps + threadIdx.x / 32;
  const int begin = block * kBlock;
  const int end = begin + kBlock;
  if (end >= n) return;
  const uint32_t row = ids[end];
  if (ids[end - 1] != row) return;
  if (begin > 0 && ids[begin - 1] == row) return;  // it began before
  float4 sum = reinterpret_cast<const float4*>(
      tails)[static_cast<uint64_t>(block) * 32 + lane];
  // The parts of 32 blocks are under way at once: a row may have thousands.
  for (int first = block + 1;; first += 32) {
    const int64_t start = static_cast<int64_t>(first + lane) * kBlock;
    const uint32_t mine = start < n ? ids[start] : kNone;
    const uint32_t others = ~__ballot_sync(~0u, mine == row);
    const int parts = others == 0 ? 32 : __ffs(others) - 1;
    const float4* head = reinterpret_cast<const float4*>(heads) +
                         static_cast<uint64_t>(first) * 32 + lane;
#pragma unroll 8
    for (int k = 0; k < parts; ++k) Add(&sum, head[k * 32]);
    if (parts < 32) break;
  }
  Apply(rule, row, lane, sum, var, m);
}

__global__ void Fill(float* x, uint64_t n, uint32_t salt) {
  const uint64_t stride = static_cast<uint64_t>(gridDim.x) * blockDim.x;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x +
                    threadIdx.x;
       i < n; i += stride) {
    x[i] = Value(i, salt);
  }
}
__global__ void Fill(__nv_bfloat16* x, uint64_t n, uint32_t salt) {
  const uint64_t stride = static_cast<uint64_t>(gridDim.x) * blockDim.x;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x +
                    threadIdx.x;
       i < n; i += stride) {
    x[i] = __float2bfloat16_rn(Value(i, salt));
  }
}
__global__ void Iota(uint32_t* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] = i;
}

struct Shape {
  uint32_t rows;
  int lookups, distinct;
};

// `distinct` rows at least once, the other lookups by Zipf's law (1.05).
std::vector<uint32_t> Lookups(const Shape& shape) {
  std::mt19937_64 engine(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<uint32_t> ids;
  for (int i = 0; i < shape.lookups; ++i) {
    int64_t rank = i;
    if (i >= shape.distinct) {
      const double a = 1.05, b = std::pow(2.0, a - 1);
      for (;;) {  // Devroye, as numpy.random.zipf
        const double u = 1 - uniform(engine), v = uniform(engine);
        const double x = std::floor(std::pow(u, -1 / (a - 1)));
        if (!(x < 9e18)) continue;
        const double t = std::pow(1 + 1 / x, a - 1);
        if (v * x * (t - 1) / (b - 1) > t / b) continue;
        rank = static_cast<int64_t>(x - 1) % shape.distinct;
        break;
      }
    }
    ids.push_back(static_cast<uint64_t>(rank) * 1234577 % shape.rows);
  }
  std::shuffle(ids.begin(), ids.end(), engine);
  return ids;
}

template <typename T>
T* Allocate(uint64_t n) {
  void* memory;
  CHECK(cudaMalloc(&memory, n * sizeof(T)));
  return static_cast<T*>(memory);
}

// Median milliseconds of `work`, each one between two events.
template <typename Work>
float Milliseconds(const Work& work, int repeats = 21) {
  cudaEvent_t start, stop;
  CHECK(cudaEventCreate(&start));
  CHECK(cudaEventCreate(&stop));
  std::vector<float> times;
  for (int i = -3; i < repeats; ++i) {
    CHECK(cudaEventRecord(start));
    work();
    CHECK(cudaEventRecord(stop));
    CHECK(cudaEventSynchronize(stop));
    CHECK(cudaGetLastError());
    float ms;
    CHECK(cudaEventElapsedTime(&ms, start, stop));
    if (i >= 0) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

template <typename M>
class Update {
 public:
  explicit Update(const Shape& shape) : shape_(shape), n_(shape.lookups) {
    const uint64_t size = static_cast<uint64_t>(shape.rows) * kWidth;
    var_ = Allocate<float>(size);
    m_ = Allocate<M>(size);
    grad_ = Allocate<float>(static_cast<uint64_t>(n_) * kWidth);
    blocks_ = (n_ + kBlock - 1) / kBlock;
    heads_ = Allocate<float>(static_cast<uint64_t>(blocks_) * kWidth);
    tails_ = Allocate<float>(static_cast<uint64_t>(blocks_) * kWidth);
    for (uint32_t** x : {&ids_, &sorted_, &iota_, &positions_}) {
      *x = Allocate<uint32_t>(n_);
    }
    Fill<<<4096, 256>>>(var_, size, 1);
    Fill<<<4096, 256>>>(m_, size, 2);
    Fill<<<4096, 256>>>(grad_, static_cast<uint64_t>(n_) * kWidth, 3);
    Iota<<<(n_ + 255) / 256, 256>>>(iota_, n_);
    host_ids_ = Lookups(shape);
    CHECK(cudaMemcpy(ids_, host_ids_.data(), n_ * 4, cudaMemcpyHostToDevice));
    while (bits_ < 32 && shape.rows > (uint64_t{1} << bits_)) ++bits_;
    CHECK(cub::DeviceRadixSort::SortPairs(nullptr, scratch_size_, ids_,
                                          sorted_, iota_, positions_, n_, 0,
                                          bits_));
    scratch_ = Allocate<char>(scratch_size_);
    CHECK(cudaDeviceSynchronize());
  }

  ~Update() {
    for (void* x : {(void*)var_, (void*)m_, (void*)grad_, (void*)heads_,
                    (void*)tails_, (void*)ids_, (void*)sorted_, (void*)iota_,
                    (void*)positions_, (void*)scratch_}) {
      cudaFree(x);
    }
  }

  void Sort() {
    CHECK(cub::DeviceRadixSort::SortPairs(scratch_, scratch_size_, ids_,
                                          sorted_, iota_, positions_, n_, 0,
                                          bits_));
  }

  void Rows() {
    const int grid = (blocks_ + kWarps - 1) / kWarps;
    Blocks<M><<<grid, kWarps * 32>>>(rule_, sorted_, positions_, n_, grad_,
                                     var_, m_, heads_, tails_);
    Across<M><<<grid, kWarps * 32>>>(rule_, sorted_, n_, var_, m_, heads_,
                                     tails_);
  }

  void All() {
    Sort();
    Rows();
  }

  // After one update of the initial state: the largest difference to the rule
  // on the host, of rows that are often, seldom and never looked up.
  double Error() {
    All();
    CHECK(cudaDeviceSynchronize());
    std::unordered_map<uint32_t, std::vector<int>> where;
    for (int i = 0; i < n_; ++i) where[host_ids_[i]].push_back(i);
    double worst = 0;
    int checked = 0;
    for (int i = 0; i < n_ && checked < 3000; i += 1 + n_ / 3000) {
      worst = std::max(worst, RowError(host_ids_[i], where[host_ids_[i]]));
      ++checked;
    }
    for (uint32_t row = 0; row < shape_.rows; row += 1 + shape_.rows / 1000) {
      if (where.count(row) == 0) worst = std::max(worst, RowError(row, {}));
    }
    return worst;
  }

 private:
  double RowError(uint32_t row, const std::vector<int>& positions) {
    float var[kWidth];
    M m[kWidth];
    const uint64_t at = static_cast<uint64_t>(row) * kWidth;
    CHECK(cudaMemcpy(var, var_ + at, sizeof(var), cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(m, m_ + at, sizeof(m), cudaMemcpyDeviceToHost));
    double worst = 0;
    for (int j = 0; j < kWidth; ++j) {
      float v = Value(at + j, 1);
      float old = static_cast<float>(static_cast<M>(Value(at + j, 2)));
      double sum = 0;
      for (int i : positions) {
        sum += Value(static_cast<uint64_t>(i) * kWidth + j, 3);
      }
      const float c = rule_.beta_1 * old + (1 - rule_.beta_1) * sum;
      if (!positions.empty()) Step(rule_, static_cast<float>(sum), &v, &old);
      // A sign may differ where c is all but 0; bfloat16 has 8 bits.
      const double scale = std::max(1e-2, std::abs(double(old)));
      const double unit = sizeof(M) == 2 ? 0x1p-7 : 1e-4;
      if (std::abs(c) > 1e-3 || positions.empty()) {
        worst = std::max(worst, std::abs(double(var[j]) - v) / 1e-4);
      }
      worst = std::max(worst, std::abs(double(float(m[j])) - old) / scale /
                                  unit);
    }
    return worst;  // 1 is the limit
  }

  Shape shape_;
  Rule rule_;
  int n_, blocks_, bits_ = 1;
  float *var_, *grad_, *heads_, *tails_;
  M* m_;
  uint32_t *ids_, *sorted_, *iota_, *positions_;
  char* scratch_;
  size_t scratch_size_ = 0;
  std::vector<uint32_t> host_ids_;
};

double CopyBandwidth() {
  const uint64_t bytes = uint64_t{4} << 30;
  char* from = Allocate<char>(bytes);
  char* to = Allocate<char>(bytes);
  CHECK(cudaMemset(from, 1, bytes));
  const float ms = Milliseconds(
      [&] {
        CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice));
      },
      9);
  cudaFree(from);
  cudaFree(to);
  return 2e-6 * bytes / ms;
}

template <typename M>
std::string Report(const char* name, const Shape& shape, double bandwidth,
                   bool* right) {
  Update<M> update(shape);
  const double error = update.Error();
  *right &= error < 1;
  const float sort = Milliseconds([&] { update.Sort(); });
  const float rows = Milliseconds([&] { update.Rows(); });
  const float all = Milliseconds([&] { update.All(); });
  const double bytes =
      double(kWidth) * (4.0 * shape.lookups +
                        2.0 * (4 + sizeof(M)) * shape.distinct) +
      8.0 * shape.lookups;
  char text[400];
  snprintf(text, sizeof(text),
           "\"%s\": {\"ms\": %.4f, \"sort_ms\": %.4f, \"rows_ms\": %.4f, "
           "\"least_GB\": %.3f, \"share_of_copy\": %.3f, "
           "\"error_of_limit\": %.3f}",
           name, all, sort, rows, bytes / 1e9, bytes / all / 1e6 / bandwidth,
           error);
  return text;
}

int main(int argc, char** argv) {
  const bool small = argc > 1 && std::string(argv[1]) == "small";
  const Shape shape = small ? Shape{100000, 20000, 7001}
                            : Shape{16800000, 1048570, 350280};
  const double bandwidth = CopyBandwidth();
  bool right = true;
  const std::string f32 = Report<float>("float32", shape, bandwidth, &right);
  const std::string bf16 =
      Report<__nv_bfloat16>("bfloat16_momentum", shape, bandwidth, &right);
  printf("{\"copy_GB_per_s\": %.1f, %s, %s, \"right\": %s}\n", bandwidth,
         f32.c_str(), bf16.c_str(), right ? "true" : "false");
  return right ? 0 : 1;
}
