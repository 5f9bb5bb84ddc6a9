"""Histories through a whole run: made of days, trained on, then asked for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import tensorflow as tf

from pipeline.commands.generate import generate
from tests.e2e.attempts import Attempts

CONFIG = """
name: tiny
data:
  impressions: {path: "logs/{DATE}.parquet", format: parquet}
  label: click
  time: timestamp
  spans: {last: 2}
  split: {by: time, eval: 0.2}
features:
  numeric: [price]
  categorical: [item_id, category]
  sequences:
    - from: impressions
      of: user_id
      items: item_id
      max_len: 20
      sides: [{of: category, items: category}, {of: timestamp}]
model: {name: din, hidden: [16]}
train: {epochs: 1, batch_size: 128, linear_start: off}
evaluate:
  metrics:
    logloss: {max: 1}
    normalized_entropy: {max: 2}
    calibration: {min: 0.1, max: 10}
serving_gate: off
push: {to: models}
"""


@pytest.mark.slow
def test_histories_go_from_days_of_the_log_to_requests(tmp_path: Path) -> None:
    generate(4000, tmp_path / "all", 2, "parquet", shape="shop")
    rows = pd.read_parquet(tmp_path / "all/impressions.parquet")
    rows["category"] = rows["category"].where(rows.index % 9 > 0)
    (tmp_path / "logs").mkdir()
    days = {"2024-01-01": rows.iloc[2000:], "2024-01-02": rows.iloc[:2000]}
    for day, some in days.items():  # late rows in the earlier file
        some.to_parquet(tmp_path / f"logs/{day}.parquet")
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    code, console = Attempts(tmp_path).run()
    assert code == 0, console
    name = "user_id_item_id"
    (folder,) = tmp_path.glob("runs/tiny/artifacts/ClickLogGen/examples/*")
    lengths = []
    for path in folder.glob("Split-eval/*"):
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            found = tf.train.Example.FromString(record).features.feature
            items = found[name].bytes_list.value
            assert len(items) == len(found[f"{name}_category"].bytes_list.value)
            gaps = list(found[f"{name}_timestamp"].float_list.value)
            assert len(items) == len(gaps)
            assert all(gap > 0 for gap in gaps)
            assert gaps == sorted(gaps, reverse=True)
            lengths.append(len(items))
    assert max(lengths) == 20
    served = max((tmp_path / "models/tiny").iterdir())
    signature = tf.saved_model.load(str(served)).signatures["serving_default"]
    given = signature.structured_input_signature[1]
    assert {name, f"{name}_category", f"{name}_timestamp"} <= set(given)
    assert "user_id" not in given
    request = {
        "price": tf.constant([1.0, 1.0, 1.0]),
        "item_id": tf.constant(["p1"] * 3),
        "category": tf.constant(["k1"] * 3),
        name: tf.constant(["", "p1|p2", "p3"]),
        f"{name}_category": tf.constant(["", "k1|", ""]),
        f"{name}_timestamp": tf.constant(["", "9.5|3", "60"]),
    }
    ctr = signature(**request)["ctr"].numpy()
    assert len(set(ctr.tolist())) == 3
