"""Writers of tsv, csv, jsonl and parquet, broken lines included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.synthetic.draw import NONE, Ints

_DELIMITERS = {"tsv": "\t", "csv": ","}


class _Text:
    """Writes tables as one delimited file, or JSON lines without one."""

    def __init__(self, path: Path, delimiter: str | None, header: bool) -> None:
        self._file = path.open("wb")
        self._delimiter = delimiter
        self._header = header

    def close(self) -> None:
        self._file.close()

    def write(self, table: Any, broken: Ints = NONE, first: int = 0) -> None:
        """Appends `table`, with a broken line before each row in `broken`."""
        if self._header and self._delimiter is not None:
            names = self._delimiter.join(table.column_names)
            self._file.write(names.encode() + b"\n")
        self._header = False
        done = 0
        for number, row in enumerate(broken.tolist(), first):
            self._good(table.slice(done, row - done))
            self._broken(table.slice(row, 1).to_pylist()[0], number)
            done = row
        self._good(table.slice(done))

    def _good(self, table: Any) -> None:
        if self._delimiter is None:
            self._file.write(_json_lines(table))
        else:
            options = pyarrow.csv.WriteOptions(
                include_header=False,
                delimiter=self._delimiter,
                quoting_style="none",
            )
            pyarrow.csv.write_csv(table, self._file, options)

    def _broken(self, row: dict[str, Any], number: int) -> None:
        """In turn: cut short, a word for a number, bytes that are not text."""
        row["impression_id"] = f"broken{number}"
        if number % 3 == 1:
            row["price"] = "n/a"
        elif number % 3 == 2:
            name = "site_id" if "site_id" in row else "item_id"
            row[name] = "\udcff\udcfe"
        if self._delimiter is None:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        else:
            values = ("" if v is None else str(v) for v in row.values())
            line = self._delimiter.join(values)
        if number % 3 == 0:
            line = line[: len(line) // 2]
        self._file.write(line.encode("utf-8", "surrogateescape") + b"\n")


def _json_lines(table: Any) -> Any:
    """One object a line; no string that is generated here needs escaping."""
    if not table.num_rows:
        return b""
    parts = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        text = column.cast(pa.string())
        if pa.types.is_string(column.type):
            text = pc.binary_join_element_wise('"', text, '"', "")
        parts += [f',"{name}":', pc.fill_null(text, "null")]
    parts[0] = "{" + parts[0][1:]
    lines = pc.binary_join_element_wise(*parts, "}\n", "")
    ends = np.frombuffer(lines.buffers()[1], np.int32)
    return lines.buffers()[2].slice(0, int(ends[len(lines)]))


class _Parquet:
    """Writes tables as one Parquet file, a row group for each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, table: Any, broken: Ints = NONE, first: int = 0) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        if table.num_rows:
            self._writer.write_table(table)


def open_log(path: Path, format: str, header: bool) -> _Text | _Parquet:
    if format == "parquet":
        return _Parquet(path)
    return _Text(path, _DELIMITERS.get(format), header)
