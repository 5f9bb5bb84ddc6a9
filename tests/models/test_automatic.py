"""Choices of a training where the config says `auto`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from models.config.architectures import ModelConfig
from models.training import precision
from models.training.automatic import batch_size, choose


def sections(**given: Any) -> dict[str, Any]:
    """The sections of a config with nothing but `given` (section__field)."""
    found: dict[str, Any] = {
        "model": dict.fromkeys(("hidden", "dropout", "embedding_l2"), "auto")
        | {"name": "wide_deep"},
        "optimizer": {"name": "lion", "learning_rate": "auto"},
        "train": dict.fromkeys(
            ("batch_size", "epochs", "linear_start"), "auto"
        ),
    }
    for path, value in given.items():
        section, _, field = path.partition("__")
        found[section][field] = value
    return found


@pytest.mark.parametrize(
    ("rows", "size"),
    [(1, 64), (10_000, 64), (100_000, 128), (1_000_000, 512), (10**9, 4096)],
)
def test_batches_grow_with_the_root_of_the_rows(rows: int, size: int) -> None:
    assert batch_size(rows) == size


def test_a_setting_that_is_given_stays_and_is_not_said_to_be_chosen() -> None:
    given = {
        "train__batch_size": 100,
        "train__epochs": 3,
        "train__linear_start": True,
        "model__hidden": [7],
        "model__dropout": 0.5,
        "model__embedding_l2": 0.1,
        "optimizer__learning_rate": 0.25,
    }
    found, chosen = choose(sections(**given), 10_000, 50)
    for path, value in given.items():
        section, _, field = path.partition("__")
        assert found[section][field] == value
    assert [c.path for c in chosen] == []


@pytest.mark.parametrize("rows", [1, 500, 20_000, 400_000, 5_000_000])
@pytest.mark.parametrize("name", ["lion", "adam", "ftrl"])
def test_every_auto_becomes_a_value_with_a_reason(rows: int, name: str) -> None:
    found, chosen = choose(sections(optimizer__name=name), rows, 50)
    values = [v for section in found.values() for v in section.values()]
    assert "auto" not in values
    assert all(choice.reason for choice in chosen)
    assert 1 <= found["train"]["epochs"] <= 8
    assert found["optimizer"]["learning_rate"] > 0


def test_an_epoch_of_one_step_is_counted_in_the_singular() -> None:
    _, chosen = choose(sections(), 50, 50)
    (epochs,) = [c for c in chosen if c.path == "train.epochs"]
    assert epochs.reason.startswith("1 step an epoch;")


@pytest.mark.parametrize(
    ("rows", "given", "linear"),
    [
        (5000, {}, True),
        (100_000, {}, True),
        (100_000, {"optimizer__name": "adam"}, True),
        (200_000, {}, True),
        (350_000, {}, True),
        (400_000, {}, False),
        (200_000, {"optimizer__name": "adam"}, False),
        (5000, {"model__name": "dcn_v2"}, False),
        (200_000, {"model__name": "dcn_v2"}, False),
        (5000, {"optimizer__learning_rate": 1e-3}, False),
        (5000, {"train__epochs": 2}, False),
        (5000, {"train__warm_start": "latest_blessed"}, False),
        (5000, {"train__strategy": "multi_worker"}, False),
    ],
)
def test_small_logs_start_from_a_linear_model(
    rows: int, given: dict[str, Any], linear: bool
) -> None:
    found, chosen = choose(sections(**given), rows, 50)
    assert found["train"]["linear_start"] is linear
    assert ("train.linear_start" in {c.path for c in chosen}) is linear
    if not linear:
        return
    # An embedding is free where enough rows speak of it.
    free, _ = choose(sections(**given), rows, 50, 2000)
    held, _ = choose(sections(**given), rows, 5000, 2000)
    slow = rows < 250_000
    assert free["model"]["embedding_l2"] == 0
    assert held["model"]["embedding_l2"] == (0.02 if slow else 0)
    # The best evaluation is kept, and there are several an epoch.
    per_epoch = -(-rows // found["train"]["batch_size"])
    assert found["train"]["eval_steps"] <= per_epoch / 4
    assert found["train"]["early_stopping"]
    # More rows: a larger network, and passes that take no longer than before.
    many = rows >= 150_000
    assert found["model"]["hidden"] == ([256, 128] if many else [64, 32])
    assert found["model"]["dropout"] == (0.2 if slow else 0)
    assert not many or found["train"]["epochs"] <= (2 if slow else 1)


@pytest.mark.parametrize(
    ("rows", "ids", "l2"),
    [(5000, 2000, 0.0), (5000, 2001, 0.02), (200_000, 10**6, 0.0)],
)
def test_embeddings_of_a_network_are_free_where_rows_tell_enough(
    rows: int, ids: int, l2: float
) -> None:
    for name in ("dcn_v2", "din"):
        found, _ = choose(sections(model__name=name), rows, ids, 2000)
        assert found["model"]["embedding_l2"] == l2


@pytest.mark.parametrize(
    ("width", "given", "layers", "rank"),
    [
        (1, {}, 3, None),
        (255, {}, 3, None),
        (256, {}, 2, 64),
        (429, {}, 2, 64),
        (429, {"cross_layers": 4}, 4, 64),
        (429, {"projection_dim": None}, 3, None),
        (429, {"projection_dim": 8}, 3, 8),
    ],
)
def test_wide_cross_layers_have_a_low_rank(
    width: int, given: dict[str, Any], layers: int, rank: int | None
) -> None:
    asked = ModelConfig(name="dcn_v2", **given).asked()
    all_asked = sections() | {"model": asked}
    found, chosen = choose(all_asked, 1_000_000, 50, width=width)
    model = found["model"]
    assert (model["cross_layers"], model["projection_dim"]) == (layers, rank)
    reasons = {c.path: c.reason for c in chosen}
    for name in ("cross_layers", "projection_dim"):
        assert (f"model.{name}" in reasons) is (name not in given)
        assert str(width) in reasons.get(f"model.{name}", str(width))


@pytest.mark.parametrize("name", ["wide_deep", "dcn_v2"])
@pytest.mark.parametrize("rows", [5000, 150_000, 250_000, 300_000])
def test_where_there_are_several_evaluations_the_best_is_kept(
    rows: int, name: str
) -> None:
    train = choose(sections(model__name=name), rows, 50)[0]["train"]
    several = train["epochs"] > 1 or train.get("eval_steps") is not None
    assert (train.get("early_stopping") is not None) is several
    assert several is (rows < 300_000 or name == "wide_deep")


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ((), "float32"),
        (("avx2", "avx512f"), "float32"),
        (("avx512_bf16",), "mixed_bfloat16"),
        (("avx512f", "amx_bf16"), "mixed_bfloat16"),
    ],
)
def test_precision_asks_the_processor(
    flags: tuple[str, ...], policy: str
) -> None:
    assert precision.of_cpu(flags)[0] == policy


@pytest.mark.parametrize(
    ("capability", "policy"),
    [
        ((7, 5), "float32"),
        ((8, 0), "mixed_bfloat16"),
        ((10, 0), "mixed_bfloat16"),
    ],
)
def test_precision_asks_the_gpu(
    capability: tuple[int, int], policy: str
) -> None:
    assert precision.of_gpu(capability)[0] == policy


def test_flags_are_those_that_linux_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\nbugs\t\t: x\n"
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "cpuinfo")
    assert precision.cpu_flags() == {"fpu", "avx2", "amx_bf16"}
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "none")
    assert precision.cpu_flags() == frozenset()


@pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")), reason="asks the GPU"
)
def test_auto_precision_becomes_what_the_machine_multiplies() -> None:
    found, chosen = choose(sections(train__precision="auto"), 10_000, 50)
    policy, reason = precision.of_cpu(precision.cpu_flags())
    assert found["train"]["precision"] == policy
    assert (("train.precision", policy, reason)) in [
        (c.path, c.value, c.reason) for c in chosen
    ]


@pytest.mark.parametrize(
    ("rows", "asked", "found"),
    [
        (10_000, "auto", "auto"),  # rows that are left out say later
        (5_000_000, "auto", False),
        (10_000, False, False),
        (10_000, True, True),
    ],
)
def test_curves_are_left_to_the_linear_start(
    rows: int, asked: bool | str, found: bool | str
) -> None:
    chosen, reasons = choose(sections(train__curves=asked), rows, 50)
    assert chosen["train"]["curves"] == found
    assert "train.curves" not in {choice.path for choice in reasons}
