"""Every rule of the config, through `load`, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import ConfigError, PipelineConfig, load

BASE: dict[str, Any] = {
    "name": "ads",
    "data": {
        "impressions": {
            "path": "logs/*.tsv",
            "format": "tsv",
            "columns": ["click", "ts", "user", "price", "site", "tags"],
        },
        "label": "click",
    },
    "features": {
        "numeric": [{"name": "price"}],
        "categorical": [{"name": "site"}, {"name": "user"}],
    },
}


@pytest.fixture
def check(tmp_path: Path) -> Any:
    """A function that loads BASE with overrides, from a real file."""

    def load_with(*overrides: str, text: str | None = None) -> PipelineConfig:
        path = tmp_path / "ads.yaml"
        path.write_text(yaml.safe_dump(BASE) if text is None else text)
        return load(path, overrides)

    return load_with


def test_defaults_are_filled_in(check: Any) -> None:
    config = check()
    assert config.root == "runs"
    assert config.optimizer.spec()["name"] == "lion"
    assert config.features.categorical[0].encode == "vocab"
    assert config.train.batch_size == 4096


def test_features_have_the_defaults_that_they_do_not_set(check: Any) -> None:
    config = check(
        "features={defaults: {min_count: 10, dim: 4, buckets: 7},"
        " numeric: [price], categorical: [user, {name: site, min_count: 3}]}"
    )
    (price,) = config.features.numeric
    a, b = config.features.categorical
    assert (price.dim, price.buckets) == (4, 32)
    assert (a.min_count, a.dim, a.buckets) == (10, 4, 7)
    assert (b.min_count, b.dim, b.encode) == (3, 4, "vocab")


def test_every_option_of_the_model_is_in_the_resolved_config(
    check: Any,
) -> None:
    resolved = check("model.name=dcn_v2", "model.projection_dim=8").resolved()
    assert resolved["model"]["projection_dim"] == 8
    assert resolved["model"]["cross_layers"] == "auto"
    own = check("model={name: 'mine:build', units: 8}").resolved()["model"]
    assert own["options"] == {"units": 8}


def test_a_keras_2_model_takes_fewer_arguments_of_the_optimizer(
    check: Any,
) -> None:
    accumulate = "optimizer.gradient_accumulation_steps=4"
    check(accumulate)
    with pytest.raises(
        ConfigError, match="steps: received 4; accepted: null for a Keras 2"
    ):
        check(accumulate, "model.name=tfrs_dcn")


def test_overrides_reach_nested_values_and_list_elements(check: Any) -> None:
    config = check(
        "train.batch_size=128",
        "optimizer.name=adam",
        "features.categorical.0.dim=8",
        "features.categorical.user.encode=hash",
        "evaluate.metrics.auc.min=0.7",
    )
    assert config.train.batch_size == 128
    assert config.optimizer.spec()["name"] == "adam"
    assert config.features.categorical[0].dim == 8
    assert config.features.categorical[1].encode == "hash"
    assert config.evaluate.metrics["auc"].min == 0.7


def test_an_optimizer_is_one_word(check: Any) -> None:
    assert check("optimizer=adam").optimizer.spec()["name"] == "adam"


def test_numbers_in_exponent_form_are_numbers(check: Any) -> None:
    spec = check("optimizer.learning_rate=1e-4").optimizer.spec()
    assert spec["learning_rate"] == 1e-4


def test_the_config_is_frozen(check: Any) -> None:
    with pytest.raises(Exception, match="frozen"):
        check().name = "other"


def test_the_hash_follows_the_content_only(check: Any) -> None:
    assert check().sha256() == check("train.shuffle=100000").sha256()
    assert check().sha256() != check("train.epochs=2").sha256()


@pytest.mark.parametrize(
    "more",
    [
        "optimizer=adagrad",
        "optimizer={groups: [{match: .*, name: lion}]}",
        "optimizer={name: ftrl, learning_rate: 1}",
        "model.name=tfrs_dcn",
        "tune={optimizer.name: {choice: [lion, adam]}}",
    ],
)
def test_a_resolved_config_loads_to_itself(
    check: Any, tmp_path: Path, more: str
) -> None:
    config = check("data.label={column: click, at_least: 1}", more)
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(config.resolved()))
    assert load(path).sha256() == config.sha256()
    assert load(path).resolved() == config.resolved()


def test_the_resolved_config_has_every_default_of_the_optimizer(
    check: Any,
) -> None:
    resolved = check("optimizer=adam").resolved()["optimizer"]
    assert resolved["learning_rate"] == resolved["table_rate"] == "auto"
    assert resolved["epsilon"] == 1e-7
    groups = "optimizer={groups: [{match: .*, name: ftrl}]}"
    (group,) = check(groups).resolved()["optimizer"]["groups"]
    assert group["learning_rate_power"] == -0.5
    assert group["learning_rate"] == 0.001  # only the whole has `auto`
    # The defaults of what a trial chooses are the trial's.
    tune = "tune={optimizer.name: {choice: [lion, adam]}}"
    assert check(tune).resolved()["optimizer"] == {"name": "lion"}


CLICKS = "data.clicks={path: c.tsv, format: tsv, columns: [id, ts, dwell]}"
JOIN = (
    CLICKS,
    "data.clicks.key=id",
    "data.clicks.impression_key=user",
    "data.time=ts",
    "data.label=null",
)


def test_with_clicks_the_label_may_be_left_out(check: Any) -> None:
    config = check(*JOIN)
    assert config.data.label_column is None
    assert config.data.clicks.window_micros == 1800 * 10**6
    assert config.data.click_time.column == "ts"
    assert config.sha256() != check(*JOIN, "data.clicks.window=1h").sha256()


def test_a_label_with_clicks_is_a_column_of_theirs(check: Any) -> None:
    rule = "data.label={column: dwell, at_least: 30}"
    assert check(*JOIN, rule).data.label_column == "dwell"
    with pytest.raises(ConfigError, match=r"'click'.*clicks.columns"):
        check(*JOIN, "data.label=click")


def test_a_carried_column_may_slice_and_is_no_column_of_impressions(
    check: Any,
) -> None:
    config = check(
        *JOIN,
        "data.clicks.carry={dwell: string}",
        "evaluate.slices=[[dwell], [site]]",
    )
    assert config.columns() == {
        "price": "float",
        "site": "string",
        "user": "string",
    }


@pytest.mark.parametrize(
    ("window", "seconds"),
    [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172_800)],
)
def test_windows_have_a_unit(check: Any, window: str, seconds: int) -> None:
    config = check(*JOIN, f"data.clicks.window={window}")
    assert config.data.clicks.window_micros == seconds * 10**6


@pytest.mark.parametrize(
    "until", ["2024-01-08", "2024-01-08T00:00:00Z", "2024-01-08 01:00:00+01:00"]
)
def test_the_end_of_the_clicks_is_a_time(check: Any, until: str) -> None:
    config = check(*JOIN, f"data.clicks.until={until}")
    assert config.data.clicks_until == 1_704_672_000 * 10**6


def test_the_end_of_the_clicks_is_in_their_zone(check: Any) -> None:
    until = "data.clicks.until=2024-01-08T08:00:00"
    for field in ("time", "clicks.time"):
        zone = f"data.{field}={{column: ts, zone: Asia/Shanghai}}"
        found = check(*JOIN, until, zone).data.clicks_until
        assert found == 1_704_672_000 * 10**6


def test_the_time_may_be_the_columns_name_alone(check: Any) -> None:
    long = "data.time={column: ts, format: null, zone: null}"
    assert check(*JOIN).sha256() == check(*JOIN, long).sha256()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.time=null", ["data", "`clicks` needs `time`"]),
        ("data.clicks.key=[]", ["data.clicks.key", "received []"]),
        (
            "data.clicks.key=[id, id]",
            ["data.clicks.key", "['id', 'id']", "different"],
        ),
        (
            "data.clicks.key=[id, ts]",
            ["data.clicks.impression_key", "['user']", "2"],
        ),
        ("data.clicks.key=who", ["`clicks.key: who`", "id, ts, dwell"]),
        ("data.clicks.impression_key=who", ["'who'", "impressions.columns"]),
        ("data.clicks.time=when", ["`clicks.time`", "'when'"]),
        ("data.clicks.carry={depth: int}", ["clicks.carry: depth", "dwell"]),
        ("data.clicks.carry={dwell: date}", ["carry.dwell", "'date'", "'int'"]),
        ("data.clicks.carry={label: int}", ["`carry`", "'label'", "reserved"]),
        ("data.clicks.window=30", ["clicks.window", "received 30", "30m"]),
        ("data.clicks.window=0m", ["clicks.window", "'0m'", "above 0"]),
        ("data.clicks.window=-1h", ["clicks.window", "'-1h'"]),
        ("data.clicks.until=soon", ["clicks.until", "'soon'", "ISO 8601"]),
        ("data.clicks.until=1705-01-31", ["clicks.until", "1990 to 20"]),
        ("data.clicks.until=20240131", ["clicks.until", "ISO 8601"]),
        ("data.time=[ts]", ["data.time", "['ts']", "{column, format, zone}"]),
        ("data.time={format: '%Y'}", ["data.time.column", "required"]),
        (
            "data.impressions={path: a.csv}",
            ["data.impressions.format", "required. Accepted: csv, tsv, jsonl"],
        ),
        (
            "optimizer.schedule={warmup: 0.1}",
            ["optimizer.schedule.name", "required. Accepted: constant, cosine"],
        ),
        (
            "data.time={column: ts, format: '%Y%m%d%Q'}",
            ["data.time.format", "%Q is none of its codes", "%H", "seconds"],
        ),
        (
            "data.time={column: ts, zone: Europe/Berln}",
            ["data.time.zone", "did you mean 'Europe/Berlin'", "IANA name"],
        ),
        (
            "data.clicks.time={column: ts, format: hours}",
            ["data.clicks.time.format", "'hours'", "seconds, milliseconds"],
        ),
        (
            "data.time={column: ts, from: '%Y'}",
            ["data.time.from", "unknown key", "column, format, zone"],
        ),
        ("data.clicks.partitions=0", ["clicks.partitions", "received 0"]),
        ("data.clicks.widow=1h", ["clicks.widow", "did you mean 'window'"]),
        (
            "features.numeric=[dwell]",
            ["'dwell'", "is used but not among data.impressions.columns"],
        ),
    ],
)
def test_a_wrong_join_is_refused(
    check: Any, override: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        check(*JOIN, override)
    for word in words:
        assert word in str(error.value)


def test_a_column_of_the_click_is_no_feature(check: Any) -> None:
    for more in (
        "data.clicks.carry={dwell: float}",
        "data.label={column: dwell, at_least: 1}",
    ):
        with pytest.raises(ConfigError, match=r"'dwell'.*(tells|label)"):
            check(*JOIN, more, "features.numeric=[dwell]")


def test_without_clicks_a_label_is_needed(check: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.label: missing; it is req"):
        check("data.label=null")


ADMITTED = (
    "data.time=ts",
    "data.split={by: time, eval: 0.1}",
    "train.warm_start=latest_blessed",
    "features.categorical.user.admission=7",
)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            (
                "data={impressions: {path: a, format: tsv, header: true},"
                " label: click}"
            ),
            ["Accepted: data.time", "{DATE}"],
        ),
        (
            (
                "data={impressions: {path: 'a/{SPAN}', format: tsv,"
                " header: true}, label: click, spans: {last: 2}}"
            ),
            ["Accepted: data.time", "{DATE}"],
        ),
        ("train.warm_start=null", ["train.warm_start: null", "latest_blessed"]),
        ("transform.statistics=true", ["transform.statistics", "false"]),
        (
            "features.categorical=[{name: user, encode: hash, admission: 7}]",
            ["encode: hash", "Accepted: `encode: vocab`"],
        ),
        (
            "features.categorical.user.admission={days: 7, evict_after: 2}",
            ["evict_after", "7 or more"],
        ),
        ("features.categorical.user.admission=soon", ["'soon'", "such as 7"]),
        (
            (
                "features.categorical=[{name: user, admission: 7},"
                " {name: site, table: user}]"
            ),
            ["share a table", "admission"],
        ),
    ],
)
def test_an_admission_needs_days_and_a_base(
    check: Any, override: str, words: list[str]
) -> None:
    (found,) = check(*ADMITTED).features.admitted().values()
    assert (found.days, found.last) == (7, 7)
    with pytest.raises(ConfigError) as error:
        check(*ADMITTED, override)
    for word in ["categorical", "admission", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "data.split={by: hash, eval: 0.1}",
        (
            "data={impressions: {path: 'a/{DATE}', format: tsv, header: true},"
            " label: click, spans: {last: 2}}"
        ),
    ],
)
def test_an_admission_takes_days_of_rows_or_of_files(
    check: Any, override: str
) -> None:
    assert check(*ADMITTED, override).data.has_days


def test_who_admits_nothing_has_the_settings_that_were(check: Any) -> None:
    config = check()
    assert "admission" not in json.dumps(config.sections())
    features = check(
        *ADMITTED[:3],
        "features={defaults: {admission: 7},"
        " categorical: [user, {name: site, encode: hash}]}",
    ).features
    assert list(features.admitted()) == ["user"]


CALIBRATED = [
    # evaluate.calibrate, then words of the message; none: it is right
    ("none", []),
    ("null", []),
    ("off", []),
    ("isotonic", []),
    ("{method: platt, by: site}", []),
    ("{method: platt, by: seit}", ["by", "did you mean 'site'"]),
    ("{method: platt, by: price}", ["'price'", "a categorical feature"]),
    ("{method: platt, by: tags}", ["'tags'", "one value a row", "site"]),
    ("{method: platt, by: user}", ["'user'", "that requests hold: site"]),
    ("{by: site}", ["evaluate.calibrate.method", "missing"]),
]


@pytest.mark.parametrize(("calibrate", "words"), CALIBRATED)
def test_a_calibration_is_by_a_category_that_requests_hold(
    check: Any, calibrate: str, words: list[str]
) -> None:
    given = (
        "data.split={eval: 0.1, test: 0.1}",
        (
            "features.categorical=[site, {name: user, serve: u1},"
            " {name: tags, list: '|'}]"
        ),
        f"evaluate.calibrate={calibrate}",
    )
    if not words:
        found = check(*given).evaluate.calibrate
        assert (found is None) == (calibrate in ("none", "null", "off"))
        return
    with pytest.raises(ConfigError) as error:
        check(*given)
    for word in words:
        assert word in str(error.value)


REFUSED = [
    # override, then words that the message must hold
    ("train.epoch=3", ["train.epoch", "did you mean 'epochs'", "batch_size"]),
    ("trian.epochs=3", ["trian", "did you mean 'train'"]),
    (
        "features.categorical.0.encoding=hash",
        ["features.categorical.0.encoding", "did you mean 'encode'"],
    ),
    (
        "features.categorical.0.encode=vocabulary",
        ["categorical.0.encode", "'vocabulary'", "'vocab', 'hash'"],
    ),
    ("features.defaults.min_cuont=3", ["defaults.min_cuont", "'min_count'"]),
    ("features.defaults.dim=0", ["features.defaults.dim", "received 0"]),
    ("train.epochs=0", ["train.epochs", "received 0", "greater than"]),
    ("train.batch_size=many", ["train.batch_size", "'many'", "integer"]),
    ("model.dropout=1.0", ["model.dropout", "received 1.0", "less than 1"]),
    (
        "model.name=dnc_v2",
        [
            "model.name: ",
            "did you mean 'dcn_v2'",
            "tfrs_dlrm",
            "package.module:",
        ],
    ),
    ("model.bottom=[8]", ["model.bottom: unknown key", "hidden, dropout"]),
    ("model={name: dlrm, bottom: [0]}", ["model.bottom.0", "received 0"]),
    ("features.categorical.0.pool=attention", ["categorical.0", "`list`"]),
    ("data.split.by=time", ["data", "split.by: time", "`time`"]),
    ("data.split={by: hash, key: nobody}", ["split.key", "'nobody'"]),
    ("data.split={by: order, key: user}", ["`key`", "by: order"]),
    ("data.split.eval=1.5", ["data.split.eval", "1.5", "less than 1"]),
    ("data.label=clicked", ["label", "'clicked'", "impressions.columns"]),
    ("data.label={column: click}", ["exactly one", "at_least"]),
    (
        "data.label={column: click, at_leest: 1}",
        ["data.label.at_leest", "did you mean 'at_least'"],
    ),
    ("data.max_rejected=-0.1", ["data.max_rejected", "-0.1"]),
    (
        "data.impressions.escape=ab",
        ["data.impressions.escape", "'ab'", "at most 1"],
    ),
    (
        "data.impressions={path: x, format: csv, header: true, escape: ','}",
        ["data.impressions", "`escape`", "`delimiter`"],
    ),
    (
        (
            "data.impressions={path: x, format: csv, header: true, escape:"
            " '\\', null_values: ['\\N']}"
        ),
        ["data.impressions", "`null_values`", "taken away"],
    ),
    (
        "data.impressions={path: x, format: jsonl, escape: '\\'}",
        ["data.impressions", "`escape` is for csv and tsv"],
    ),
    (
        "data.impressions.max_line_bytes=10",
        ["data.impressions.max_line_bytes", "received 10", "1024"],
    ),
    ("data.impressions.format=xml", ["data.impressions.format", "'xml'"]),
    ("data.impressions.columns=null", ["columns", "header: true"]),
    ("data.impressions.path=''", ["data.impressions", "`path` is empty"]),
    ("data.negatives.keep=1.5", ["data.negatives.keep", "less than or"]),
    (
        "features.crosses=[{of: [site, nobody]}]",
        ["'nobody'", "not declared", "site, user"],
    ),
    ("features.crosses=[{of: [site, price]}]", ["'price'", "buckets"]),
    ("features.crosses=[{of: [site]}]", ["features.crosses.0.of", "2 values"]),
    (
        "features.numeric=[{name: price}, {name: price}]",
        ["'price'", "declared twice"],
    ),
    ("features.numeric=[{name: site}]", ["'site'", "declared twice"]),
    ("features={}", ["features", "at least one"]),
    ("features.numeric=[{name: cost}]", ["'cost'", "impressions.columns"]),
    ("features.numeric=[{name: click}]", ["'click'", "label"]),
    (
        "features.categorical=[{name: tags, encode: identity, list: '|'}]",
        ["`list`", "identity"],
    ),
    ("optimizer.name=lino", ["optimizer", "'lino'", "lion", "adagrad"]),
    ("optimizer.learning_rate=-1", ["learning_rate", "-1"]),
    ("optimizer.learning_rat=1", ["learning_rat", "learning_rate"]),
    (
        "evaluate.metrics.acu.min=0.5",
        ["no metric has the name 'acu'", "did you mean 'auc'"],
    ),
    ("evaluate.metrics.auc={}", ["metrics.auc", "`min`"]),
    ("evaluate.metrics.auc={min: 0.9, max: 0.1}", ["min 0.9", "max 0.1"]),
    ("evaluate.metrics.auc={min: 2}", ["metrics.auc", "min 2", "0 to 1"]),
    ("evaluate.metrics.auc={max: -0.1}", ["metrics.auc", "max -0.1"]),
    ("evaluate.metrics.pr_auc={min_change: 1.1}", ["min_change 1.1"]),
    ("evaluate.metrics.auc={max_change: -2}", ["max_change -2"]),
    ("evaluate.metrics.logloss={max: -1}", ["metrics.logloss", "max -1"]),
    (
        "evaluate.calibrate=platt",
        ["evaluate.calibrate", "'platt'", "data.split.test above 0"],
    ),
    ("evaluate.calibrate=beta", ["calibrate.method", "'beta'", "'isotonic'"]),
    ("evaluate.calibrate=[platt]", ["calibrate", "platt, isotonic, or {m"]),
    ("evaluate.slices=[[nobody]]", ["'nobody'", "impressions.columns"]),
    (
        "evaluate.metrics.logloss.max=.nan",
        ["evaluate.metrics.logloss.max", "nan", "finite"],
    ),
    (
        "evaluate.metrics.auc.min_change=-.inf",
        ["evaluate.metrics.auc.min_change", "-inf", "finite"],
    ),
    (
        "features.numeric.0={name: price, transform: buckets, buckets: 1}",
        ["features.numeric.0.buckets", "received 1", "equal to 2"],
    ),
    (
        "features.numeric.0={name: price, clip: [5, 1]}",
        ["features.numeric.0.clip", "received [5, 1]", "low below high"],
    ),
    (
        "features.numeric.0={name: price, clip: [null, null]}",
        ["features.numeric.0.clip", "one of them may be null"],
    ),
    (
        "features.numeric.0={name: price, clip: [0, .inf]}",
        ["features.numeric.0.clip", "finite"],
    ),
    (
        (
            "features.numeric.0={name: price, transform: log_buckets,"
            " missing: indicator}"
        ),
        ["features.numeric.0", "log_buckets", "an id of its own"],
    ),
    (
        "features.numeric.0={name: price, transform: buckets, pieces: 4}",
        ["features.numeric.0", "`transform: buckets`", "Leave one out"],
    ),
    (
        "features.numeric=[{name: a, pieces: 2}, {name: a_piece_1}]",
        ["features.numeric.0", "'a_piece_1'", "Rename one"],
    ),
    (
        "features.numeric=[{name: a, missing: indicator}, {name: a_missing}]",
        ["features.numeric.0", "'a_missing'", "Rename one"],
    ),
    (
        "features.categorical=[{name: tags, weights: ':'}]",
        ["features.categorical.0", "`weights` needs", "`list`"],
    ),
    (
        "features.categorical=[{name: tags, list: '|', weights: '|'}]",
        ["features.categorical.0", "'|' and '|'", "not in each other"],
    ),
    (
        "features.categorical=[{name: tags, list: '|', weights: '.'}]",
        ["features.categorical.0.weights", "received '.'"],
    ),
    (
        (
            "features.categorical=[{name: tags, list: '|', weights: true,"
            " pool: attention}]"
        ),
        ["features.categorical.0", "learns its weights", "mean, sum"],
    ),
    (
        "features.categorical=[{name: tags, pool: sum}]",
        ["features.categorical.0", "`pool: sum`", "`list`"],
    ),
    (
        "features.categorical=[{name: ad, pretrained: ads.txt}]",
        ["features.categorical.0.pretrained", "'ads.txt'", ".parquet"],
    ),
    (
        "features.categorical=[{name: ad, pretrained: ads.npy}]",
        ["features.categorical.0.pretrained", "`ids` received None"],
    ),
    (
        "features.categorical=[{name: ad, encode: hash, pretrained: a.csv}]",
        ["features.categorical.0", "`encode: vocab`", "hash"],
    ),
    (
        (
            "features.categorical=[{name: ad, pretrained: a.csv},"
            " {name: last, table: ad}]"
        ),
        ["features.categorical.1", "`pretrained` must be the same"],
    ),
    (
        "features.vectors=[{name: item, size: 0}]",
        ["features.vectors.0.size", "received 0"],
    ),
    (
        "features.vectors=[{name: price, size: 2}]",
        ["features", "'price'", "declared twice"],
    ),
    (
        "features={numeric: [v_1], vectors: [{name: v, size: 2}]}",
        ["features.vectors.0", "'v_1'", "Rename one"],
    ),
    ("name=../x", ["name", "received '../x'; accepted: text that matches ^"]),
    ("train.seed=-1", ["train.seed", "received -1"]),
    ("train.seed=4294967296", ["train.seed", "received 4294967296"]),
    ("data.negatives.seed=-1", ["data.negatives.seed", "received -1"]),
    (
        "features={categorical: [my col, my_col]}",
        ["features", "'my col' and 'my_col'", "rename one"],
    ),
    ("features={categorical: [Ad, ad]}", ["'Ad' and 'ad'", "rename one"]),
    ("name=my pipeline", ["name", "'my pipeline'"]),
    ("train.epochs", ["--set", "train.epochs", "path.to.field=value"]),
    ("features.categorical.7.dim=8", ["'7'", "0 to 1"]),
    ("features.categorical.².dim=8", ["'²'", "0 to 1"]),
]


@pytest.mark.parametrize(
    ("override", "words"), REFUSED, ids=[r[0] for r in REFUSED]
)
def test_a_wrong_setting_is_refused_with_words_that_help(
    check: Any, override: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        check(override)
    for word in words:
        assert word in str(error.value)


def test_all_problems_are_told_at_once(check: Any) -> None:
    with pytest.raises(ConfigError) as error:
        check("train.epochs=0", "model.dropout=2")
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert all("ads.yaml: " in line for line in lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "not valid YAML"),
        ("- a\n- b", "accepted: a mapping"),
        ("name: a\nname: b\n", "'name' comes twice"),
        ("", "accepted: a mapping"),
    ],
)
def test_a_file_that_is_no_config_is_refused(
    check: Any, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        check(text=text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "path", sorted(Path("configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_config_is_valid(path: Path) -> None:
    assert load(path).name == path.stem


@pytest.mark.parametrize(
    ("written", "action"),
    [("off", "off"), ("false", "off"), ("stop", "stop"), ("{}", "warn")],
)
def test_drift_is_a_word_or_a_section(
    check: Any, written: str, action: str
) -> None:
    assert check(f"data.drift={written}").data.drift.action == action


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.drift=maybe", "data.drift"),
        ("data.drift=true", "data.drift"),
        ("data.drift.categorical=2", "data.drift.categorical"),
        ("data.leaks=true", "data.leaks"),
        ("data.drift.features={nothing: 0.1}", "no feature 'nothing'"),
    ],
)
def test_settings_of_the_checks_are_checked(
    check: Any, override: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        check(override)


TIMES = ("data.time={column: ts, format: '%Y%m%d%H', zone: Europe/Berlin}",)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.weight=cost"], ["weight.column", "'cost'", "impressions.col"]),
        (["data.weight=price"], ["features.numeric.0", "data.weight"]),
        (["data.weight={half_life: 7d}"], ["`weight.half_life`", "`time`"]),
        (["data.weight.propensty=ts"], ["did you mean 'propensity'"]),
        (["data.weight={propensity: ts, clip: -1}"], ["data.weight.clip"]),
        (["features.time=[hour]"], ["features.time", "needs data.time"]),
        ([*TIMES, "features.time=[]"], ["features.time", "1 value or more"]),
        ([*TIMES, "features.time=[houre]"], ["features.time.of.0", "'hour'"]),
        ([*TIMES, "features.time=[hour, hour]"], ["'hour' is named twice"]),
        ([*TIMES, "features.time=hour"], ["features.time", "[hour, weekday]"]),
        (
            [*TIMES, "features.time={of: [hour], zone: Mars}"],
            ["features.time.zone", "'Mars'", "IANA"],
        ),
        (
            [*TIMES, "features.time=[hour]", "features.numeric=[ts]"],
            ["features.time", "'ts'", "declared twice", "by the time"],
        ),
        (
            [
                *TIMES,
                "features.time=[hour]",
                "features.crosses=[{of: [hour, site]}]",
            ],
            ["'hour'", "not declared", "ts_hour"],
        ),
        (["features.numeric=[example_weight]"], ["reserved for the weight"]),
    ],
)
def test_weights_and_times_are_checked(
    check: Any, overrides: list[str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        check(*overrides)
    for word in words:
        assert word in str(error.value)


def test_features_of_the_time_know_the_time(check: Any, tmp_path: Path) -> None:
    config = check(
        *TIMES,
        "features.time=[hour, weekday]",
        "features.defaults={dim: 8}",
        "features.crosses=[{of: [ts_hour, site]}]",
    )
    time = config.features.time
    assert time.time == config.data.time
    assert time.clock == "Europe/Berlin" and time.dim == 8
    assert config.features.kinds()["ts"] == "time"
    assert config.columns()["ts"] == "time"
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(config.resolved()))
    assert load(again).features == config.features
    moved = load(again, ["data.time.zone=Asia/Tokyo"])
    assert moved.features.time is not None
    assert moved.features.time.clock == "Asia/Tokyo"


LABELS = "data.labels={click: click, buy: {column: user_bought, of: click}}"
SLICE = "name: slice, slice: a, metrics: {}"
LOG = "data.impressions.columns=[click, user_bought, ts, user, price, site]"


@pytest.mark.parametrize(
    ("overrides", "field", "words"),
    [
        ([LABELS], "model.name", "accepted: shared_bottom, mmoe, esmm"),
        (["model=esmm"], "model.name", "without data.labels; accepted"),
        (
            [LABELS, "model=esmm", "train.loss=focal"],
            "train.loss",
            "received 'focal' with data.labels; accepted: logloss",
        ),
        (
            [
                LABELS,
                "model=mmoe",
                "tune={model.dropout: {linear: [0, 0.5]}, objective: brier}",
            ],
            "tune.objective",
            "received 'brier' with data.labels and no tune.output; accepted",
        ),
        (
            [LABELS, "model=mmoe", "tune={model.name: {choice: [mmoe, esmm]}}"],
            "tune.parameters",
            "model.name: received a choice with data.labels",
        ),
        (
            ["data.labels={click: click, like: user_bought}", "model=esmm"],
            "data.labels.like.of",
            "accepted: the first label, or model.name: shared_bottom, mmoe",
        ),
        (
            [LABELS, "model=esmm", "features.categorical=[user_bought]"],
            "features.categorical.0",
            "is the label's own column",
        ),
        (
            ["data.labels={click: click, buy: {column: click, of: click}}"],
            "data.labels.buy",
            "the rule of labels.click",
        ),
        (
            [
                LABELS,
                "model=esmm",
                f"evaluate.gates=[{{{SLICE}, output: z}}]",
            ],
            "evaluate.gates.0.output",
            "no output 'z'. Accepted: cvr, ctcvr",
        ),
        (
            [LABELS, "model=esmm", "evaluate.outputs={cvrr: {}}"],
            "evaluate.outputs.cvrr",
            "Accepted: cvr, ctcvr",
        ),
        (
            [LABELS, "model=esmm", "evaluate.outputs={cvr: {aucc: {min: 0}}}"],
            "evaluate.outputs.cvr",
            "did you mean 'auc'?",
        ),
        (
            [LABELS, "model=esmm", "evaluate.outputs={cvr: {gauc: {min: 0}}}"],
            "evaluate.outputs.cvr.gauc",
            "a metric by group",
        ),
    ],
)
def test_labels_that_a_pipeline_cannot_do_are_refused(
    check: Any, overrides: list[str], field: str, words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        check(LOG, *overrides)
    (line,) = str(error.value).splitlines()
    assert f"{field}: " in line
    assert words in line


def test_labels_of_a_pipeline_are_those_of_its_outputs(check: Any) -> None:
    config = check(
        LOG,
        LABELS,
        "model=esmm",
        "evaluate.outputs={cvr: {auc: {min: 0.6}}}",
        "evaluate.calibrate={method: platt, by: site}",
        "data.split={eval: 0.1, test: 0.1}",
        "features.categorical=[site, {name: user, serve: shallow}]",
    )
    labels = config.data.trained_labels
    assert [label.name for label in labels] == ["click", "buy"]
    assert config.evaluate.of_output("cvr").thresholds().keys() > {"auc"}
    assert "auc" not in config.evaluate.of_output("ctcvr").thresholds()


PAIRWISE = "train.loss={name: pairwise, group: user}"


def test_a_loss_is_a_name_or_a_section(check: Any) -> None:
    assert check().resolved()["train"]["loss"] == {"name": "logloss"}
    loss = check("train.loss=focal").train.loss
    assert loss.options == {"gamma": 2.0, "alpha": None}
    assert not loss.calibrated
    own = check("train.loss={name: 'my:Loss', margin: 2, group: site}")
    assert own.train.loss.options == {"margin": 2}
    assert own.group == "site"


def test_the_column_of_groups_is_read(check: Any) -> None:
    config = check("train.loss={name: jrc, group: ts}")
    assert config.group == "ts"
    assert config.columns()["ts"] == "string"
    assert check("train.loss=jrc", "evaluate.group=user").group == "user"
    assert check("evaluate.group=user").group is None
    searched = check(
        "tune={trials: 2, train.loss: {choice: [logloss, pairwise]}}",
        "evaluate.group=user",
    )
    assert searched.group == "user"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.loss=pairwise"], "train.loss: received 'pairwise' without"),
        (["train.loss={name: jrc, group: tags}",
          "features.categorical=[{name: tags, list: '|'}]"],
         "train.loss.group: received 'tags', a list"),
        (["train.loss={name: jrc, group: user}", "model.name=tfrs_dcn"],
         "needs two logits"),
        (["train.loss=focl"], "did you mean 'focal'?"),
        (["train.loss={name: focal, gama: 2}"], "did you mean 'gamma'?"),
        (["train.loss={name: focal, gamma: -1}"], "train.loss.gamma"),
        (["train.loss={name: jrc, group: click}"],
         "train.loss.group: received 'click', the column of a label"),
        (["evaluate.group=click"], "evaluate.group: received 'click', the col"),
        (["train.loss=3"], "accepted: a mapping with name, or a name alone"),
        (["train.early_stopping={metric: gauc}"], "groups no rows"),
        (["tune={trials: 2, train.loss: {choice: [logloss, jrc]}}"],
         "received 'jrc' without a group"),
        ([PAIRWISE, "tune.trials=2",
          "tune.train.loss.group={choice: [user, site]}"], "one column"),
    ],
)  # fmt: skip
def test_a_loss_that_cannot_be_is_refused(
    check: Any, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        check(*overrides)
    assert message in str(error.value)
