"""Config section of a log: its files and how they are read."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from components.click_log_gen.config.log_formats import FORMATS, log_format
from models.config.paths import expanded
from models.config.section import Name, PositiveInt, Section

PLACEHOLDERS = ("{DATE}", "{YYYY}", "{MM}", "{DD}", "{SPAN}", "{VERSION}")
Format = Annotated[
    str,
    AfterValidator(FORMATS.check),
    Field(
        json_schema_extra={
            "anyOf": [
                {"enum": list(FORMATS.names)},
                {"pattern": r"^[A-Za-z_][\w.]*:\w+$"},
            ]
        }
    ),
]


class LogFiles(Section):
    """A log: a file, a folder, a glob or a list, on any Beam filesystem.

    A folder means its files, at any depth. Names that begin with `.` or `_` are
    left out. The first bytes of a file tell gzip, zstd and bzip2.

    csv and tsv: a line is a row, an empty line is none; a quoted cell may span
    several lines.
    """

    path: tuple[Annotated[str, AfterValidator(expanded)], ...]
    """File, folder, glob, or a list of them.

    A list is read in its order, the matches of a glob in the order of their
    names.
    """
    format: Format
    """Format of the files."""
    columns: tuple[Name, ...] | None = None
    """Names of the columns, for csv and tsv without a header.

    With `header: true` too, the header is skipped.
    """
    header: bool = False
    """Read the columns' names from the first line of each file."""
    delimiter: Annotated[str, Field(min_length=1, max_length=8)] | None = None
    """Characters between two cells, one or several, such as `::`; null: a comma
    in csv, a tab in tsv."""
    quote: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Character around a cell that holds delimiters; null: `"` in csv, none in
    tsv."""
    escape: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Character that takes its meaning from the next one, in csv and tsv;
    beside a doubled quote."""
    null_values: tuple[str, ...] = ("",)
    """Texts of a missing value."""
    max_line_bytes: Annotated[int, Field(ge=1 << 10, le=1 << 28)] = 1 << 24
    """Longest line or record; a longer one is rejected."""
    max_expansion: PositiveInt = 200
    """Greatest ratio of a file's unpacked size to its packed one."""

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("delimiter", "quote", "escape")
    @classmethod
    def _ascii(cls, value: str | None) -> str | None:
        if value is None or (value.isascii() and not set(value) & set("\r\n")):
            return value
        raise ValueError(
            f"received {value!r}; accepted: ASCII characters, no line end"
        )

    @model_validator(mode="after")
    def _check(self) -> LogFiles:
        if not self.path or not all(self.path):
            raise ValueError("`path` is empty; give a file or a glob")
        taken = log_format(self.format).settings
        for field in ("columns", "header", "delimiter", "quote", "escape"):
            if getattr(self, field) and field not in taken:
                raise ValueError(
                    f"`{field}` is for csv and tsv;"
                    f" received `format: {self.format}`"
                )
        if "header" in taken and not self.header and self.columns is None:
            raise ValueError(
                f"a {self.format} log needs `columns: [...]` or `header: true`"
            )
        if self.columns is not None:
            for name in self.columns:
                if self.columns.count(name) > 1:
                    raise ValueError(f"column {name!r} is named twice")
        if self.quoting and self.quoting in self.separator:
            raise ValueError(
                f"`quote` is {self.quoting!r}, which is"
                f" {'in ' * (len(self.separator) > 1)}`delimiter` too:"
                f" {self.separator!r}"
            )
        if self.escape and self.escape in (*self.separator, self.quoting):
            raise ValueError(
                f"`escape` is {self.escape!r}, and so is `delimiter` or `quote`"
            )
        for value in self.null_values:
            if self.escape and self.escape in value:
                raise ValueError(
                    f"`null_values`: received {value!r}; with `escape:"
                    f" {self.escape}` values are compared after it was taken"
                    " away"
                )
        return self

    @property
    def all_columns(self) -> tuple[str, ...] | None:
        """`columns` and those that folders in `path` tell, such as dt=*."""
        if self.columns is None:
            return None
        folders = "/".join(self.path)  # the last part may be one too
        partitions = re.findall(r"(?:^|(?<=/))([^/={}*?\[\]]+)=", folders)
        return tuple(dict.fromkeys((*self.columns, *partitions)))

    @property
    def separator(self) -> str:
        """The column delimiter, where the format has such."""
        default = log_format(self.format).settings.get("delimiter", "")
        return self.delimiter or str(default)

    @property
    def quoting(self) -> str | None:
        """The quote character; tsv has none unless the config names one."""
        default = log_format(self.format).settings.get("quote")
        return self.quote or (str(default) if default else None)

    @property
    def too_long(self) -> str:
        """The reason against a line or record past the limit."""
        return f"longer than max_line_bytes, {self.max_line_bytes:,}"
