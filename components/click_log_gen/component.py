"""ClickLogGen: raw click logs to labelled, split tf.Examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts
from tfx.types.experimental.simple_artifacts import Dataset

from components.click_log_gen import executor
from components.click_log_gen.config.sections import DataConfig
from models.config.sequences import SequenceFeature


class ClickLogGenSpec(types.ComponentSpec):
    """Interface of ClickLogGen."""

    PARAMETERS = {
        "data": component_spec.ExecutionParameter(type=str),
        "columns": component_spec.ExecutionParameter(type=str),
        "ranges": component_spec.ExecutionParameter(type=str),
        "histories": component_spec.ExecutionParameter(type=str),
        "data_version": component_spec.ExecutionParameter(type=str),
        "code_version": component_spec.ExecutionParameter(type=str),
        "times": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = {
        "examples": component_spec.ChannelParameter(
            type=standard_artifacts.Examples
        ),
        # Kubeflow finds an artifact's class by its name: TFX's own work.
        "rejected": component_spec.ChannelParameter(type=Dataset),
    }


class ClickLogGen(base_beam_component.BaseBeamComponent):
    """Reads the logs of `data` and writes examples of `columns`.

    Where there are `data.clicks`, they are joined to the impressions.

    `data_version` and `code_version` stand for the files' and the code's
    state: a run whose versions are known reuses the cached examples.

    `ranges` says of columns of integers below what they are, for counts;
    `weighted` of lists with weights what separates a value from its weight;
    `sizes` of vectors how many numbers they have; `sequences` of ordered lists
    the column that they are as long as. `histories` are those that are made
    from the log; their columns are in `columns` too. `days` says that the rows
    of train carry their times, as those of the other splits do.

    `rejected` holds the rows that are not in the examples, with file, place
    and reason, in `rejected-*.jsonl`, and in `counts.json` how many there are.
    """

    SPEC_CLASS = ClickLogGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        data: DataConfig,
        columns: Mapping[str, str],
        separators: Mapping[str, str],
        data_version: str = "",
        code_version: str = "",
        ranges: Mapping[str, int] | None = None,
        weighted: Mapping[str, str] | None = None,
        sizes: Mapping[str, int] | None = None,
        histories: Sequence[SequenceFeature] = (),
        sequences: Mapping[str, str] | None = None,
        days: bool = False,
    ) -> None:
        signs, sizes, beside = weighted or {}, sizes or {}, sequences or {}
        # Checks that come later change no example.
        unneeded: dict[str, Any] = {"drift": True, "leaks": True}
        if "by" not in data.split.model_fields_set:
            unneeded["split"] = {"by"}  # the executor says what was not given
        described = {
            name: [
                kind,
                separators.get(name),
                signs.get(name),
                sizes.get(name, 0),
                beside.get(name),
            ]
            for name, kind in columns.items()
        }
        super().__init__(
            spec=ClickLogGenSpec(
                data=data.model_dump_json(exclude=unneeded),
                columns=json.dumps(described),
                ranges=json.dumps(ranges or {}),
                histories=json.dumps(
                    [one.model_dump(mode="json") for one in histories]
                ),
                data_version=data_version,
                code_version=code_version,
                # Absent without a use: examples in the cache stay valid.
                times="all" if days else None,
                examples=types.Channel(type=standard_artifacts.Examples),
                rejected=types.Channel(type=Dataset),
            )
        )
