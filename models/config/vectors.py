"""Config of vectors: of a row, and those of a file for a feature's values."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any

from pydantic import Field, model_validator

from models.config.section import Name, PathText, Section, long_form


class Pretrained(Section):
    """Embeddings that another model made, a vector for each value."""

    path: PathText
    """File of the vectors.

    .parquet, .csv or .tsv: a column of values, beside it a column of lists, or
    a column for each number. .npy: a matrix, with `ids`.
    """
    ids: PathText | None = None
    """Text file with the value of each row of a .npy, a line each."""
    key: Name | None = None
    """Column of the values; null: the first one."""
    frozen: bool = False
    """Keep the vectors as they are, and zeros for values without one.

    Else training goes on from them, and other values begin at random.
    """

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        accepted = "a path, or {path, ids, key, frozen}"
        return long_form(cls, value, "path", (str,), accepted)

    @model_validator(mode="after")
    def _is_of_a_kind(self) -> Pretrained:
        kind = PurePath(self.path).suffix
        if kind not in (".npy", ".parquet", ".csv", ".tsv"):
            raise ValueError(
                f"`path` received {self.path!r}; accepted: a name that ends in"
                " .parquet, .csv, .tsv or .npy"
            )
        if (kind == ".npy") != (self.ids is not None):
            raise ValueError(
                f"`ids` received {self.ids!r}; accepted with {kind}:"
                + (" the path of its values" if kind == ".npy" else " null")
            )
        return self


class VectorFeature(Section):
    """A vector of fixed length a row, such as an embedding of the item.

    A missing vector is zeros; the input `<name>_missing` is 1 for it, else 0.
    """

    name: Name
    """Column."""
    size: Annotated[int, Field(ge=1, le=4096)]
    """Numbers of a vector; a row with another count is rejected."""
    separator: Annotated[str, Field(pattern=r"^[^\d.eE+-]+$")] = ","
    """Separator between the numbers in a text, such as a cell of a CSV file or
    a request."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs: of the numbers, and `_missing`."""
        names = [f"{self.name}_{number}" for number in range(self.size)]
        return (*names, f"{self.name}_missing")
