"""Groups of a column on the way from examples to the export of a training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from components.transform.executor import Executor
from models.errors import InputError
from models.trainer import run_fn
from serving import manifest
from tests.components.transform import runs

SPEC: dict[str, Any] = {
    "label": tf.io.FixedLenFeature([], tf.int64),
    "site": tf.io.VarLenFeature(tf.string),
    "user": tf.io.VarLenFeature(tf.string),
}
FEATURES = {"categorical": [{"name": "site", "min_count": 1}]}


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    found: list[dict[str, Any]] = []
    for row in range(count):
        site = draw.randrange(5)
        one = {"site": f"s{site}", "label": int(draw.random() < site / 5)}
        if row % 10:
            one["user"] = f"u{draw.randrange(40)}"
        found.append(one)
    return found


def fit(folder: Path, name: str, loss: Any, base: str | None = None) -> Any:
    """Trains and exports; `training.json` and the manifest."""
    (folder / "base").mkdir(exist_ok=True)
    told = {"model": base, "state": base, "reason": "none"}
    (folder / "base/base.json").write_text(json.dumps(told))
    where = folder / "transformed"
    custom: dict[str, Any] = {
        "features": FEATURES,
        "group": "user",
        "model": {"name": "wide_deep", "hidden": [4], "dropout": 0.0},
        "optimizer": {"name": "lion", "learning_rate": 0.01},
        "train": {"batch_size": 64, "epochs": 1, "jit": False, "loss": loss},
        "negatives": {},
    }
    if base is not None:
        custom["train"]["warm_start"] = "latest_blessed"
    run_fn(
        SimpleNamespace(
            transform_output=str(folder / "graph"),
            train_files=[f"{where}/Split-train/*"],
            eval_files=[f"{where}/Split-eval/*"],
            model_run_dir=str(folder / name),
            serving_model_dir=str(folder / name / "Format-Serving"),
            base_model=str(folder / "base"),
            hyperparameters=None,
            custom_config=custom,
        )
    )
    training = json.loads((folder / name / "training.json").read_text())
    return training, manifest.about(str(folder / name / "Format-Serving"))


@pytest.mark.ci
def test_groups_are_compared_told_and_not_served(tmp_path: Path) -> None:
    splits = {"train": rows(400, 1), "eval": rows(200, 2)}
    runs.run(
        Executor,
        tmp_path,
        {name: {"part": found} for name, found in splits.items()},
        SPEC,
        FEATURES,
        custom_config=json.dumps({"features": FEATURES, "group": "user"}),
    )
    plain, _ = fit(tmp_path, "plain", "logloss")
    assert plain["loss"]["calibrated"]
    assert plain["loss"]["pairs"] is None

    focal, about = fit(tmp_path, "focal", {"name": "focal", "gamma": 1})
    assert not focal["loss"]["calibrated"]
    assert about["loss"] == focal["loss"]
    assert any("evaluate.calibrate" in line for line in focal["warnings"])

    state = str(tmp_path / "plain/Format-Training")
    assert Path(state).is_dir()
    jrc, about = fit(tmp_path, "jrc", {"name": "jrc", "group": "user"}, state)
    assert jrc["loss"]["group"] == "user"
    pairs = jrc["loss"]["pairs"]
    assert pairs["comparable"] <= 360 < pairs["rows"] == 400
    assert pairs["share_of_rows"] > 0.9
    assert about["loss"] == jrc["loss"]
    assert jrc["warm_start"]["reason"] is None
    fresh = jrc["warm_start"]["initialised"]
    assert fresh
    assert all("level" in name for name in fresh)
    served = tf.saved_model.load(f"{tmp_path}/jrc/Format-Serving")
    signature = served.signatures["serving_default"]
    assert signature.structured_input_signature[1].keys() == {"site"}

    with pytest.raises(InputError, match="no group of the 400 training rows"):
        none = tmp_path / "none"
        alone = [{**row, "user": str(n)} for n, row in enumerate(rows(400, 1))]
        runs.run(
            Executor,
            none,
            {"train": {"part": alone}, "eval": {"part": splits["eval"]}},
            SPEC,
            FEATURES,
            custom_config=json.dumps({"features": FEATURES, "group": "user"}),
        )
        fit(none, "pairs", {"name": "pairwise", "group": "user"})
