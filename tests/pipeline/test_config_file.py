"""A config as a file: YAML beyond the plain, and the line of each error."""

from __future__ import annotations

import copy
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import ConfigError, PipelineConfig, load

TEXT = """\
name: ads
data:
  impressions:
    path: logs/*.tsv
    format: tsv
    columns: [click, ts, user, price, site]
  label: click
  time: ts
features:
  numeric: [price]
  categorical:
  - site
  - name: user
    min_count: 3
train: {epochs: 1}
"""


def loaded(folder: Path, text: str, *overrides: str) -> PipelineConfig:
    """The config with this text."""
    path = folder / "ads.yaml"
    path.write_text(text, "utf-8")
    return load(path, overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    """Message of `load` against it, the folder's name left out."""
    with pytest.raises(ConfigError) as error:
        loaded(folder, text, *overrides)
    assert error.value.exit_code == 2
    return str(error.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("epochs: 1", "epoch: 1", "ads.yaml:15: train.epoch: unknown key"),
        ("epochs: 1", "epochs: 0", "ads.yaml:15: train.epochs: received 0"),
        ("epochs: 1", "epochs: true", "ads.yaml:15: train.epochs: received"),
        ("epochs: 1", "epochs: .inf", "ads.yaml:15: train.epochs: received"),
        ("min_count: 3", "min_cnt: 3", "ads.yaml:14: features.categorical.1."),
        ("name: user", "nam: user", "ads.yaml:13: features.categorical.1.nam"),
        ("- site", "- sit", "ads.yaml:12: features.categorical.0: column"),
        ("- site", "- click", "ads.yaml:12: features.categorical.0: feature"),
        ("- site", "- user", "ads.yaml:13: features.categorical.1: feature"),
        ("label: click", "label: clik", "ads.yaml:7: data: `label` is column"),
        ("format: tsv", "format: tvs", "ads.yaml:5: data.impressions.format"),
        ("  label: click\n", "", "ads.yaml:2: data.label: missing"),
        ("name: ads", "nam: ads", "ads.yaml: name: missing"),
        (
            "{epochs: 1}",
            "{epochs: 1}\noptimizer:\n  name: adam\n  beta_3: 1",
            "ads.yaml:18: optimizer.beta_3: unknown key (did you mean",
        ),
        (
            "{epochs: 1}",
            "{epochs: 1}\ntune:\n  trials: 2\n  train.epochs: {int: [0, 3]}",
            "ads.yaml:18: tune: train.epochs = 0: train.epochs: received 0",
        ),
        (
            "{epochs: 1}",
            "{epochs: 1}\nevaluate:\n  metrics:\n    auc: {min: 2}",
            "ads.yaml:18: evaluate.metrics.auc: received min 2",
        ),
    ],
)
def test_an_error_begins_with_file_line_and_field(
    tmp_path: Path, old: str, new: str, start: str
) -> None:
    assert old in TEXT
    assert refusal(tmp_path, TEXT.replace(old, new)).startswith(start)


def test_what_the_command_line_sets_has_no_line(tmp_path: Path) -> None:
    for override, field in {
        "train.epochs=0": "train.epochs",
        "features.categorical.site.dim=0": "features.categorical.0.dim",
        "train={epochs: 0}": "train.epochs",
        "features.categorical.site={name: ad, dim: 0}": (
            "features.categorical.0.dim"
        ),
    }.items():
        told = refusal(tmp_path, TEXT, override)
        assert told.startswith(f"--set, ads.yaml: {field}: received 0")


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("evaluate.slices=site", "a list of lists, such as [[site]]"),
        ("evaluate.slices=[site]", "a list, such as [site]"),
        ("data.split=[hash, 0.1]", "a mapping with by, eval, test, key, gap"),
        ("features.numeric=price", "a list, such as [price]"),
        ("features.numeric={a: 1}", "a list, such as [{name: ...}]"),
        ("evaluate.metrics=auc", "a mapping, such as {key: value}"),
        ("train.epochs=many", "an integer"),
        ("model.batch_norm=3", "true or false"),
        ("name=3", "text; put it in quotes"),
        ("root=''", "text that is not empty"),
        ("model={name: xdeepfm, maps: []}", "a list of 1 value or more"),
        ("model={name: xdeepfm, maps: [0]}", "greater than or equal to 1"),
        ("features.crosses=[{of: [site]}]", "a list of 2 values or more"),
        ("data.impressions.quote=ab", "text of at most 1 character"),
        ("train.batch_size=1000000000000000000000", "an integer below 2^63"),
    ],
)
def test_the_shape_that_is_accepted_is_shown(
    tmp_path: Path, value: str, accepted: str
) -> None:
    assert refusal(tmp_path, TEXT, value).endswith(f"; accepted: {accepted}")


def test_merge_keys_work(tmp_path: Path) -> None:
    text = TEXT.replace("  impressions:", "  impressions: &log")
    text = text.replace(
        "  label: click",
        "  clicks: {<<: *log, path: clicks.tsv, columns: [user, ts],"
        " key: user}",
    )
    config = loaded(tmp_path, text)
    assert config.data.clicks is not None
    assert config.data.clicks.path == ("clicks.tsv",)
    assert config.data.clicks.format == "tsv"
    text = "a: &a {b: 1}\nc: &c {<<: *a, b: 2}\nd: {<<: *c, e: 3}\n" + TEXT
    told = refusal(tmp_path, text)
    assert "ads.yaml:3: d: unknown key" in told


LAUGHS = ", ".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]"
    for i in range(9)
)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2024-13-45", "train.epochs: received '2024-13-45'"),
        ("2024-01-01T99:00:00", "train.epochs: received '2024-01-01T99"),
        ("9" * 5000, "train.epochs: received '9999"),
        ("0x" + "f" * 5000, "(5,002 characters)"),
        ("!!int x", "train.epochs: received 'x'"),
        ("!!timestamp x", "train.epochs: received 'x'"),
        ("!!python/object:os.system x", "could not determine"),
        ("[" * 900 + "]" * 900, "more than 50 levels"),
        ("{a: " * 900 + "1" + "}" * 900, "more than 50 levels"),
        ("&x [*x]", "an alias of the value that holds it"),
        ("*nobody", "undefined alias"),
        (f"{{{LAUGHS}}}", "more than 1,000,000 values"),
        ("{a: 1, a: 2}", "key 'a' comes twice"),
        ("{[a]: 1}", "unhashable key"),
        ("{<<: 3}", "expected a mapping"),
        ("\x01", "special characters"),
        ("[1, 2", "not valid YAML"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_text_that_is_more_or_less_than_yaml_is_refused_with_its_line(
    tmp_path: Path, value: str, words: str
) -> None:
    told = refusal(tmp_path, TEXT.replace("epochs: 1", f"epochs: {value}"))
    assert re.match(r"ads\.yaml:1[567]: ", told), told
    assert words in told
    assert len(told) < 500


def test_many_problems_are_cut_with_their_number(tmp_path: Path) -> None:
    text = TEXT + "".join(f"key_{i}: 1\n" for i in range(50))
    lines = refusal(tmp_path, text).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "ads.yaml: ... and 30 more problems"


def test_a_long_value_is_cut_with_its_length(tmp_path: Path) -> None:
    told = refusal(tmp_path, TEXT.replace("epochs: 1", f"epochs: {'x' * 9999}"))
    assert "... (10,001 characters); accepted: an integer" in told


def test_home_and_file_uris_are_paths_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = loaded(
        tmp_path,
        TEXT,
        "root=~/runs",
        "push.to=file:///models",
        "train.warm_start=~",
        "transform.cache=gs://bucket/~/cache",
        "data.curated_schema=file://localhost/a [1]/schema.pbtxt",
    )
    assert config.root == "/home/me/runs"
    assert config.push.to == "/models"
    assert config.train.warm_start is None  # YAML's null
    assert config.transform.cache == "gs://bucket/~/cache"
    assert config.data.curated_schema == "/a [1]/schema.pbtxt"
    for path in ("file://host/x", "~nobody-here/x", '"a\\0b"'):
        assert "root: received" in refusal(tmp_path, TEXT, f"root={path}")


def settings(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all settings in a config."""
    if at:
        yield at
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, below in items:
        yield from settings(below, (*at, key))


WRONG = [
    *(None, True, 0, -1, 1.5, math.nan, math.inf, 10**30, 10**400),
    *("", "x", "~", "\0", "é" * 300, "2024-13-45"),
    *([], {}, [[]], {"a": 1}, [1, 2], {1: 2}, ["x"] * 50),
]
CONFIGS = [
    yaml.safe_load(path.read_text("utf-8"))
    for path in sorted(Path("configs").glob("*.yaml"))
]
CASES = [
    (config, setting, value)
    for config in CONFIGS
    for setting in settings(config)
    for value in WRONG
]
MUTATIONS = random.Random(1).sample(CASES, 400)


@pytest.mark.parametrize("part", range(4))
def test_any_value_anywhere_loads_or_is_refused_with_its_line(
    tmp_path: Path, part: int
) -> None:
    path = tmp_path / "c.yaml"
    loads = 0
    for number in range(part, len(MUTATIONS), 4):
        config, setting, value = MUTATIONS[number]
        data = copy.deepcopy(config)
        place = data
        for key in setting[:-1]:
            place = place[key]
        place[setting[-1]] = value
        path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
        try:
            load(path).resolved()
            loads += 1
        except ConfigError as error:
            for line in str(error).splitlines():
                assert re.match(
                    rf"{re.escape(str(path))}(:\d+: |: \.\.\. and )", line
                ), (setting, value, line)
                assert len(line) < 2000
                for word in ("dictionary", "tuple", "instance", "valid str"):
                    assert word not in line, (setting, value, line)
    assert loads < 50
