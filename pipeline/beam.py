"""Beam's options of a run: which runner, and what its workers are sent."""

from __future__ import annotations

from collections.abc import Sequence

_IN_PROCESS = ("fnapirunner", "directrunner", "bundlebaseddirectrunner")
_SENDS_CODE = ("--sdk_container_image", "--setup_file", "--extra_package")


def arguments(given: Sequence[str]) -> list[str]:
    """`runner.beam` of the config, and what it leaves open."""
    result = list(given)
    if not any(a.startswith("--runner") for a in result):
        # Beam's default first tries to download another runner.
        result.insert(0, "--runner=FnApiRunner")
    if in_process(result) and not any(a.startswith(_SENDS_CODE) for a in given):
        # Else TFX packs itself into an archive for each component, and leaves
        # it there: seconds and 44 MB, for workers that are this process.
        result.append("--sdk_container_image=none")
    return result


def in_process(given: Sequence[str]) -> bool:
    """Whether Beam's workers share this process's files and packages."""
    from apache_beam.options.pipeline_options import (
        PipelineOptions,
        StandardOptions,
    )

    runner = PipelineOptions(list(given)).view_as(StandardOptions).runner
    name = (runner or "DirectRunner").rsplit(".", 1)[-1]
    return name.lower() in _IN_PROCESS
