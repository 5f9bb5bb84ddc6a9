// TFRecord frames and tf.Examples to columns: what tfrecord.py and decode.py do
// by NumPy, row by row. Plain C for ctypes; nothing reads outside of a record.

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace {

constexpr uint8_t kFirst = 0x0A, kSecond = 0x12;
constexpr uint8_t kBytes = 0x0A, kFloat = 0x12, kInt64 = 0x1A;
constexpr int kLengthBytes = 4;  // of a varint that says how many bytes follow
constexpr int kNumberBytes = 10;
constexpr int64_t kTimed = 10;  // bytes of the time behind an example
constexpr int64_t kHeader = 12, kFooter = 4;
constexpr int64_t kOtherLayout = -1;

struct Table {
  uint32_t of[256];
  Table() {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t sum = byte;
      for (int bit = 0; bit < 8; ++bit) {
        sum = sum >> 1 ^ (sum & 1 ? 0x82F63B78u : 0);
      }
      of[byte] = sum;
    }
  }
};

uint32_t PortableSum(uint32_t sum, const uint8_t* data, int64_t size) {
  static const Table table;
  for (; size > 0; --size) sum = sum >> 8 ^ table.of[(sum ^ *data++) & 0xFF];
  return sum;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t FastSum(uint32_t sum,
                                                   const uint8_t* data,
                                                   int64_t size) {
  uint64_t wide = sum;
  for (; size >= 8; size -= 8, data += 8) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  sum = static_cast<uint32_t>(wide);
  for (; size > 0; --size) sum = _mm_crc32_u8(sum, *data++);
  return sum;
}
#endif

// The masked CRC-32C of the TFRecord format.
uint32_t Checksum(const uint8_t* data, int64_t size) {
#if defined(__x86_64__)
  static const bool fast = __builtin_cpu_supports("sse4.2");
  const uint32_t sum =
      ~(fast ? FastSum(~0u, data, size) : PortableSum(~0u, data, size));
#else
  const uint32_t sum = ~PortableSum(~0u, data, size);
#endif
  return (sum >> 15 | sum << 17) + 0xA282EAD8u;
}

template <typename T>
T Load(const uint8_t* data) {  // little endian, as the format is
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

// A place in a record that does not move beyond its end.
struct Cursor {
  const uint8_t* at;
  const uint8_t* end;

  bool Expect(uint8_t byte) { return at < end && *at++ == byte; }

  // A field's tag and length; `field` is then its content.
  bool Field(uint8_t tag, Cursor* field) {
    if (!Expect(tag)) return false;
    int64_t size = 0;
    for (int i = 0;; ++i) {
      if (i == kLengthBytes || at == end) return false;
      const uint8_t byte = *at++;
      size |= static_cast<int64_t>(byte & 0x7F) << 7 * i;
      if (byte < 0x80) break;
    }
    if (size > end - at) return false;
    *field = {at, at + size};
    at += size;
    return true;
  }

  bool Done() const { return at == end; }
};

struct Entry {
  Cursor name, values;
  uint8_t kind;
};

// The features of a record, and nothing behind them but a time.
bool Features(const uint8_t* data, int64_t start, int64_t end, Cursor* found) {
  Cursor record{data + start, data + end};
  if (!record.Field(kFirst, found)) return false;
  const int64_t left = record.end - record.at;
  return left == 0 || left == kTimed;
}

bool Next(Cursor* features, Entry* found) {
  Cursor entry, value;
  if (!features->Field(kFirst, &entry)) return false;
  if (!entry.Field(kFirst, &found->name)) return false;
  if (!entry.Field(kSecond, &value) || !entry.Done() || value.Done()) {
    return false;
  }
  found->kind = *value.at;
  return value.Field(found->kind, &found->values) && value.Done();
}

bool Same(const Entry& one, const uint8_t* name, int64_t size, uint8_t kind) {
  return one.kind == kind && one.name.end - one.name.at == size &&
         std::memcmp(one.name.at, name, size) == 0;
}

// Gives `taker` each value of a feature of a row; false: another layout.
template <typename Taker>
bool EachValue(uint8_t kind, Cursor values, Taker* taker) {
  Cursor one;
  if (kind == kBytes) {
    while (!values.Done()) {
      if (!values.Field(kFirst, &one)) return false;
      taker->Bytes(one.at, one.end - one.at);
    }
    return true;
  }
  if (kind != kFloat && kind != kInt64) return false;
  if (values.Done()) return true;
  // The one packed field.
  if (!values.Field(kFirst, &one) || !values.Done()) return false;
  if (kind == kFloat) {
    if ((one.end - one.at) % sizeof(float)) return false;
    for (; !one.Done(); one.at += sizeof(float)) {
      taker->Number(Load<float>(one.at));
    }
    return true;
  }
  while (!one.Done()) {
    uint64_t number = 0;
    for (int i = 0;; ++i) {
      if (i == kNumberBytes || one.Done()) return false;
      const uint8_t byte = *one.at++;
      number |= static_cast<uint64_t>(byte & 0x7F) << 7 * i;
      if (byte < 0x80) break;
    }
    taker->Number(static_cast<int64_t>(number));
  }
  return true;
}

struct Counter {
  int64_t* values;
  int64_t* bytes;

  void Bytes(const uint8_t*, int64_t size) {
    ++*values;
    *bytes += size;
  }
  template <typename T>
  void Number(T) {
    ++*values;
  }
};

}  // namespace

// A column to fill. lists: [rows + 1], where each row's values begin. offsets:
// [values + 1] of bytes, where each value begins. values: bytes, or numbers.
struct LionctrColumn {
  int64_t* lists;
  int64_t* offsets;
  void* values;
  int64_t count, size;  // filled so far

  void Bytes(const uint8_t* first, int64_t length) {
    offsets[count++] = size;
    uint8_t* const target = static_cast<uint8_t*>(values) + size;
    size += length;
    if (length == 8) {
      std::memcpy(target, first, 8);  // hashed categories: no call
    } else {
      std::memcpy(target, first, length);
    }
  }
  template <typename T>
  void Number(T number) {
    static_cast<T*>(values)[count++] = number;
  }
};

extern "C" {

// Whole records of data[0, last): the first and last place of each.
// Returns how many; `done` is the place behind the last. Where a checksum is
// wrong, -1, and `done` is the first byte of that record.
int64_t lionctr_frames(const uint8_t* data, int64_t last, int64_t* begins,
                       int64_t* ends, int64_t* done) {
  int64_t count = 0, at = 0;
  while (last - at >= kHeader) {
    const uint64_t size = Load<uint64_t>(data + at);
    const uint8_t* record = data + at + kHeader;
    *done = at;
    if (Checksum(data + at, 8) != Load<uint32_t>(data + at + 8)) return -1;
    const int64_t left = last - at - kHeader - kFooter;
    if (left < 0 || size > static_cast<uint64_t>(left)) break;
    if (Checksum(record, size) != Load<uint32_t>(record + size)) return -1;
    begins[count] = at + kHeader;
    at = ends[count++] = at + kHeader + size;
    at += kFooter;
  }
  *done = at;
  return count;
}

// Features of one record: the place and size of each name, and its kind.
// Returns how many, at most `most`, or kOtherLayout.
int64_t lionctr_layout(const uint8_t* data, int64_t start, int64_t end,
                       int64_t most, int64_t* names, int64_t* sizes,
                       uint8_t* kinds) {
  Cursor features;
  if (!Features(data, start, end, &features)) return kOtherLayout;
  int64_t count = 0;
  for (Entry entry; !features.Done(); ++count) {
    if (count == most || !Next(&features, &entry)) return kOtherLayout;
    names[count] = entry.name.at - data;
    sizes[count] = entry.name.end - entry.name.at;
    kinds[count] = entry.kind;
  }
  return count;
}

// Counts the values of each wanted feature and their bytes, [count].
// Returns 0, or kOtherLayout where a record has other features.
int64_t lionctr_count(const uint8_t* data, const int64_t* starts,
                      const int64_t* ends, int64_t rows, int64_t count,
                      const int64_t* names, const int64_t* sizes,
                      const uint8_t* kinds, const uint8_t* wanted,
                      int64_t* values, int64_t* bytes) {
  for (int64_t row = 0; row < rows; ++row) {
    Cursor features;
    if (!Features(data, starts[row], ends[row], &features)) {
      return kOtherLayout;
    }
    for (int64_t i = 0; i < count; ++i) {
      Entry entry;
      if (!Next(&features, &entry) ||
          !Same(entry, data + names[i], sizes[i], kinds[i])) {
        return kOtherLayout;
      }
      Counter counter{values + i, bytes + i};
      if (wanted[i] && !EachValue(kinds[i], entry.values, &counter)) {
        return kOtherLayout;
      }
    }
    if (!features.Done()) return kOtherLayout;
  }
  return 0;
}

// Fills the columns of wanted features, as large as lionctr_count says.
int64_t lionctr_fill(const uint8_t* data, const int64_t* starts,
                     const int64_t* ends, int64_t rows, int64_t count,
                     const uint8_t* kinds, const uint8_t* wanted,
                     LionctrColumn* columns) {
  for (int64_t row = 0; row < rows; ++row) {
    Cursor features;
    Features(data, starts[row], ends[row], &features);
    for (int64_t i = 0; i < count; ++i) {
      Entry entry;
      Next(&features, &entry);
      if (!wanted[i]) continue;
      columns[i].lists[row] = columns[i].count;
      EachValue(kinds[i], entry.values, columns + i);
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    if (!wanted[i]) continue;
    columns[i].lists[rows] = columns[i].count;
    if (kinds[i] == kBytes) columns[i].offsets[columns[i].count] = columns[i].size;
  }
  return 0;
}

}  // extern "C"
