"""Ads that are rare on every day: does `admission` learn them?

    python -m benchmarks.studies.rare_values [--days 5] [--seeds 3]

A log has 300 ads, each shown twelve times a day, with a click rate of its own
and nothing else that tells. A value has a row after twenty sightings
(`min_count: 20`), which no ad has on one day. Each day a model learns from the
first 80 % of the day's rows, beginning with the model of the day before, and
is tested on the rest:

  with       `admission: 7`: sightings of seven days admit an ad
  without    a vocabulary of the day alone

The AUC of the truth is what the ads' own click rates reach.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import numpy.typing as npt

from benchmarks import measure

ADS, SHOWN = 300, 12
ARMS = {"with": 7, "without": None}
_EVAL = 0.2
Floats = npt.NDArray[np.float64]


def write_day(path: Path, day: int, seed: int, logits: Floats) -> float:
    """Writes a day's log; the AUC of the truth on its last rows."""
    from models.training.metrics import auc

    rng = np.random.default_rng([seed, day])
    ads = rng.permutation(np.tile(np.arange(ADS), SHOWN))
    clicks = rng.random(len(ads)) < 1 / (1 + np.exp(-logits[ads]))
    seconds = np.arange(len(ads)) * 86_400 // len(ads)
    moments = np.datetime64("2024-01-01", "s") + 86_400 * day + seconds
    rows = zip(moments, clicks, ads, strict=True)
    lines = [f"{time}Z\t{click:d}\ta{ad}\t1" for time, click, ad in rows]
    text = "\n".join(["time\tclick\tad\tprice", *lines]) + "\n"
    path.write_text(text, "utf-8")
    last = slice(round(len(ads) * (1 - _EVAL)), None)
    return auc(clicks[last].astype(np.float32), logits[ads[last]])


def config_of(log: Path, admission: int | None) -> Any:
    """The pipeline of a day."""
    from pipeline.config import PipelineConfig

    rule = {"name": "ad", "min_count": 20, "dim": 4, "admission": admission}
    return PipelineConfig.model_validate(
        {
            "name": "rare",
            "data": {
                "impressions": {
                    "path": str(log),
                    "format": "tsv",
                    "header": True,
                },
                "label": "click",
                "time": "time",
                "split": {"by": "time", "eval": _EVAL},
            },
            "features": {"numeric": ["price"], "categorical": [rule]},
            "model": {"hidden": [8], "dropout": 0.0, "embedding_l2": 0.0},
            "optimizer": {"name": "lion", "learning_rate": 0.01},
            "train": {
                "batch_size": 32,
                "epochs": 10,
                "eval_steps": 10**9,
                "jit": False,
                "warm_start": "latest_blessed",
            },
        }
    )


def one_day(
    config: Any, home: Path, schema: Any, base: Path | None
) -> tuple[Any, dict[str, Any]]:
    """Transform's graph and examples of a day, and its schema; see ARMS."""
    from tfx.types import standard_artifacts

    from pipeline import dag

    found: dict[str, Any] = {} if schema is None else {"schema": schema}
    begun = home / "base/Format-Serving"
    begun.mkdir(parents=True)
    state = None if base is None else str(base)
    (begun / "base.json").write_text(json.dumps({"state": state}))
    found["base_model"] = standard_artifacts.Model()
    found["base_model"].uri = str(begun.parent)
    skipped = ["ExampleValidator", "WarmStart"]
    skipped += ["StatisticsGen", "SchemaGen"] if schema is not None else []
    for component in dag.create_pipeline(config, str(home)).components:
        if component.id in skipped:
            continue
        inputs = {n: found[n] for n in component.inputs if n in found}
        found |= measure.execute(component, inputs, home / component.id)[1]
        if component.id == "Transform":
            break
    return found["schema"], found


def trained(
    config: Any, found: dict[str, Any], base: Path | None, out: Path, seed: int
) -> float:
    """Trains on a day's earlier part; the AUC of the later."""
    import tensorflow_transform as tft

    from models.checkpointing import saved_state, warm_start
    from models.preprocessing import ledger_file
    from models.training.run import Files, TrainingRun
    from pipeline import dag

    custom = dag.training(config, "")
    custom["train"] |= {"seed": seed}
    graph = found["transform_graph"].uri
    splits = [
        [f"{found['transformed_examples'].uri}/Split-{name}/*"]
        for name in ("train", "eval")
    ]
    begun = warm_start.Base(str(base)) if base else None
    transform = tft.TFTransformOutput(graph)
    job = TrainingRun(custom, Files(transform, *splits), begun)
    fitted = job.fit()
    ledgers = Path(graph, ledger_file.FOLDER)
    saved_state.save(
        str(out),
        fitted.model,
        fitted.optimizer,
        job.meaning,
        {ledger_file.FOLDER: str(ledgers)} if ledgers.exists() else {},
    )
    return float(fitted.result.eval_auc)


def run(home: Path, days: int, seed: int) -> dict[str, list[float]]:
    """AUC of each arm, and of the truth, a day."""
    logits = np.random.default_rng([seed, 99]).normal(-1.0, 1.5, ADS)
    home.mkdir(parents=True)
    found: dict[str, list[float]] = {arm: [] for arm in (*ARMS, "truth")}
    bases: dict[str, Path | None] = dict.fromkeys(ARMS)
    schema = None
    for day in range(days):
        log = home / f"{day}.tsv"
        found["truth"].append(write_day(log, day, seed, logits))
        for arm, admission in ARMS.items():
            config, place = config_of(log, admission), home / f"{arm} {day}"
            schema, artifacts = one_day(config, place, schema, bases[arm])
            state = home / f"state {arm} {day}"
            found[arm].append(
                trained(config, artifacts, bases[arm], state, seed)
            )
            bases[arm] = state
    return found


def main() -> None:
    """Prints the AUC of each day."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    worlds: list[dict[str, list[float]]] = []
    with measure.scratch() as scratch:
        worlds += (
            measure.alone(run, scratch / str(seed), options.days, seed)
            for seed in range(1, options.seeds + 1)
        )
    print("      " + "".join(f"{arm:>16}" for arm in worlds[0]))
    for day in range(options.days):
        line = f"day {day + 1} "
        for arm in worlds[0]:
            auc = np.array([world[arm][day] for world in worlds])
            spread = auc.std(ddof=1) if len(auc) > 1 else 0.0
            line += f"{auc.mean():9.3f} ±{spread:.3f}"
        print(line)


if __name__ == "__main__":
    main()
