"""The config section `model`, shared tables, and a user's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from models.architectures.registry import build_model
from models.architectures.user_model import own_version
from models.config.architectures import ARCHITECTURES, BUILDERS
from models.config.training import Features, ModelConfig
from models.errors import InputError
from models.preprocessing.input_layout import IdFeature, Layout, layout
from models.preprocessing.preprocessing_fn import observe, vocabularies
from optimizers import extension
from optimizers.registry import build_optimizer

LAYOUT = Layout((IdFeature("a", 5, 2),), (), ("x",))


def test_a_name_decides_which_options_there_are() -> None:
    for given in (
        {"name": "dcn_v2", "cross_layers": 2, "projection_dim": 8},
        {"name": "tfrs_dlrm", "bottom": [8], "hidden": []},
        {"hidden": [4], "dropout": 0.5, "batch_norm": True},
        {"name": "deepfm", "embedding_l2": 0.1},
        {"name": "mine.models:build", "units": 8, "hidden": [4]},
    ):
        config = ModelConfig.model_validate(given)
        assert ModelConfig(**given) == config
        for key in given:
            if key != "units":
                assert getattr(config, key) == _frozen(given[key])
        again = ModelConfig.model_validate(config.model_dump(mode="json"))
        assert again == config
    assert ModelConfig.model_validate("dlrm").name == "dlrm"


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cross_layers": 2}, ["unknown key", "by wide_deep: name", "hidden"]),
        (
            {"name": "dlrm", "projection_dim": 2},
            ["unknown key", "projection_dim", "bottom"],
        ),
        ({"name": "tfrs_dcn", "hiden": []}, ["did you mean 'hidden'"]),
        ({"name": "dnc_v2"}, ["did you mean 'dcn_v2'", "tfrs_dlrm", ":Name"]),
        ({"name": ["dlrm"]}, ["no architecture"]),
        ({"name": "dcn_v2", "cross_layers": 0}, ["greater than or equal"]),
        ({"name": "deepfm", "embedding_l2": -1}, ["embedding_l2"]),
    ],
)
def test_other_options_are_refused(given: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        ModelConfig.model_validate(given)
    for word in words:
        assert word in str(error.value)


def features(*categorical: dict[str, Any]) -> Features:
    return Features.model_validate(
        {"categorical": list(categorical), "numeric": ["n1"]}
    )


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"table": "c1", "dim": 8}, ["'c1' and 'c2'", "`dim`", "16 and 8"]),
        ({"table": "c1", "min_count": 5}, ["`min_count`", "2 and 5"]),
        ({"table": "c1", "encode": "hash"}, ["`encode`", "vocab and hash"]),
        ({"table": "n1"}, ["'n1', a number"]),
        ({"table": "c2"}, []),
        ({"table": "c1", "pool": "attention"}, ["`list`"]),
    ],
)
def test_features_of_one_table_must_be_alike(
    other: dict[str, Any], words: list[str]
) -> None:
    given = [{"name": "c1"}, {"name": "c2", **other}]
    if not words:
        assert features(*given).categorical[1].rows == "c2"
        return
    with pytest.raises(ValueError) as error:
        features(*given)
    for word in words:
        assert word in str(error.value)


def test_a_table_is_not_that_of_a_feature_with_another_table() -> None:
    with pytest.raises(ValueError, match="Give 'words'"):
        features(
            {"name": "c1", "table": "words"}, {"name": "c2", "table": "c1"}
        )


def test_a_shared_vocabulary_is_of_the_values_of_all() -> None:
    config = features(
        {"name": "c1"},
        {"name": "c2", "table": "c1"},
        {"name": "tags", "table": "c1", "list": "|"},
        {"name": "c3"},
    )
    columns = {
        "c1": ["a", ""],
        "c2": ["b", "a"],
        "tags": [["c", "a"], ["d", ""]],
        "c3": ["e", "e"],
    }
    raw: dict[str, Any] = {
        name: tf.sparse.from_dense(tf.reshape(tf.constant(values), [2, -1]))
        for name, values in columns.items()
    }
    raw |= {"n1": tf.zeros([2, 1]), "label": tf.ones([2, 1], tf.int64)}
    shared, own = observe(raw, config).texts
    expected = [b"", b"a", b"a", b"a", b"b", b"c", b"d"]
    assert sorted(shared.numpy()) == expected
    assert own.numpy().tolist() == [b"e", b"e"]
    files = [v.file_name for v in vocabularies(config)]
    assert files == ["vocab_c1", "vocab_c3"]
    sizes = {"vocab_c1": 4, "vocab_c3": 1}
    shape = layout(config, sizes.__getitem__)
    assert [(f.rows, f.size) for f in shape.ids] == [
        ("c1", 6),
        ("c1", 6),
        ("c3", 3),
        ("c1", 6),
    ]


MODULE = """
import keras

def build(layout, config, base_rate):
    ids = keras.Input((len(layout.single),), dtype="int64")
    dense = keras.Input((len(layout.dense),))
    x = keras.layers.Dense(config.options["units"])(dense)
    x = keras.layers.Dense(1)(x)
    logit = keras.layers.Reshape(())(x)
    return keras.Model({"ids": ids, "dense": dense}, logit)

def nothing(layout, config, base_rate):
    return None

def unbuilt(layout, config, base_rate):
    return keras.Sequential([keras.layers.Dense(1)])

def failing(layout, config, base_rate):
    raise ValueError("no units")

def column(layout, config, base_rate):
    dense = keras.Input((len(layout.dense),))
    return keras.Model({"dense": dense}, keras.layers.Dense(1)(dense))

def uncallable(layout, config, base_rate):
    numbers = keras.Input((7,))
    return keras.Model({"numbers": numbers}, keras.layers.Dense(1)(numbers))

text = "no function"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_ctr_models.py").write_text(MODULE)
    (tmp_path / "my_broken_models.py").write_text("import no_such_thing\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_architecture_has_options_and_a_builder() -> None:
    assert BUILDERS.names == tuple(ARCHITECTURES)
    for name in BUILDERS.names:
        assert callable(BUILDERS.load(name))


def test_an_unknown_architecture_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError) as error:
        ModelConfig(name="dcn")
    for word in ("'dcn'", "did you mean 'dcn_v2'?", *ARCHITECTURES):
        assert word in str(error.value)


def test_a_users_models_folder_beside_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the current folder nor a package of the same name hides it."""
    monkeypatch.setenv("LIONCTR_EXTENSIONS", "")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "my.py").write_text(
        "from models.my_parts import build\n"
    )
    (tmp_path / "models" / "my_parts.py").write_text(MODULE)
    extension.search(tmp_path)
    config = ModelConfig(name="models.my:build", units=3)
    before = own_version(config)
    model = build_model(LAYOUT, config, 0.2)
    batch = {"ids": tf.zeros([4, 1], tf.int64), "dense": tf.ones([4, 1])}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(batch, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer = build_optimizer({"name": "lion"}, 10)
    optimizer.build(model.trainable_variables)
    weights = [w.copy() for w in model.get_weights()]
    optimizer.apply(gradients, model.trainable_variables)
    assert any(
        (a != b).any()
        for a, b in zip(weights, model.get_weights(), strict=True)
    )
    (tmp_path / "models" / "my_parts.py").write_text(MODULE + "# changed\n")
    assert own_version(config) != before


def test_a_model_of_the_users_own(here: Path) -> None:
    config = ModelConfig(name="my_ctr_models:build", units=3)
    model = build_model(LAYOUT, config, 0.2)
    assert isinstance(model, keras.Model)
    batch = {"ids": tf.zeros([4, 1], tf.int64), "dense": tf.ones([4, 1])}
    assert model(batch).shape == (4,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_models:build", ["no_such_models", "looked for", "{here}"]),
        ("my_broken_models:build", ["no_such_thing"]),
        ("my_ctr_models:make", ["has no 'make'", "a function (layout"]),
        ("my_ctr_models:text", ["cannot be called", "def build(layout"]),
        ("my_ctr_models:nothing", ["keras.Model", "NoneType"]),
        ("my_ctr_models:unbuilt", ["built"]),
        (
            "my_ctr_models:failing",
            ["model.name: my_ctr_models:failing raised ValueError: no units"],
        ),
        ("my_ctr_models:column", ["logits [N]", "[2, 1]", "logits[:, 0]"]),
        ("my_ctr_models:uncallable", ["called with two rows", "numbers"]),
    ],
)
def test_what_is_missing_is_said(
    here: Path, name: str, words: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        build_model(LAYOUT, ModelConfig(name=name), 0.2)
    for word in words:
        assert word.format(here=here) in str(error.value)


def test_a_module_that_is_not_there_stops_a_run_early(here: Path) -> None:
    with pytest.raises(InputError, match="no module 'no_such_models'"):
        own_version(ModelConfig(name="no_such_models:build"))
    assert own_version(ModelConfig()) == ""


def test_the_version_of_a_model_of_the_users_own_is_its_code(
    here: Path,
) -> None:
    alone = own_version(ModelConfig(name="my_ctr_models:build"))
    (here / "my_ctr_package").mkdir()
    (here / "my_ctr_package" / "__init__.py").write_text("")
    (here / "my_ctr_package" / "models.py").write_text(MODULE)
    packed = ModelConfig(name="my_ctr_package.models:build")
    before = own_version(packed)
    assert len({alone, before, ""}) == 3
    (here / "my_ctr_package" / "layers.py").write_text("x = 1")
    assert own_version(packed) != before
