"""A small pipeline and its log, for the tests of Kubeflow."""

import random
from pathlib import Path
from typing import Any

from pipeline.config import PipelineConfig

IMAGE = "registry:5000/team/lion-ctr:0.1"


def make_config(home: Path, **sections: Any) -> PipelineConfig:
    """A tiny pipeline over `home/log.tsv`, pushing to `home/serving`."""
    values: dict[str, Any] = {
        "name": "Small_ctr",
        "root": "minio://mlpipeline/v2/artifacts",
        "data": {
            "impressions": {
                "path": str(home / "log.tsv"),
                "format": "tsv",
                "header": True,
            },
            "label": "click",
            "split": {"by": "hash", "eval": 0.2},
        },
        "features": {
            "numeric": ["price", "age"],
            "categorical": [
                "site",
                {"name": "device", "encode": "hash", "buckets": 16},
            ],
            "crosses": [{"of": ["site", "device"], "buckets": 50}],
        },
        "model": {"hidden": [8], "dropout": 0.0, "embedding_l2": 0.0},
        "optimizer": {"name": "lion", "learning_rate": 3e-3},
        "train": {"batch_size": 64, "epochs": 3, "jit": False},
        "evaluate": {"metrics": {"auc": {"min": 0.6}}, "slices": [["device"]]},
        "push": {"to": str(home / "serving")},
    }
    return PipelineConfig.model_validate(values | sections)


def write_log(path: Path, rows: int = 2000) -> None:
    """Clicks that depend on the site and the device."""
    draw = random.Random(1)
    lines = ["click\tprice\tage\tsite\tdevice"]
    for _ in range(rows):
        site, device = draw.randrange(10), draw.choice(["phone", "desk", "tv"])
        click = draw.random() < 0.05 + 0.5 * (site < 3) + 0.3 * (device == "tv")
        price = f"{draw.random() * 10:.3f}" if draw.random() < 0.95 else ""
        age = draw.randrange(60)
        lines.append(f"{int(click)}\t{price}\t{age}\tsite{site}\t{device}")
    path.write_text("\n".join(lines) + "\n", "utf-8")


def write_shop_logs(folder: Path, rows: int = 2000) -> dict[str, Any]:
    """Impressions, clicks and orders; the section `data` of two labels."""
    data = write_joined_logs(folder, rows)
    draw = random.Random(2)
    head, *clicks = (folder / "clicked.tsv").read_text("utf-8").splitlines()
    orders = [head]
    for line in clicks:
        id, time = line.split("\t")
        if draw.random() < 0.4:
            orders.append(f"{id}\t{int(time) + 20}")
    text = "\n".join(orders) + "\n"
    (folder / "orders.tsv").write_text(text, "utf-8")
    log = {"format": "tsv", "header": True}
    return {
        **data,
        "events": {"orders": {**log, "path": str(folder / "orders.tsv")}},
        "labels": {
            "click": {"from": "clicks"},
            "buy": {
                "from": "orders", "key": "id", "window": "1m", "of": "click"
            },
        },
        "split": {"by": "hash", "eval": 0.3, "test": 0.3},
    }  # fmt: skip


def write_joined_logs(folder: Path, rows: int = 2000) -> dict[str, Any]:
    """Impressions and their clicks; the section `data` of both."""
    write_log(folder / "drawn.tsv", rows)
    head, *lines = (folder / "drawn.tsv").read_text("utf-8").splitlines()
    shown, clicked = [f"id\ttimestamp\t{head[6:]}"], ["id\ttimestamp"]
    for number, line in enumerate(lines):
        click, _, values = line.partition("\t")
        time = 1_764_000_000 + number
        shown.append(f"i{number}\t{time}\t{values}")
        if click == "1":
            clicked.append(f"i{number}\t{time + 5}")
    log = {"format": "tsv", "header": True}
    for name, text in (("shown", shown), ("clicked", clicked)):
        path = folder / f"{name}.tsv"
        path.write_text("\n".join(text) + "\n", "utf-8")
    return {
        "impressions": {**log, "path": str(folder / "shown.tsv")},
        "clicks": {
            **log,
            "path": str(folder / "clicked.tsv"),
            "key": "id",
            "window": "1m",
        },
        "time": "timestamp",
        "split": {"by": "hash", "eval": 0.2},
    }
