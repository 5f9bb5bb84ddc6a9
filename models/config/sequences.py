"""Config of sequences: ordered lists of items, such as a user's history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from models.config.numeric import SHALLOW
from models.config.section import FieldError, Name, PositiveInt, Section
from optimizers.config.messages import nearest


class Side(Section):
    """A list beside a sequence, with a value for each of its items."""

    of: Name
    """Column of the list; with `from`, column of the impressions.

    With `from`, the column of `data.time` gives the seconds between the row
    and the impression of the item.
    """
    items: Name | None = None
    """Categorical feature whose vocabulary and embeddings it shares; null: the
    values are numbers."""


class SequenceFeature(Section):
    """An ordered list of items a row, such as the ads that a user clicked.

    With `from`, ingest makes the list from the log: what the user did before
    the row's time. A request holds the list, as it does without `from`.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    of: Name
    """Column of the list; with `from`, the column that says whose list it is,
    such as user_id."""
    items: Name
    """Categorical feature whose vocabulary and embeddings the list shares."""
    attend: Name | None = None
    """Feature that is the query of attention, with `dim` of `items`; null:
    `items`."""
    max_len: Annotated[PositiveInt, Field(le=4096)] = 50
    """Greatest length; the newest items stay."""
    order: Literal["newest_last", "newest_first"] = "newest_last"
    """Order of the items in the log and in requests."""
    pooling: Literal["mean", "last", "attention"] = "mean"
    """How the embeddings become one, but in `din` and `bst`: their mean, the
    newest one, or the mean weighted by softmax(item · query / sqrt(dim))."""
    separator: Annotated[str, Field(pattern=r"^[^\d.eE+-]+$")] = "|"
    """Separator between the items in a text, such as a cell of a CSV file or a
    request; no item may hold it."""
    sides: tuple[Side, ...] = ()
    """Lists of the same lengths, such as categories and times of the items."""
    from_: Literal["impressions"] | None = Field(None, alias="from")
    """Log that ingest makes the list from; null: the log has the list."""
    clicked: bool = True
    """With `from`, take clicked impressions only."""
    name: Name | None = None
    """With `from`, name of the list in examples and requests; null:
    <of>_<items>."""

    @property
    def column(self) -> str:
        """Column of examples and requests that holds the list."""
        if self.from_ is None:
            return self.of
        return self.name or f"{self.of}_{self.items}"

    @property
    def columns(self) -> dict[str, Side]:
        """Column of each side in examples and requests, in order."""
        if self.from_ is None:
            return {side.of: side for side in self.sides}
        return {f"{self.column}_{side.of}": side for side in self.sides}

    @property
    def query(self) -> str:
        """Feature that the items are compared with."""
        return self.attend or self.items

    @model_validator(mode="after")
    def _names_are_new(self) -> SequenceFeature:
        if len(self.columns) < len(self.sides):
            names = ", ".join(side.of for side in self.sides)
            raise ValueError(f"`sides` received a column twice: {names}")
        return self

    @model_validator(mode="after")
    def _made_or_read(self) -> SequenceFeature:
        if self.from_ is not None:
            if self.order != "newest_last":
                raise ValueError(
                    f"`order` received {self.order!r} with `from`, which makes"
                    " lists with the newest item last; accepted: newest_last"
                )
            return self
        for field in ("name", "clicked"):
            if field in self.model_fields_set and (
                getattr(self, field) != type(self).model_fields[field].default
            ):
                raise ValueError(
                    f"`{field}` received {getattr(self, field)!r} without"
                    " `from`; accepted with `from: impressions`"
                )
        return self


def check(
    sequences: tuple[SequenceFeature, ...], features: Mapping[str, Any]
) -> None:
    """Refuses sequences that do not fit to the categorical features.

    Args:
        sequences: of the config.
        features: name -> categorical feature.

    Raises:
        FieldError: with the field, from `features` on.
    """
    for number, sequence in enumerate(sequences):
        path = f"sequences.{number}"
        shared = _known(f"{path}.items", sequence.items, features)
        query = _known(f"{path}.attend", sequence.query, features)
        if query.dim != shared.dim:
            raise FieldError(
                f"{path}.attend",
                f"received {sequence.query!r}, of dim {query.dim}; accepted: a"
                f" feature with the dim of {sequence.items!r}, {shared.dim}",
            )
        if sequence.pooling == "attention" and (
            _is_frozen(query) != _is_frozen(shared)
        ):
            raise FieldError(
                f"{path}.attend",
                f"received {sequence.query!r}; accepted: a feature whose"
                f" embeddings are trained as those of {sequence.items!r} are,"
                " or frozen as they are",
            )
        for place, side in enumerate(sequence.sides):
            if side.items is not None:
                where = f"{path}.sides.{place}.items"
                _known(where, side.items, features)


def _known(path: str, name: str, features: Mapping[str, Any]) -> Any:
    accepted = [
        f.name
        for f in features.values()
        if f.list is None and f.encode != "identity" and f.serve != SHALLOW
    ]
    if name not in accepted:
        raise FieldError(
            path,
            f"received {name!r}{nearest(name, accepted)}; accepted: a feature"
            " of features.categorical with one value a row, `encode: vocab` or"
            " `hash`, and without `serve: shallow`:"
            f" {', '.join(accepted) or 'there is none'}",
        )
    return features[name]


def _is_frozen(feature: Any) -> bool:
    return bool(feature.pretrained is not None and feature.pretrained.frozen)
