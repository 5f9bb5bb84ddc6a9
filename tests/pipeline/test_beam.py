"""Beam's options: the runner is named, and in process no code is packed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import beam
from tests.pipeline.small import make_config


def test_the_runner_is_named() -> None:
    assert beam.arguments(["--direct_num_workers=2"]) == [
        "--runner=FnApiRunner",
        "--direct_num_workers=2",
        "--sdk_container_image=none",
    ]


@pytest.mark.parametrize(
    "given",
    [
        ["--runner=FlinkRunner"],
        ["--runner=DataflowRunner", "--project=p"],
        ["--runner=PortableRunner", "--environment_type=DOCKER"],
        ["--runner=DirectRunner", "--sdk_container_image=mine"],
        ["--setup_file=setup.py", "--runner=DirectRunner"],
    ],
)
def test_what_remote_workers_are_sent_is_left_alone(given: list[str]) -> None:
    assert beam.arguments(given) == given


EXTERNAL = [
    "--runner=PortableRunner",
    "--job_endpoint=localhost:8099",
    "--environment_type=EXTERNAL",
    "--environment_config=localhost:50000",
]


@pytest.mark.parametrize("runner", [[], EXTERNAL])
def test_no_component_packs_itself(runner: list[str]) -> None:
    from tfx.utils import dependency_utils

    given = beam.arguments(runner)
    assert "--sdk_container_image=none" in given
    assert dependency_utils.make_beam_dependency_flags(given) == given


@pytest.mark.parametrize("statistics", [False, True])
def test_ingest_has_threads_and_transform_where_it_is_ours(
    tmp_path: Path, statistics: bool
) -> None:
    from pipeline import dag

    config = make_config(tmp_path, transform={"statistics": statistics})
    given = {
        component.id: component.executor_spec.beam_pipeline_args
        for component in dag.create_pipeline(config, str(tmp_path)).components
        if component.id in ("ClickLogGen", "Transform")
    }
    option = "--direct_running_mode=multi_threading"
    assert option in given["ClickLogGen"]
    assert (option in (given["Transform"] or [])) is not statistics


def test_threads_are_for_runs_in_process_that_do_not_say_otherwise() -> None:
    assert "--direct_running_mode=multi_threading" in beam.threads([])
    assert beam.threads(["--direct_num_workers=1"]) == []
    assert beam.threads(["--runner=FlinkRunner"]) == []
