"""A model a day on Kubeflow: counts of values go by way of an object store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.preprocessing import ledger_file
from pipeline.config import PipelineConfig
from pipeline.runners.kubeflow import compiler
from serving.object_store import StoreFiles, fetch
from tests.pipeline import google_server, moto_server
from tests.pipeline.kubeflow_tasks import Cluster
from tests.pipeline.small import IMAGE, make_config

BUCKET = "lionctr-admission"
RULE = {"name": "site", "min_count": 4, "dim": 2, "admission": 2}


def write_day(path: Path, day: int) -> None:
    """400 rows in order of their times; `rare` twice, and new sites daily."""
    lines = ["click\tprice\tsite\tts"]
    for row in range(400):
        site = "rare" if row < 2 else f"site{day + row % 10}"
        hour, minute = divmod(3 * row, 60)
        click = int(row * 7919 % 100 < 20 + 40 * (row % 3 == 0))
        time = f"2024-03-0{day}T{hour:02d}:{minute:02d}:00Z"
        lines.append(f"{click}\t{row % 17}\t{site}\t{time}")
    path.write_text("\n".join(lines) + "\n", "utf-8")


def config_of(
    home: Path, place: str, day: int, environment: dict[str, str]
) -> PipelineConfig:
    write_day(home / f"{day}.tsv", day)
    log = {"path": str(home / f"{day}.tsv"), "format": "tsv", "header": True}
    return make_config(
        home,
        root=f"{place}/artifacts",
        data={
            "impressions": log,
            "label": "click",
            "time": "ts",
            "split": {"by": "time", "eval": 0.2},
        },
        features={"numeric": ["price"], "categorical": [RULE]},
        train={"epochs": 1, "jit": False, "warm_start": "latest_blessed"},
        # So few rows are for the counts, not for a good model.
        evaluate={
            "baseline": None,
            "metrics": {
                "auc": {"min": 0.01},
                "calibration": {"min": 0.01, "max": 99},
                "normalized_entropy": {"max": 9},
            },
            "too_few": "pass",
        },
        serving_gate="off",
        push={"to": f"{place}/serving"},
        runner={
            "volumes": {"my-claim": str(home)},
            "kubeflow": {"defaults": {"env": environment}},
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("store", ["s3", "gs"])
def test_the_second_days_run_goes_on_from_the_counts_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    server = {"s3": moto_server, "gs": google_server}[store]
    with server.running(BUCKET) as url:
        environment = {"STORAGE_EMULATOR_HOST": url}
        if store == "s3":
            environment = moto_server.variables(url)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        place = f"{store}://{BUCKET}"
        told: list[dict[str, Any]] = []
        moved = []
        for day in (1, 2):
            out = tmp_path / f"{day}.yaml"
            config = config_of(tmp_path, place, day, environment)
            compiler.compile_to(config, IMAGE, out)
            home = tmp_path / f"run{day}"
            cluster = Cluster(out, home, environment=environment)
            cluster.run()
            cluster._fetch(cluster.outputs["Trainer"]["model_run"], home / "r")
            text = (home / "r/training.json").read_text("utf-8")
            training = json.loads(text)
            told.append(training["admission"]["site"])
            moved.append(training["warm_start"]["features"])
        pushed = StoreFiles().below(f"{place}/serving/.training/Small_ctr")
        ledgers = [n for n in pushed if n.endswith("vocab_site.arrow")]
        assert len(ledgers) == 2
        days = set()
        for number, name in enumerate(ledgers):
            folder = f"{place}/serving/.training/Small_ctr/{name}"
            fetch(folder.rpartition("/")[0], tmp_path / f"ledger{number}")
            found = ledger_file.read(
                str(tmp_path / f"ledger{number}"), "vocab_site"
            )
            days.add(found.day)
    assert days == {19783, 19784}
    for one, day in zip(told, (1, 2), strict=True):
        assert one.pop("day") == f"2024-03-0{day}"
    # known, admitted, new, waiting, evicted, capped, forgotten
    assert [tuple(one.values()) for one in told] == [
        (11, 10, 10, 1, 0, 0, 0),
        (12, 12, 2, 0, 0, 0, 0),  # a new site, and `rare` by both days
    ]
    assert moved == [{}, {"site": {"kept": 10, "new": 2, "gone": 0}}]
