// Huge pages for large tables: rows at random cost a TLB miss each otherwise.

#ifndef OPTIMIZERS_OPS_CC_HUGE_PAGES_H_
#define OPTIMIZERS_OPS_CC_HUGE_PAGES_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <unordered_set>

#include "tensorflow/core/platform/logging.h"
#include "tensorflow/core/platform/mutex.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1; an older one refuses it
#endif

namespace lion {

// Moves buffers into huge pages, each once, unless the machine's settings say
// "never" or the environment LION_HUGE_PAGES=0. Takes no memory beyond one huge
// page and changes no value; where it cannot be done, nothing happens. The
// first update of a large table waits for it, which a line of the log says.
class HugePages {
 public:
  void Use(void* data, size_t bytes) {
    if (bytes < kLeastBytes) return;
    {
      tensorflow::mutex_lock lock(mutex_);
      if (!seen_.insert(data).second) return;
    }
    if (Forbidden()) return;
    if (bytes >= kWorthALine) {
      LOG(INFO) << "Lion moves a table of " << (bytes >> 20)
                << " MiB into huge pages, once; LION_HUGE_PAGES=0 leaves it";
    }
    const auto address = reinterpret_cast<uintptr_t>(data);
    const uintptr_t begin = (address + kPage - 1) / kPage * kPage;
    const uintptr_t end = (address + bytes) / kPage * kPage;
    void* const start = reinterpret_cast<void*>(begin);
    madvise(start, end - begin, MADV_HUGEPAGE);
    madvise(start, end - begin, MADV_COLLAPSE);
  }

 private:
  static constexpr uintptr_t kPage = 2 << 20;
  static constexpr size_t kLeastBytes = 16 << 20;  // what a TLB covers anyway

  static constexpr size_t kWorthALine = size_t{1} << 30;

  static bool Forbidden() {
    const char* wanted = std::getenv("LION_HUGE_PAGES");
    if (wanted != nullptr && std::string(wanted) == "0") return true;
    std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
    std::string setting;
    return !std::getline(file, setting) ||
           setting.find("[never]") != std::string::npos;
  }

  tensorflow::mutex mutex_;
  std::unordered_set<const void*> seen_;
};

}  // namespace lion

#endif  // OPTIMIZERS_OPS_CC_HUGE_PAGES_H_
