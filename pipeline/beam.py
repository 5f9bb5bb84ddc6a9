"""Beam's options of a run: which runner, and what its workers are sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_IN_PROCESS = ("fnapirunner", "directrunner", "bundlebaseddirectrunner")
# Workers that somebody else has started, with code of their own.
_STARTED = ("EXTERNAL", "LOOPBACK", "PROCESS")
_SENDS_CODE = ("--sdk_container_image", "--setup_file", "--extra_package")


def arguments(given: Sequence[str]) -> list[str]:
    """`runner.beam` of the config, and what it leaves open."""
    result = list(given)
    if not any(a.startswith("--runner") for a in result):
        # Beam's default first tries to download another runner.
        result.insert(0, "--runner=FnApiRunner")
    if _have_code(result) and not any(a.startswith(_SENDS_CODE) for a in given):
        # Else TFX packs itself into an archive for each component, and leaves
        # it there: seconds and 44 MB, for workers that do not look at it.
        result.append("--sdk_container_image=none")
    return result


def threads(given: Sequence[str]) -> list[str]:
    """Options that let ingest and Transform use two cores in one process.

    Their work is in Arrow and TensorFlow, which leave the interpreter to others
    meanwhile; more threads would mostly wait for it, and each holds 120 MB of
    rows. Not for work whose elements are pickled by Python code: Beam then may
    cut one in two (`components/transform/analyze.py`).
    """
    if not in_process(given) or any(a.startswith("--direct_") for a in given):
        return []
    return ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]


def open_files(given: Sequence[str] = ()) -> None:
    """Gives Beam's file systems their options before a pipeline does.

    Without any, that of s3:// refuses. Credentials and endpoint are those of
    the environment.
    """
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    FileSystems.set_options(PipelineOptions(list(given)))


def in_process(given: Sequence[str]) -> bool:
    """True if Beam's workers share this process's files and packages."""
    runner = _options(given)["runner"] or "DirectRunner"
    return runner.rsplit(".", 1)[-1].lower() in _IN_PROCESS


def _have_code(given: Sequence[str]) -> bool:
    """True if Beam's workers find this project without being sent it."""
    return in_process(given) or _options(given)["environment_type"] in _STARTED


def _options(given: Sequence[str]) -> dict[str, Any]:
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(list(given)).get_all_options()
