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

from components.statistics_gen.split_statistics import statistics_of

# Options of stock StatisticsGen: this executor leaves them to stock.
_OPTIONS = (
    specs.STATS_OPTIONS_JSON_KEY,
    specs.EXCLUDE_SPLITS_KEY,
    specs.SAMPLE_RATE_BY_SPLIT_KEY,
)


class Executor(tfx_statistics_gen.Executor):
    """Reads each file once, in large batches, by several threads.

    The files are those of TFX's executor. With options of TFDV, or a schema,
    TFX's executor does the work.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component."""
        options = [exec_properties.get(key) for key in _OPTIONS]
        if (
            any(option not in (None, "null", "[]", "{}") for option in options)
            or exec_properties.get(specs.SHARDED_STATS_OUTPUT_KEY)
            or input_dict.get(specs.SCHEMA_KEY)
        ):
            super().Do(input_dict, output_dict, exec_properties)
            return
        examples = artifact_utils.get_single_instance(
            input_dict[specs.EXAMPLES_KEY]
        )
        statistics = artifact_utils.get_single_instance(
            output_dict[specs.STATISTICS_KEY]
        )
        splits = artifact_utils.decode_split_names(examples.split_names)
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
            source = artifact_utils.get_split_uri([examples], split)
            target = artifact_utils.get_split_uri([statistics], split)
            found = statistics_of(sorted(fileio.glob(f"{source}/*")))
            fileio.makedirs(target)
            path = os.path.join(target, tfx_statistics_gen.DEFAULT_FILE_NAME)
            with fileio.open(path, "wb") as file:
                file.write(found.SerializeToString(deterministic=True))
