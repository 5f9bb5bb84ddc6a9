"""StatisticsGen's work: TFDV's statistics of each split, without Beam."""

from __future__ import annotations

import json
import os
from typing import Any

from tfx import types
from tfx.components.statistics_gen import executor as tfx_statistics_gen
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import io_utils

from components.data_checks import SINGLE_FEATURES
from components.statistics_gen.single_feature import Sample
from components.statistics_gen.split_statistics import fill, statistics_of
from models.config.training import LABEL
from models.input_pipeline import row_counts

_TRAIN = "train"

# Options of stock StatisticsGen: this executor leaves them to stock.
_OPTIONS = (
    specs.STATS_OPTIONS_JSON_KEY,
    specs.EXCLUDE_SPLITS_KEY,
    specs.SAMPLE_RATE_BY_SPLIT_KEY,
)


class Executor(tfx_statistics_gen.Executor):
    """Reads each file once, in large batches, by several threads.

    The files are those of TFX's executor. With options of TFDV, a schema, or
    workers of Beam's, TFX's executor does the work. Beside the splits lies what
    each feature alone tells of the label: see `single_feature`.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component."""
        examples = artifact_utils.get_single_instance(
            input_dict[specs.EXAMPLES_KEY]
        )
        statistics = artifact_utils.get_single_instance(
            output_dict[specs.STATISTICS_KEY]
        )
        splits = artifact_utils.decode_split_names(examples.split_names)
        weighted = json.loads(exec_properties.get("weighted") or "{}")
        sequences = json.loads(exec_properties.get("sequences") or "[]")
        options = [exec_properties.get(key) for key in _OPTIONS]
        if (
            exec_properties.get("on_beam")
            or any(
                option not in (None, "null", "[]", "{}") for option in options
            )
            or exec_properties.get(specs.SHARDED_STATS_OUTPUT_KEY)
            or input_dict.get(specs.SCHEMA_KEY)
        ):
            super().Do(input_dict, output_dict, exec_properties)
            if _TRAIN in splits:
                some = _sample(examples, whole=False)
                fill(some, _files(examples, _TRAIN), weighted)
                _leave(some, statistics)
            return
        statistics.split_names = examples.split_names
        statistics.span = examples.span
        statistics.set_string_custom_property(
            tfx_statistics_gen.STATS_DASHBOARD_LINK, ""
        )
        statistics.set_json_value_custom_property(
            tfx_statistics_gen.SAMPLE_RATE_BY_SPLIT_PROPERTY_NAME,
            json.dumps(dict.fromkeys(splits, 1.0), sort_keys=True),
        )
        for split in splits:
            first = split == _TRAIN
            sample = _sample(examples, whole=True) if first else None
            target = artifact_utils.get_split_uri([statistics], split)
            found = statistics_of(
                _files(examples, split),
                sample=sample,
                weighted=weighted,
                sequences=sequences,
            )
            if sample is not None:
                _leave(sample, statistics)
            fileio.makedirs(target)
            path = os.path.join(target, tfx_statistics_gen.DEFAULT_FILE_NAME)
            with fileio.open(path, "wb") as file:
                file.write(found.SerializeToString(deterministic=True))


def _files(examples: types.Artifact, split: str) -> list[str]:
    source = artifact_utils.get_split_uri([examples], split)
    return sorted(fileio.glob(f"{source}/*"))


def _sample(examples: types.Artifact, whole: bool) -> Sample:
    rows = row_counts.read([examples.uri]) or {}
    return Sample(LABEL, rows.get(_TRAIN), whole)


def _leave(sample: Sample, statistics: types.Artifact) -> None:
    text = json.dumps(sample.report(), indent=1)
    path = os.path.join(statistics.uri, SINGLE_FEATURES)
    io_utils.write_string_file(path, text)
