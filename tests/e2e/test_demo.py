"""`lionctr` as a user types it: generate, run, run again, refuse, serve."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipeline.config import load
from serving import Client, PredictError, manifest
from tests.e2e.attempts import lionctr

ROWS = 50_000
LIONCTR = [sys.executable, "-m", "pipeline.cli"]


@dataclass
class Home:
    """A folder with generated logs and the settings that point there."""

    folder: Path

    @property
    def settings(self) -> list[str]:
        pairs = (
            f"data.impressions.path={self.folder}/logs/impressions.tsv",
            f"root={self.folder}/runs",
            f"push.to={self.folder}/models",
        )
        return [word for pair in pairs for word in ("--set", pair)]

    def run(self, *more: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, the summary, and what a person saw."""
        code, out, console = lionctr(*self.words(*more))
        return code, json.loads(out), console

    def words(self, *more: str) -> list[str]:
        """Arguments of `lionctr`."""
        settings = [w for m in more for w in ("--set", m)]
        config = "configs/demo.yaml"
        return ["run", config, "--json", *self.settings, *settings]

    def versions(self) -> list[int]:
        """Pushed versions; anything else in the folder is a mistake."""
        folder = self.folder / "models" / "demo"
        return sorted(int(p.name) for p in folder.iterdir())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Generated logs."""
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run(
        [*LIONCTR, "generate", "--rows", str(ROWS)]
        + ["--out", str(folder / "logs"), "--seed", "1"],
        check=True,
    )
    return Home(folder)


@pytest.fixture(scope="module")
def first(home: Home) -> tuple[dict[str, Any], str]:
    """The summary and the console of a first run."""
    result = subprocess.run(
        [*LIONCTR, *home.words()], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def test_a_run_says_what_it_did(
    home: Home, first: tuple[dict[str, Any], str]
) -> None:
    summary, console = first
    rows = summary["rows"]
    assert summary["status"] == "done"
    assert rows["kept"] == ROWS == rows["train"] + rows["eval"]
    assert rows["read"] == ROWS + rows["rejected"]
    assert rows["rejected"] == 3
    assert rows["eval"] == pytest.approx(ROWS / 10, rel=0.01)
    assert summary["blessed"] is True
    assert summary["serving_gate"]["rows"] == 200
    assert summary["serving_gate"]["latency"].keys() == {"REST", "gRPC"}
    fit = summary["fit"]
    assert 0 < fit["train"]["logloss"] < 1 and 0.5 < fit["eval"]["auc"] < 1
    assert "train against eval" in console
    assert summary["lion_kernel"] in ("python", "custom_op", "xla")
    assert summary["train_examples_per_second"] > 0
    config = load(Path("configs/demo.yaml"), home.settings[1::2])
    assert summary["config_sha256"] == config.sha256()
    for name in (
        "ClickLogGen",
        "Trainer",
        "Evaluator",
        "ServingGate",
        "Pusher",
    ):
        assert summary["seconds"][name] >= 0
        assert name in console
    (folder,) = (home.folder / "runs/demo/runs").glob(summary["run"])
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert load(folder / "config.yaml").sha256() == config.sha256()
    assert [int(Path(summary["pushed_model"]).name)] == home.versions()
    assert manifest.verify(summary["pushed_model"])
    names = manifest.names_of(summary["pushed_model"])
    assert "assets.extra/tf_serving_warmup_requests" in names
    about = manifest.about(summary["pushed_model"])
    assert about["metrics"] == pytest.approx(summary["metrics"])
    assert about["trained_on"]["config_sha256"] == config.sha256()
    assert set(about["inputs"]) == set(config.features.kinds())


def test_rejected_rows_are_kept_with_place_and_reason(
    home: Home, first: tuple[dict[str, Any], str]
) -> None:
    logs = (home.folder / "logs/impressions.tsv").read_bytes()
    found = [
        json.loads(line)
        for path in (home.folder / "runs").rglob("rejected-*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(found) == 3
    for entry in found:
        assert entry["reason"]
        offset = int(entry["where"].removeprefix("byte "))
        assert logs[offset:].startswith(b"broken")


def test_the_model_is_near_the_truth_and_beats_simple_models(
    home: Home, first: tuple[dict[str, Any], str]
) -> None:
    metrics = first[0]["metrics"]
    truth = json.loads((home.folder / "logs/summary.json").read_text())
    assert metrics["logloss"] < 1.10 * truth["truth_logloss_last_tenth"]
    logs = pd.read_csv(
        home.folder / "logs/impressions.tsv",
        sep="\t",
        on_bad_lines="skip",
        encoding_errors="replace",
    )
    logs = logs[~logs["impression_id"].str.startswith("broken")]
    logs = logs.sort_values("timestamp", kind="stable")
    numbers = ["price", "page_depth", "ad_age_hours", "session_seconds"]
    numbers += ["user_impressions", "user_clicks", "hour"]
    ids = ["user_id", "ad_id", "campaign_id", "advertiser_id", "site_id"]
    ids += ["site_category", "device", "position", "country", "connection"]
    logs[ids] = logs[ids].fillna("").astype(str)
    logs[numbers] = np.log1p(logs[numbers].astype(float).fillna(0))
    train, test = logs[: -ROWS // 10], logs[-ROWS // 10 :]
    model = make_pipeline(
        ColumnTransformer(
            [
                ("n", StandardScaler(), numbers),
                (
                    "c",
                    OneHotEncoder(
                        handle_unknown="infrequent_if_exist", min_frequency=10
                    ),
                    ids,
                ),
            ]
        ),
        LogisticRegression(C=0.1, max_iter=500),
    ).fit(train[numbers + ids], train["click"].astype(int))
    label = test["click"].astype(int)
    scores = model.predict_proba(test[numbers + ids])[:, 1]
    constant = np.full(len(test), train["click"].astype(int).mean())
    assert metrics["auc"] > roc_auc_score(label, scores) > 0.5
    assert (
        metrics["logloss"] < log_loss(label, scores) < log_loss(label, constant)
    )
    assert metrics["calibration"] == pytest.approx(1, abs=0.15)


SERVE = """
import json, sys
import numpy as np
import tensorflow as tf
try:
    import models
except ImportError:
    pass
else:
    raise SystemExit("the project is importable here")
model = tf.saved_model.load(sys.argv[1])
raw = {k: np.array([np.nan if v is None else v for v in column])
       for k, column in json.load(open(sys.argv[2])).items()}
signature = model.signatures["serving_default"]
spec = signature.structured_input_signature[1]
inputs = {k: tf.constant(raw[k].astype(s.dtype.as_numpy_dtype), s.dtype)
          for k, s in spec.items()}
ctr = signature(**inputs)["ctr"]
examples = []
for i in range(len(ctr)):
    features = {}
    for k, s in spec.items():
        v = raw[k][i]
        if s.dtype == tf.string:
            if v:
                features[k] = tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[v.encode()]))
        elif np.isfinite(v):
            features[k] = tf.train.Feature(
                float_list=tf.train.FloatList(value=[v]))
    examples.append(tf.train.Example(features=tf.train.Features(
        feature=features)).SerializeToString())
other = model.signatures["examples"](tf.constant(examples))["ctr"]
answers = [ctr.numpy().tolist(), other.numpy().tolist()]
# As TF Serving does: a session, with the weights of the restore op.
v1 = tf.compat.v1
with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
    meta = v1.saved_model.load(session, ["serve"], sys.argv[1])
    columns = {k: v.numpy() for k, v in inputs.items()}
    for name, given in (("serving_default", columns),
                        ("examples", {"examples": examples})):
        asked = meta.signature_def[name]
        feed = {asked.inputs[k].name: v for k, v in given.items()}
        found = session.run(asked.outputs["ctr"].name, feed)
        answers.append(found.tolist())
print(json.dumps(answers))
"""


def test_stock_tensorflow_serves_it_as_the_trainer_computes_it(
    home: Home,
    first: tuple[dict[str, Any], str],
    tmp_path: Path,
) -> None:
    config = load(Path("configs/demo.yaml"))
    logs = pd.read_csv(
        home.folder / "logs/impressions.tsv",
        sep="\t",
        nrows=50,
        dtype={"hour": float},
        keep_default_na=True,
    )
    raw = {}
    for name, kind in config.features.kinds().items():
        column = logs[name]
        if kind == "string":
            raw[name] = column.fillna("").astype(str).tolist()
        else:
            raw[name] = [None if np.isnan(v) else float(v) for v in column]
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    (tmp_path / "serve.py").write_text(textwrap.dedent(SERVE))
    # An environment in which the project's editable install is not seen.
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if"
        " 'Editable' not in getattr(f, '__name__', '')];"
        " sys.path = [p for p in sys.path if p not in ('', sys.argv[4])];"
        " path = sys.argv.pop(1); sys.argv[0] = path;"
        " exec(compile(open(path).read(), path, 'exec'))"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "serve.py")]
        + [
            first[0]["pushed_model"],
            str(tmp_path / "raw.json"),
            str(Path.cwd()),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            k: v
            for k, v in os.environ.items()
            if k not in ("PYTHONPATH", "TF_USE_LEGACY_KERAS")
        },
    )
    assert result.returncode == 0, result.stderr[-2000:]
    raw_scores, example_scores, *session_scores = json.loads(result.stdout)
    np.testing.assert_allclose(raw_scores, example_scores, atol=1e-6)
    assert session_scores == [raw_scores, example_scores]
    assert all(0 < p < 1 for p in raw_scores)
    assert len({round(p, 6) for p in raw_scores}) > 25


def test_the_pushed_model_answers_http(
    home: Home, first: tuple[dict[str, Any], str]
) -> None:
    ports = [free_port(), free_port()]
    process = subprocess.Popen(
        [*LIONCTR, "serve", str(home.folder / "models" / "demo")]
        + ["--port", str(ports[0]), "--grpc-port", str(ports[1])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "demo" in process.stdout.readline()  # it is ready
        kinds = load(Path("configs/demo.yaml")).features.kinds()
        rows = [
            {
                name: "a1" if kind == "string" else value
                for name, kind in kinds.items()
            }
            for value in (0.0, 3.0, None)
        ]
        client = Client(f"http://127.0.0.1:{ports[0]}", "demo")
        scores = client.predict(rows)
        assert len(set(scores)) == 3
        assert all(0 < p < 1 for p in scores)
        with pytest.raises(PredictError, match="price"):
            client.predict([rows[0] | {"price": "cheap"}])
    finally:
        process.terminate()
        assert process.wait(30) == 0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_second_run_reuses_everything_and_pushes_nothing(
    home: Home, first: tuple[dict[str, Any], str]
) -> None:
    code, summary, console = home.run()
    assert code == 0, console
    assert summary["metrics"] == first[0]["metrics"]
    assert summary["pushed_model"] == first[0]["pushed_model"]
    assert len(home.versions()) == 1
    for name in ("ClickLogGen", "StatisticsGen", "Transform", "Trainer"):
        assert f"{name:<17} cached" in console
    assert f"{'Evaluator':<17} cached" in console
    assert f"{'ServingGate':<17} cached" in console
    assert summary["serving_gate"] == first[0]["serving_gate"]


def test_a_model_below_the_threshold_is_refused(
    home: Home, first: tuple[dict[str, Any], str]
) -> None:
    code, summary, console = home.run(
        "evaluate.metrics.auc.min=0.99", "evaluate.importance={rows: 1000}"
    )
    assert code == 1
    assert summary["status"] == "refused"
    assert summary["blessed"] is False
    assert summary["pushed_model"] is None
    auc = first[0]["metrics"]["auc"]
    assert f"auc is {auc:.6g}; threshold: min 0.99" in console
    for shown in ("metrics of the eval split: 4,999 rows", "train against ev"):
        assert shown in console
    assert "ServingGate" not in summary["seconds"]
    assert len(home.versions()) == 1
    found = summary["evaluation"]["importance"]
    kinds = load(Path("configs/demo.yaml")).features.kinds()
    assert {one["name"] for one in found["features"]} == set(kinds)
    assert found["rows"] == 1000
    assert found["train_rows"] == summary["rows"]["train"]
    assert found["features"][0]["logloss"]["interval"][0] > 0
    report = home.folder / "runs/demo/runs" / summary["run"] / "report.html"
    assert "1,000 of 4,999 rows of the eval split" in report.read_text()


def test_anomalies_against_a_curated_schema_stop_before_training(
    home: Home, first: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    inferred = Path(first[0]["schema"]).read_text()
    schema = tmp_path / "schema.pbtxt"
    schema.write_text(inferred.replace('value: "console"', 'value: "fridge"'))
    code, summary, console = home.run(f"data.curated_schema={schema}")
    assert code == 1
    assert summary["status"] == "refused"
    assert "device: Unexpected string values" in console
    assert "Trainer" not in summary["seconds"]


def test_a_curated_schema_that_is_missing_is_named(
    home: Home, first: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    code, _, console = home.run(f"data.curated_schema={tmp_path}/none.pbtxt")
    assert code == 2
    assert "data.curated_schema" in console
    assert "none.pbtxt" in console
