"""CuratedSchema's work: TFX's copy of the file, and a word if it is bad."""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format
from tfx import types
from tfx.components.schema_gen.import_schema_gen import executor

from models.errors import InputError


class Executor(executor.Executor):
    """Copies the schema."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Raises:
            InputError: the file is no schema.
        """
        try:
            super().Do(input_dict, output_dict, exec_properties)
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise InputError(
                f"data.curated_schema: {exec_properties['schema_file']!r} is no"
                f" schema of TensorFlow Metadata: {error}. Accepted: the text"
                " form, as SchemaGen writes it"
            ) from error
