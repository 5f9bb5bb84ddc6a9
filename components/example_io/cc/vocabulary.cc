// The lines of a vocabulary file, looked up by the values of a column.

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace {

uint64_t Hash(const char* text, int64_t size) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15u;
  uint64_t hash = static_cast<uint64_t>(size) * kOdd;
  for (; size > 0; size -= 8, text += 8) {
    uint64_t word = 0;
    if (size >= 8) {
      std::memcpy(&word, text, 8);
    } else {
      std::memcpy(&word, text, size);
    }
    hash = (hash ^ word) * kOdd;
    hash ^= hash >> 32;
  }
  return hash;
}

class Vocabulary {
 public:
  Vocabulary(const char* text, int64_t size) : text_(text, size) {
    for (int64_t at = 0; at < size;) {
      const size_t found = text_.find('\n', at);
      const int64_t end = found == std::string::npos ? size : found;
      lines_.push_back({at, end - at});
      at = end + 1;
    }
    size_t slots = 16;
    while (slots < 2 * lines_.size()) slots *= 2;
    slots_.assign(slots, {0, kNone});
    for (size_t line = 0; line < lines_.size(); ++line) {
      const uint64_t hash = Hash(text_.data() + lines_[line].at, Size(line));
      size_t slot = hash & (slots - 1);
      while (slots_[slot].line != kNone) slot = (slot + 1) & (slots - 1);
      slots_[slot] = {High(hash), static_cast<int32_t>(line)};
    }
  }

  int64_t size() const { return lines_.size(); }

  int64_t Find(const char* value, int64_t size) const {
    const uint64_t hash = Hash(value, size);
    const size_t last = slots_.size() - 1;
    for (size_t slot = hash & last;; slot = (slot + 1) & last) {
      const int32_t line = slots_[slot].line;
      if (line == kNone) return kNone;
      if (slots_[slot].hash == High(hash) && Size(line) == size &&
          std::memcmp(text_.data() + lines_[line].at, value, size) == 0) {
        return line;
      }
    }
  }

 private:
  static constexpr int32_t kNone = -1;
  struct Line {
    int64_t at, size;
  };
  struct Slot {
    uint32_t hash;
    int32_t line;
  };

  static uint32_t High(uint64_t hash) { return hash >> 32; }
  int64_t Size(int64_t line) const { return lines_[line].size; }

  std::string text_;
  std::vector<Line> lines_;
  std::vector<Slot> slots_;
};

}  // namespace

extern "C" {

void* lionctr_vocabulary(const char* text, int64_t size) {
  return new Vocabulary(text, size);
}

void lionctr_forget(void* vocabulary) {
  delete static_cast<Vocabulary*>(vocabulary);
}

int64_t lionctr_lines(const void* vocabulary) {
  return static_cast<const Vocabulary*>(vocabulary)->size();
}

// Ids of values: 0 of an empty one, 1 + line of a known one, else -1.
// offsets: [count + 1], of `text`.
int64_t lionctr_ids(const void* vocabulary, const int64_t* offsets,
                    const char* text, int64_t count, int64_t* ids) {
  const auto& known = *static_cast<const Vocabulary*>(vocabulary);
  int64_t unknown = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t size = offsets[i + 1] - offsets[i];
    if (size == 0) {
      ids[i] = 0;
      continue;
    }
    const int64_t line = known.Find(text + offsets[i], size);
    ids[i] = line < 0 ? -1 : 1 + line;
    unknown += line < 0;
  }
  return unknown;
}

}  // extern "C"
