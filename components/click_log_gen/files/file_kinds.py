"""Kinds of files that cannot be read as the config says: a line for each."""

from __future__ import annotations

from models.errors import InputError

_MAGIC = {
    b"PK\x03\x04": "a zip archive",
    b"\xfd7zXZ\x00": "xz",
    b"\xff\x06\x00\x00sNaPpY": "snappy",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x89LZO": "lzop",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"PAR1": "a parquet file",
    b"PARE": "an encrypted parquet file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"SQLite format 3\0": "an SQLite database",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
}
_UTF32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_ZLIB = (b"x\x01", b"x\x9c", b"x\xda")
# Suffixes of packed files without a mark of their own.
_SUFFIXES = {".snappy": "snappy", ".deflate": "zlib", ".z": "compress"}
PACKED = "alone or packed with gzip, zstd or bzip2"
TEXT = f"text in UTF-8, {PACKED}"
_FEW = 3  # lines that tell how they end


def check(
    head: bytes,
    path: str,
    accepted: str = TEXT,
    own: bytes = b"",
    is_text: bool = True,
) -> None:
    """Looks at the first bytes of a file, unpacked where that is done for it.

    Args:
        accepted: what the file must be, for the error.
        own: the first bytes of such a file; b"" if it begins with data.
        is_text: the file must be text.

    Raises:
        InputError: they are those of a file that the format cannot be.
    """
    what = _what(head, path, own, is_text)
    if what:
        raise InputError(f"this is {what}; accepted: {accepted}")


def _what(head: bytes, path: str, own: bytes, is_text: bool) -> str:
    for magic, what in _MAGIC.items():
        if head.startswith(magic) and magic != own:
            # A cell may begin so, but a whole head of text is no archive.
            return what if own or not _is_text(head) else ""
    if own:
        return ""
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head.startswith(_ZLIB) and not _is_text(head):
        return "zlib"
    if not _is_text(head):
        for suffix, what in _SUFFIXES.items():
            if path.lower().endswith(suffix):
                return what
    if not is_text:
        return ""
    if head.startswith(_UTF32):
        return "UTF-32 (iconv -f UTF-32 -t UTF-8 makes it UTF-8)"
    if head.startswith(_UTF16) or _has_nul_pairs(head):
        return "UTF-16 (iconv -f UTF-16 -t UTF-8 makes it UTF-8)"
    if _ends_in_returns(head):
        return "text whose lines end in \\r alone (tr '\\r' '\\n' mends it)"
    return ""


def _is_text(head: bytes) -> bool:
    """True if the bytes are UTF-8 without control characters such as NUL."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # the last one may be cut
            return False
        text = head[: error.start].decode()
    return "\0" not in text


def _has_nul_pairs(head: bytes) -> bool:
    """True if each second byte is NUL, as in UTF-16 of Latin letters."""
    pairs = len(head) // 2 * 2
    for zeros, others in ((0, 1), (1, 0)):
        found = head[zeros:pairs:2].count(0)
        if found >= 8 and found > 0.9 * (pairs // 2):
            return not head[others:pairs:2].count(0)
    return False


def _ends_in_returns(head: bytes) -> bool:
    """True if the text is several lines alike that end in a bare CR."""
    if b"\n" in head or head.count(b"\r") < _FEW:
        return False
    lines = [line for line in head.split(b"\r")[:-1] if line]
    shapes = {_shape(line) for line in lines}
    return len(lines) >= _FEW and len(shapes) == 1 and shapes != {()}


def _shape(line: bytes) -> tuple[int, ...]:
    """How often a line has each usual delimiter; a JSON object is alike."""
    if line.startswith(b"{") and line.endswith(b"}"):
        return (-1,)
    counts = [line.count(mark) for mark in (b"\t", b"|", b";", b"\x01")]
    counts = counts if any(counts) else [line.count(b",")]
    return tuple(counts) if any(counts) else ()
