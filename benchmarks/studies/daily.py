"""A model a day on drifting logs: does a warm start pay?

    python -m benchmarks.studies.daily --out FOLDER [--seeds 3] [--rows 50000]

Each seed is a world of its own: seven days of generated logs, in which every
day a share of users and ads is replaced and what makes people click drifts
(`lionctr generate --days 7 --drift 0.1`). Each day a model learns from the
first 80 % of the day's impressions and is tested on the rest:

  warm       begins with the warm model of the day before (train.warm_start)
  cold       starts from new weights
  yesterday  the warm model of the day before, as it was

All see the same rows and the same tests, from the second day on; the first
day's model is cold. FOLDER gets daily.json (all figures) and daily.png.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import measure

_ROOT = Path(__file__).resolve().parents[2]
ARMS = ("warm", "cold", "yesterday")
METRICS = ("auc", "logloss", "calibration")
DAYS = 7
_SKIPPED = ("StatisticsGen", "ExampleValidator")


@dataclass(frozen=True)
class Score:
    """Metrics of one model on the later part of one day."""

    seed: int
    day: int
    arm: str
    auc: float
    logloss: float
    calibration: float


@dataclass(frozen=True)
class Settings:
    """Settings of all days and models."""

    rows: int
    drift: float
    cold_epochs: int
    warm_epochs: int


def config_of(logs: Path, schema: str | None) -> Any:
    """The demo's pipeline on one day's logs."""
    from pipeline import config

    more = [f"data.curated_schema={schema}"] if schema else []
    return config.load(
        _ROOT / "configs/demo.yaml",
        [
            f"data.impressions.path={logs}/impressions.tsv",
            "data.split.eval=0.2",
            "train.eval_steps=1000000000",
            *more,
        ],
    )


def prepare(home: Path, seed: int, settings: Settings) -> None:
    """Generate, ingest and transform the logs of all days, a folder a day."""
    from components.batching import prefer_large_batches
    from pipeline import dag
    from pipeline.commands.generate import generate_days

    prefer_large_batches()
    generate_days(
        settings.rows, home / "logs", DAYS, seed, drift=settings.drift
    )
    schema = None
    for day, logs in enumerate(sorted((home / "logs").iterdir())):
        config = config_of(logs, schema)
        found: dict[str, Any] = {}
        for component in dag.create_pipeline(config, str(home)).components:
            if schema and component.id in _SKIPPED:
                continue
            inputs = {n: found[n] for n in component.inputs if n in found}
            folder = home / str(day) / component.id
            if component.id != "ExampleValidator":
                found |= measure.execute(component, inputs, folder)[1]
            if component.id == "Transform":
                break
        schema = schema or found["schema"].uri + "/schema.pbtxt"


class Tested:
    """The later part of a day: examples as they came, labels, the truth."""

    def __init__(self, home: Path, day: int) -> None:
        import pandas as pd
        import tensorflow as tf

        files = (home / str(day)).glob("ClickLogGen/examples/Split-eval/*")
        data = tf.data.TFRecordDataset(sorted(map(str, files)))
        self._examples = list(data.batch(4096))
        spec = {"label": tf.io.FixedLenFeature([], tf.int64)}
        self.label = np.concatenate(
            [tf.io.parse_example(e, spec)["label"] for e in self._examples]
        ).astype(np.float32)
        logs = sorted((home / "logs").iterdir())[day]
        shown = pd.read_csv(
            logs / "impressions.tsv",
            sep="\t",
            dtype=str,
            usecols=["impression_id", "click"],
            on_bad_lines="skip",
            encoding_errors="replace",
        )
        shown = shown[shown.click.isin(["0", "1"])]
        known = shown.merge(pd.read_parquet(logs / "truth.parquet"))
        known = known.tail(len(self.label))
        p = np.where(
            known.click == "1", known.probability, 1 - known.probability
        )
        self.truth = -float(np.log(p).mean())

    def score(self, served: Any) -> tuple[float, float, float]:
        """AUC, logloss, mean prediction over mean label."""
        from models.training.metrics import auc, logloss_of_logits

        answer = served.exported["examples"]
        ctr = np.concatenate([answer(e)["ctr"] for e in self._examples])
        ctr = np.clip(ctr.astype(np.float64), 1e-7, 1 - 1e-7)
        logits = np.log(ctr / (1 - ctr))
        return (
            auc(self.label, logits),
            logloss_of_logits(self.label, logits),
            float(ctr.mean() / self.label.mean()),
        )


def one_day(
    home: Path, day: int, epochs: int, seed: int, base: Path | None, out: Path
) -> Any:
    """Trains on a day's earlier part; the model as it would be served."""
    import tensorflow_transform as tft

    from models.checkpointing import saved_state, warm_start
    from models.export import Served
    from models.training.run import Files, TrainingRun
    from pipeline import dag

    logs = sorted((home / "logs").iterdir())[day]
    custom = dag.training(config_of(logs, None), "")
    custom["train"] |= {"epochs": epochs, "seed": seed}
    transformed = home / str(day) / "Transform"
    transform = tft.TFTransformOutput(str(transformed / "transform_graph"))
    splits = [
        [f"{transformed}/transformed_examples/Split-{name}/*"]
        for name in ("train", "eval")
    ]
    begun = warm_start.Base(str(base)) if base else None
    job = TrainingRun(custom, Files(transform, *splits), begun)
    fitted = job.fit()
    saved_state.save(str(out), fitted.model, fitted.optimizer, job.meaning)
    return Served(fitted.model, transform, job.features, job.negatives.shift)


def run(
    home: Path, seed: int, settings: Settings
) -> tuple[list[Score], list[float]]:
    """All days and models of a world, and the logloss of the truth a day."""
    scores, floor = [], []
    before = None
    for day in range(DAYS):
        tested = Tested(home, day)
        floor.append(tested.truth)
        states = [home / "states" / f"{arm} {day}" for arm in ARMS]
        base = home / "states" / f"warm {day - 1}" if day else None
        models = {"yesterday": before}
        epochs = settings.warm_epochs if day else settings.cold_epochs
        models["warm"] = one_day(home, day, epochs, seed, base, states[0])
        before = models["warm"]
        if day:
            models["cold"] = one_day(
                home, day, settings.cold_epochs, seed, None, states[1]
            )
            for arm in ARMS:
                found = tested.score(models[arm])
                scores.append(Score(seed, day, arm, *found))
    return scores, floor


def show(scores: list[Score], floor: Any) -> None:
    """A table for each metric: days by models, mean and deviation."""
    for metric in METRICS:
        print(f"\n{metric:14}" + "".join(f"{arm:>18}" for arm in ARMS), end="")
        print(f"{'the truth':>14}" if metric == "logloss" else "")
        for day in range(1, DAYS):
            line = f"  day {day + 1:<8}"
            for arm in ARMS:
                found = values(scores, metric, arm, day)
                line += f"{found.mean():10.4f} ±{_deviation(found):.4f}"
            if metric == "logloss":
                line += f"{np.mean(floor, axis=0)[day]:14.4f}"
            print(line)
    for arm in ARMS[1:]:
        for metric in ("auc", "logloss"):
            gap = values(scores, metric, "warm") - values(scores, metric, arm)
            if metric == "logloss":
                gap = -gap
            print(
                f"\nwarm against {arm}, {metric}: better by {gap.mean():.4f}"
                f" ±{_deviation(gap):.4f}, on {(gap > 0).sum()} of"
                f" {len(gap)} days",
                end="",
            )
    print(flush=True)


def values(
    scores: list[Score], metric: str, arm: str, day: int | None = None
) -> Any:
    """Metric of all seeds, and of all days if none is given."""
    return np.array(
        [
            getattr(s, metric)
            for s in scores
            if s.arm == arm and day in (None, s.day)
        ]
    )


def _deviation(found: Any) -> float:
    return float(found.std(ddof=1)) if len(found) > 1 else 0.0


def plot(scores: list[Score], floor: Any, path: Path) -> None:
    """The three metrics over the days."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    days = np.arange(1, DAYS)
    for axis, metric in zip(axes, METRICS, strict=True):
        for arm in ARMS:
            found = np.stack(
                [values(scores, metric, arm, int(d)) for d in days]
            )
            mean, spread = found.mean(1), [_deviation(f) for f in found]
            (line,) = axis.plot(days + 1, mean, marker="o", label=arm)
            axis.fill_between(
                days + 1, mean - spread, mean + spread,
                alpha=0.12, color=line.get_color(),
            )  # fmt: skip
        axis.set(xlabel="day", title=metric)
    axes[1].plot(days + 1, np.mean(floor, axis=0)[1:], "k:", label="the truth")
    axes[2].axhline(1.0, color="k", linestyle=":")
    axes[1].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Prints the tables; writes the figures and the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=50_000, help="a day")
    parser.add_argument("--drift", type=float, default=0.1)
    parser.add_argument("--cold-epochs", type=int, default=6)
    parser.add_argument("--warm-epochs", type=int, default=3)
    parser.add_argument("--home", type=Path, help="keeps what was prepared")
    options = parser.parse_args()
    settings = Settings(
        options.rows, options.drift, options.cold_epochs, options.warm_epochs
    )
    options.out.mkdir(parents=True, exist_ok=True)
    scores: list[Score] = []
    floor: list[list[float]] = []
    print(f"{settings}, seeds 1 to {options.seeds}")
    with measure.scratch() as scratch:
        for seed in range(1, options.seeds + 1):
            home = (options.home or scratch) / str(seed)
            if not (home / str(DAYS - 1) / "Transform").exists():
                measure.alone(prepare, home, seed, settings)
            more, truth = measure.alone(run, home, seed, settings)
            scores += more
            floor.append(truth)
            (options.out / "daily.json").write_text(
                json.dumps([asdict(s) for s in scores], indent=1) + "\n"
            )
            show(scores, floor)
            plot(scores, floor, options.out / "daily.png")


if __name__ == "__main__":
    main()
