"""Config section `features`: what the model sees of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from models.config.admission import Admission
from models.config.labels import FURTHER
from models.config.numeric import SHALLOW, NumericFeature
from models.config.section import FieldError, Name, PositiveInt, Section
from models.config.sequences import SequenceFeature
from models.config.sequences import check as check_sequences
from models.config.served_names import served_names
from models.config.time_features import Part, TimeFeatures
from models.config.vectors import Pretrained, VectorFeature

LABEL = "label"  # the feature name of the label in every tf.Example
WEIGHT = "example_weight"  # that of the row's weight, where there is one
RESERVED = {LABEL: "label", WEIGHT: "weight"}
MISSING = "missing"  # as `serve`: no value
Kind = Literal["float", "int", "string", "time", "vector"]
"""Content of a column; `time` is the text of one, `vector` several numbers."""


def reserved(name: str) -> str:
    """Text of the error about a column of such a name."""
    what = RESERVED.get(name, "label")
    return f"{name!r} is reserved for the {what}; rename the column"


def is_reserved(name: str) -> bool:
    """True if examples have something else of this name."""
    return name in RESERVED or name.startswith(FURTHER)


def _category(value: Any) -> Any:
    """The text of a category that YAML read as a number or a boolean."""
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return repr(value) if isinstance(value, float) else value


def _separator(value: Any) -> Any:
    """`weights: true` is short for the usual one."""
    if isinstance(value, bool):
        return ":" if value else None
    return value


Separator = Annotated[
    str, Field(pattern=r"^[^\s\d.eE+-]+$"), BeforeValidator(_separator)
]
Category = Annotated[str, Field(min_length=1), BeforeValidator(_category)]


class CategoricalFeature(Section):
    """One category a row, or a list of them.

    A missing value has an id of its own.
    """

    name: Name
    """Column."""
    encode: Literal["vocab", "hash", "identity"] = "vocab"
    """How a value becomes an id.

    `vocab` looks it up among the values of the training split. `hash` needs no
    vocabulary. `identity` takes integers in [0, buckets).
    """
    min_count: PositiveInt = 2
    """Least number of occurrences of a value in the vocabulary."""
    max_size: PositiveInt = 1_000_000
    """Greatest size of the vocabulary; the commonest values stay."""
    oov_buckets: PositiveInt = 1
    """Ids that share the values outside the vocabulary."""
    admission: Annotated[
        Admission | None, Field(exclude_if=lambda value: value is None)
    ] = None
    """A vocabulary by sightings of the last days, carried from run to run:
    days, or a section; null: the values of each run alone count."""
    buckets: PositiveInt = 262_144
    """Number of ids, with `encode: hash` or `identity`."""
    dim: PositiveInt = 16
    """Embedding dimension."""
    list: Annotated[str, Field(min_length=1)] | None = None
    """Separator between the values of a list in a text, such as a cell of a CSV
    file or a request; null: one value a row.

    The values of a list of JSON, parquet or Avro may hold it. In a tf.Example
    one value is a text, several are a list.
    """
    weights: Separator | None = None
    """Separator between a value of a list and its weight, such as `:` in
    `a:0.3|b`; true stands for `:`, null for values without weights.

    A weight is a number, 0 or more; a value without one has the weight 1.
    """
    pool: Literal["mean", "sum", "attention"] = "mean"
    """How a list's embeddings become one: mean or sum, weighted where there
    are `weights`, or learned attention."""
    table: Name | None = None
    """Name of a shared vocabulary and embedding table.

    Features with the same `table`, or whose `table` is another feature's name,
    share both.
    """
    pretrained: Pretrained | None = None
    """Embeddings to begin with, or to keep: a path, or a mapping."""
    serve: Category | None = None
    """Value of every request, for a feature that only training sees.

    Such as the position of an ad, which is not known when ads are ranked.
    `missing` stands for no value; null: the caller sends the value. `shallow`:
    the network does not see it; a weight of each value is added to the logit,
    and left out when served.
    """

    @property
    def rows(self) -> str:
        """Whose vocabulary and embeddings it uses."""
        return self.table or self.name

    @model_validator(mode="after")
    def _admission_has_values(self) -> CategoricalFeature:
        if self.admission is not None and self.encode != "vocab":
            raise ValueError(
                "`admission` admits values to a vocabulary; received `encode:"
                f" {self.encode}`, which gives every value an id. Accepted:"
                " `encode: vocab`, or no `admission`"
            )
        return self

    @model_validator(mode="after")
    def _pool_is_of_a_list(self) -> CategoricalFeature:
        if self.pool != "mean" and self.list is None:
            raise ValueError(
                f"`pool: {self.pool}` needs several values a row: give `list`,"
                " their separator"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_of_a_list(self) -> CategoricalFeature:
        if self.weights is None:
            return self
        if self.list is None:
            raise ValueError(
                "`weights` needs several values a row: give `list`, their"
                " separator"
            )
        if self.weights in self.list or self.list in self.weights:
            raise ValueError(
                f"`list` and `weights` received {self.list!r} and"
                f" {self.weights!r}; accepted: two separators that are not in"
                " each other"
            )
        if self.pool == "attention":
            raise ValueError(
                "`weights` received a separator with `pool: attention`, which"
                " learns its weights; accepted: mean, sum"
            )
        return self

    @model_validator(mode="after")
    def _pretrained_has_values(self) -> CategoricalFeature:
        if self.pretrained is None:
            return self
        if self.serve == SHALLOW:
            raise ValueError(
                "`serve: shallow` has no embedding; leave `pretrained` out"
            )
        if self.encode != "vocab":
            raise ValueError(
                "`pretrained` works with `encode: vocab`; received `encode:"
                f" {self.encode}`"
            )
        if self.pretrained.frozen and self.pool == "attention":
            raise ValueError(
                "`pool: attention` received with frozen embeddings; accepted:"
                " mean, sum"
            )
        return self

    @model_validator(mode="after")
    def _identity_is_single(self) -> CategoricalFeature:
        if self.list is not None and self.encode == "identity":
            raise ValueError(
                "`list` works with `encode: vocab` or `encode: hash`;"
                " received `encode: identity`"
            )
        return self

    @model_validator(mode="after")
    def _constant_is_an_id(self) -> CategoricalFeature:
        if self.serve == SHALLOW and self.list is not None:
            raise ValueError(
                "`serve: shallow` takes one value a row; received `list`"
            )
        if self.encode != "identity" or self.serve in (None, MISSING, SHALLOW):
            return self
        text = str(self.serve)
        if not text.isdecimal() or int(text) >= self.buckets:
            raise ValueError(
                f"`serve` received {text!r}; accepted with `encode: identity`:"
                f" missing, or an integer from 0 to {self.buckets - 1}"
            )
        return self


_SHARED = {
    "vocab": (
        "encode",
        "dim",
        "min_count",
        "max_size",
        "oov_buckets",
        "admission",
        "pretrained",
    ),
    "hash": ("encode", "dim", "buckets"),
    "identity": ("encode", "dim", "buckets"),
}


class Cross(Section):
    """A hashed cross of features, which the wide part sees."""

    of: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Features to cross, two or more."""
    buckets: PositiveInt = 100_000
    """Number of ids that the cross is hashed to."""

    @property
    def name(self) -> str:
        """Name of the cross in layouts: C1_x_C2."""
        return "_x_".join(self.of)


class FeatureDefaults(Section):
    """Defaults of categorical features; `dim` is that of numeric ones too."""

    encode: Literal["vocab", "hash", "identity"] | None = None
    """Default of `encode`."""
    min_count: PositiveInt | None = None
    """Default of `min_count`."""
    max_size: PositiveInt | None = None
    """Default of `max_size`."""
    oov_buckets: PositiveInt | None = None
    """Default of `oov_buckets`."""
    admission: Annotated[
        Admission | None, Field(exclude_if=lambda value: value is None)
    ] = None
    """Default of `admission`, of features with a vocabulary."""
    buckets: PositiveInt | None = None
    """Default of `buckets`."""
    dim: PositiveInt | None = None
    """Default of `dim`."""

    def fill(self, kind: str, feature: Any) -> Any:
        """The feature in full, as far as it is one."""
        if isinstance(feature, str):  # [I1] is short for [{name: I1}]
            feature = {"name": feature}
        if not isinstance(feature, Mapping):
            return feature
        own_settings = self.model_dump(exclude_none=True)
        if kind == "numeric":
            own_settings = {"dim": self.dim} if self.dim else {}
        if {**own_settings, **feature}.get("encode", "vocab") != "vocab":
            own_settings.pop("admission", None)
        return {**own_settings, **feature}

    def fill_time(self, time: Any) -> Any:
        """The section `features.time` in full, as far as it is one."""
        try:
            time = TimeFeatures.in_full(time)
        except ValueError:  # its own error is told
            return time
        if self.dim and isinstance(time, Mapping):
            return {"dim": self.dim, **time}
        return time


class Features(Section):
    """The columns that the model sees of a row."""

    defaults: FeatureDefaults = FeatureDefaults()
    """Settings of all features that set none of their own."""
    numeric: tuple[NumericFeature, ...] = ()
    """Numbers: column names, or mappings with `name`."""
    categorical: tuple[CategoricalFeature, ...] = ()
    """Categories: column names, or mappings with `name`."""
    vectors: tuple[VectorFeature, ...] = ()
    """Vectors of fixed length: mappings with `name` and `size`."""
    time: TimeFeatures | None = None
    """Hour, weekday and the like of `data.time`: a list of them, or a section
    with `of`. Crosses call them by the column: timestamp_hour."""
    crosses: tuple[Cross, ...] = ()
    """Hashed crosses of single-valued features."""
    sequences: tuple[SequenceFeature, ...] = ()
    """Ordered lists of items, such as the ads that a user clicked."""

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        try:
            defaults = FeatureDefaults.model_validate(value.get("defaults", {}))
        except ValidationError:
            defaults = FeatureDefaults()  # its own error is told
        full = dict(value)
        for kind in ("numeric", "categorical"):
            if isinstance(value.get(kind), list | tuple):
                full[kind] = [defaults.fill(kind, one) for one in value[kind]]
        if "time" in value:
            full["time"] = defaults.fill_time(value["time"])
        return full

    @model_validator(mode="after")
    def _check(self) -> Features:
        names = [f.name for f in self.numeric]
        names += [f.name for f in self.categorical]
        names += [f.name for f in self.vectors]
        if not names:
            raise ValueError(
                "declare at least one of numeric, categorical and vectors"
            )
        paths = [f"numeric.{i}" for i in range(len(self.numeric))]
        paths += [f"categorical.{i}" for i in range(len(self.categorical))]
        paths += [f"vectors.{i}" for i in range(len(self.vectors))]
        check_sequences(self.sequences, {f.name: f for f in self.categorical})
        for i, sequence in enumerate(self.sequences):
            made = [sequence.column, *sequence.columns]
            names += made
            paths += [f"sequences.{i}"] * len(made)
        timed: dict[str, Part] = {}
        if self.time is not None and self.time.source is not None:
            timed = self.time.names
            names += [self.time.time.column, *timed]
            paths += ["time"] * (1 + len(timed))
        seen: set[str] = set()
        for path, name in zip(paths, names, strict=True):
            if name in seen:
                raise FieldError(
                    path,
                    f"feature {name!r} is declared twice"
                    + (", as a column and by the time" * (path == "time")),
                )
            seen.add(name)
            if is_reserved(name):
                raise FieldError(path, reserved(name))
        extra = [
            (f"numeric.{i}", f.name, name)
            for i, f in enumerate(self.numeric)
            for name in (f.indicator, *f.piece_names)
        ] + [
            (f"vectors.{i}", f.name, name)
            for i, f in enumerate(self.vectors)
            for name in f.inputs
        ]
        for path, name, input_ in extra:
            if input_ in seen:
                raise FieldError(
                    path,
                    f"{name!r} makes an input {input_!r}, which is a feature"
                    " too. Rename one",
                )
        served_names([name for name in names if name not in timed])
        if not self.served_kinds():
            raise ValueError(
                "every feature has `serve`: a request would hold nothing."
                " Leave it out of one at least"
            )
        single = {f.name for f in self.categorical if f.list is None} | {
            f.name for f in self.numeric if f.ids
        }
        single |= timed.keys()
        single -= self.shallow()
        for number, cross in enumerate(self.crosses):
            for name in cross.of:
                if name not in seen:
                    raise FieldError(
                        f"crosses.{number}",
                        f"cross {list(cross.of)} is over {name!r}, which is"
                        " not declared. Declared:"
                        f" {', '.join(sorted(single)) or 'none'}",
                    )
                if name not in single:
                    raise FieldError(
                        f"crosses.{number}",
                        f"cross {list(cross.of)} is over {name!r}; a cross"
                        " takes single-valued categorical features and"
                        " numeric ones in buckets, without `serve: shallow`."
                        " Accepted:"
                        f" {', '.join(sorted(single)) or 'none'}",
                    )
        self._check_tables()
        return self

    def _check_tables(self) -> None:
        """Features that share rows must mean the same by an id."""
        numeric = {f.name for f in self.numeric}
        by_name = {f.name: f for f in self.categorical}
        first: dict[str, CategoricalFeature] = {}
        for number, f in enumerate(self.categorical):
            path = f"categorical.{number}"
            if f.table in numeric:
                raise FieldError(
                    path,
                    f"feature {f.name!r} has table {f.table!r}, a number."
                    " Accepted: a categorical feature, or a name of your own",
                )
            owner = by_name.get(f.rows, f)
            if owner.rows != f.rows:
                raise FieldError(
                    path,
                    f"feature {f.name!r} has table {f.table!r}, which has"
                    f" itself table {owner.table!r}. Give {owner.table!r}",
                )
            other = first.setdefault(f.rows, f)
            for option in _SHARED[f.encode]:
                own_settings, its = getattr(f, option), getattr(other, option)
                if own_settings != its:
                    raise FieldError(
                        path,
                        f"features {other.name!r} and {f.name!r} share a"
                        f" table, so `{option}` must be the same. Received:"
                        f" {its} and {own_settings}",
                    )

    def admitted(self) -> dict[str, Admission]:
        """Table whose vocabulary is admitted -> how."""
        return {
            f.rows: f.admission
            for f in self.categorical
            if f.admission is not None
        }

    def made(self) -> tuple[SequenceFeature, ...]:
        """Sequences that ingest makes from the log."""
        return tuple(s for s in self.sequences if s.from_ is not None)

    def made_columns(self) -> dict[str, str]:
        """Column of examples that ingest makes from the log -> its setting."""
        return {
            column: f"features.sequences.{number}"
            for number, sequence in enumerate(self.sequences)
            if sequence.from_ is not None
            for column in (sequence.column, *sequence.columns)
        }

    def history_sources(self) -> dict[str, str]:
        """Column of the impressions that histories are of -> its setting."""
        sources: dict[str, str] = {}
        for number, sequence in enumerate(self.sequences):
            if sequence.from_ is not None:
                path = f"features.sequences.{number}"
                sources.setdefault(sequence.of, f"{path}.of")
                for place, side in enumerate(sequence.sides):
                    sources.setdefault(side.of, f"{path}.sides.{place}.of")
        return sources

    def ranges(self) -> dict[str, int]:
        """Feature taken as it is -> its integers are from 0 to below."""
        return {
            f.name: f.buckets
            for f in self.categorical
            if f.encode == "identity"
        }

    def constants(self) -> dict[str, str | float | None]:
        """Feature that only training sees -> its value when served.

        None stands for a missing value, as a shallow one has.
        """
        given: dict[str, str | float | None] = {
            f.name: f.serve for f in self.numeric
        }
        given |= {f.name: f.serve for f in self.categorical}
        return {
            name: None if value in (MISSING, SHALLOW) else value
            for name, value in given.items()
            if value is not None
        }

    def shallow(self) -> frozenset[str]:
        """Features with weights of their own, which are not served."""
        shallow = [f.name for f in self.numeric if f.serve == SHALLOW]
        shallow += [f.name for f in self.categorical if f.serve == SHALLOW]
        return frozenset(shallow)

    def lists(self) -> dict[str, str]:
        """Features with several values a row -> their separator in a text."""
        lists = {f.name: f.list for f in self.categories if f.list is not None}
        for sequence in self.sequences:
            lists |= dict.fromkeys(sequence.columns, sequence.separator)
        return lists | {f.name: f.separator for f in self.vectors}

    def weighted(self) -> dict[str, str]:
        """Lists with weights -> what separates a value and its weight."""
        return {
            f.name: f.weights for f in self.categorical if f.weights is not None
        }

    def sequence_of(self) -> dict[str, str]:
        """Column of a sequence, or beside it -> that of the sequence."""
        return {
            name: s.column
            for s in self.sequences
            for name in (s.column, *s.columns)
        }

    def served_kinds(self) -> dict[str, Kind]:
        """`kinds` of the features that a request holds."""
        constants = self.constants()
        return {
            name: kind
            for name, kind in self.kinds().items()
            if name not in constants
        }

    def kinds(self) -> dict[str, Kind]:
        """Raw feature name -> what its column holds, in declared order."""
        kinds: dict[str, Kind] = {f.name: "float" for f in self.numeric}
        for f in self.categories:
            kinds[f.name] = "int" if f.encode == "identity" else "string"
        kinds |= dict.fromkeys(self.sizes(), "vector")
        if self.time is not None and self.time.source is not None:
            kinds[self.time.time.column] = "time"
        return kinds

    def sizes(self) -> dict[str, int]:
        """Vectors -> how many numbers each has; 0: any number of them."""
        sizes = {f.name: f.size for f in self.vectors}
        for sequence in self.sequences:
            sizes |= {
                column: 0
                for column, side in sequence.columns.items()
                if side.items is None
            }
        return sizes

    @property
    def categories(self) -> tuple[CategoricalFeature, ...]:
        """Categorical features, and the lists of sequences as such."""
        by_name = {f.name: f for f in self.categorical}
        lists = []
        for sequence in self.sequences:
            shared = {sequence.column: sequence.items} | {
                column: side.items
                for column, side in sequence.columns.items()
                if side.items is not None
            }
            for column, items in shared.items():
                owner = by_name[items]
                own = {"list": sequence.separator, "serve": None}
                own |= {"name": column, "table": owner.rows}
                lists.append(owner.model_copy(update=own))
        return (*self.categorical, *lists)
