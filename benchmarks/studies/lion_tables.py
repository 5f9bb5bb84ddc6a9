"""Which rule for embedding tables? Optimizers on equal terms, in JAX on a GPU.

    python -m benchmarks.studies.lion_tables --out results.json [--seconds 400]

Trains four architectures on generated rows of Criteo's shape, whose true
probabilities are known. Each contender has the same number of settings: rate
of the tables x rate of the rest x schedule. Validation rows choose one, then
three other seeds train with it, and test rows judge. Many settings train at
once, as one vectorised program, so a search of hundreds takes minutes on a
card. Architectures and rules are those of `models/architectures` and
`optimizers`, written again in JAX: TensorFlow is not needed.

All rules of the tables in one place, `_table_update`: g is the gradient summed
over the batch, c = b1 m + (1 - b1) g. A lazy rule changes the rows of the
batch only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipeline.synthetic.criteo import Criteo  # noqa: E402

DIM, HIDDEN, STDDEV = 16, (256, 128), 0.01
ARCHITECTURES = ("wide_deep", "dcn_v2", "deepfm", "dlrm")
LION, ADAM, ADAGRAD, ROWWISE, FTRL = range(5)
SIGN, ROW, TANH = range(3)  # units of Lion's update
SETTING = {
    "table": LION, "rest": LION, "wide": -1, "unit": SIGN, "lazy": 1.0,
    "decayed": 0.0, "cautious": 0.0, "frequency": 0.0, "b1": 0.9, "b2": 0.99,
    "decay": 0.0, "muon": 0.0,
}  # fmt: skip
LION_RATES = ((1e-3, 2e-3, 4e-3, 8e-3), (1e-4, 4e-4, 1e-3))
ADAM_RATES = ((5e-4, 1e-3, 2e-3, 4e-3), (4e-4, 1e-3, 2e-3))
MIXED_RATES = ((1e-3, 2e-3, 4e-3, 8e-3), (4e-4, 1e-3, 2e-3))
ADAGRAD_RATES = ((0.01, 0.03, 0.1, 0.3), (0.003, 0.01, 0.03))
ROWWISE_RATES = ((0.01, 0.03, 0.1, 0.3), (4e-4, 1e-3, 2e-3))
# A table's rate by frequency is that of a row seen once: it may be larger.
FREQUENCY_RATES = ((4e-3, 8e-3, 1.6e-2, 3.2e-2), (1e-4, 2e-4, 4e-4))


def _lion(**changes: Any) -> tuple[dict[str, Any], Any]:
    return {**SETTING, **changes}, LION_RATES


# Name -> what is fixed, and the rates searched. Slots: floats per weight.
CONTENDERS: dict[str, tuple[dict[str, Any], Any]] = {
    "adam": ({**SETTING, "table": ADAM, "rest": ADAM, "lazy": 0.0}, ADAM_RATES),
    "adamw 0.01": (
        {**SETTING, "table": ADAM, "rest": ADAM, "lazy": 0.0, "decay": 0.01},
        ADAM_RATES,
    ),
    "adam lazy": ({**SETTING, "table": ADAM, "rest": ADAM}, ADAM_RATES),
    "adagrad": (
        {**SETTING, "table": ADAGRAD, "rest": ADAGRAD},
        ADAGRAD_RATES,
    ),
    "row-wise adagrad, adam": (
        {**SETTING, "table": ROWWISE, "rest": ADAM},
        ROWWISE_RATES,
    ),
    "ftrl wide, adagrad": (
        {**SETTING, "table": ADAGRAD, "rest": ADAGRAD, "wide": FTRL},
        ADAGRAD_RATES,
    ),
    "muon, adam": (
        {**SETTING, "table": ADAM, "rest": ADAM, "lazy": 0.0, "muon": 1.0},
        ADAM_RATES,
    ),
    "lion stock (dense)": _lion(lazy=0.0),
    "lion lazy .99": _lion(),
    "lion decayed .99": _lion(decayed=1.0),
    "lion lazy .97": _lion(b2=0.97),
    "lion lazy .95": _lion(b2=0.95),
    "lion lazy .9": _lion(b2=0.9),
    "lion rows .99": _lion(unit=ROW),
    "lion rows .95": _lion(unit=ROW, b2=0.95),
    "lion rows .9": _lion(unit=ROW, b2=0.9),
    "lion tanh .95": _lion(unit=TANH, b2=0.95),
    "lion lazy .95 cautious": _lion(b2=0.95, cautious=1.0),
    "lion rows .95 by frequency": _lion(unit=ROW, b2=0.95, frequency=0.25),
    "lion lazy .95 by frequency": _lion(b2=0.95, frequency=0.25),
    **{
        f"lion {word} {b2} by frequency {power}": (
            {**SETTING, "unit": unit, "b2": b2, "frequency": power},
            FREQUENCY_RATES,
        )
        for word, unit, b2, power in (
            ("lazy", SIGN, 0.95, 0.35),
            ("lazy", SIGN, 0.95, 0.5),
            ("lazy", SIGN, 0.9, 0.25),
            ("lazy", SIGN, 0.9, 0.35),
            ("lazy", SIGN, 0.9, 0.5),
            ("rows", ROW, 0.9, 0.35),
        )
    },
    "lion rows .95 decay 1": _lion(unit=ROW, b2=0.95, decay=1.0),
    "lion lazy .95 decay 1": _lion(b2=0.95, decay=1.0),
    "lion rows .95, adam": (
        {**SETTING, "unit": ROW, "b2": 0.95, "rest": ADAM},
        MIXED_RATES,
    ),
    "lion rows .95, muon": (
        {**SETTING, "unit": ROW, "b2": 0.95, "rest": ADAM, "muon": 1.0},
        MIXED_RATES,
    ),
}

# Contenders on the large data, chosen before any result was seen.
FINAL = (
    "adam", "adagrad", "row-wise adagrad, adam", "lion lazy .99",
    "lion lazy .95", "lion rows .95", "lion rows .95, adam",
)  # fmt: skip


def draw(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Ids [rows, 26], numbers [rows, 13], labels and true probabilities.

    The first 80 % of the rows train: vocabularies hold values seen twice
    there, rank 0 is all others, rank 1 a missing value.
    """
    rng = np.random.default_rng(seed)
    columns, logit = Criteo(rng).draw(rng, np.zeros(rows, np.int64))
    probability = 1 / (1 + np.exp(-logit))
    label = (rng.random(rows) < probability).astype(np.float32)
    train = int(rows * 0.8)

    def encoded(name: str) -> np.ndarray:
        values = columns[name].dictionary_encode()
        codes = values.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        seen = codes[:train]
        counts = np.bincount(seen[seen >= 0], minlength=len(values.dictionary))
        kept = np.flatnonzero(counts >= 2)
        rank = np.zeros(len(counts) + 1, np.int32)  # the last: missing
        rank[kept] = 2 + np.arange(len(kept))
        rank[-1] = 1
        return rank[codes]

    def scaled(name: str) -> np.ndarray:
        values = columns[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
        log = np.sign(values) * np.log1p(np.abs(values))
        mean, spread = np.nanmean(log[:train]), np.nanstd(log[:train])
        return np.nan_to_num((log - mean) / spread).astype(np.float32)

    with ThreadPoolExecutor() as pool:
        ids = list(pool.map(encoded, [f"C{i + 1}" for i in range(26)]))
        numbers = list(pool.map(scaled, [f"I{i + 1}" for i in range(13)]))
    sizes = [int(column.max()) + 1 for column in ids]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return {
        "ids": np.stack(ids, 1) + first.astype(np.int32),
        "numbers": np.stack(numbers, 1),
        "label": label,
        "probability": probability,
        "rows": np.asarray(sum(sizes)),
    }


def initial(name: str, rows: int, rate: float, key: Any) -> dict[str, Any]:
    """Weights of an architecture: `table`, `wide` if it has one, the rest."""
    keys = iter(jax.random.split(key, 32))

    def matrix(fan_in: int, fan_out: int) -> Any:
        limit = (6 / (fan_in + fan_out)) ** 0.5
        return jax.random.uniform(
            next(keys), (fan_in, fan_out), minval=-limit, maxval=limit
        )

    width = 26 * DIM + 13
    rest: dict[str, Any] = {}
    if name == "dcn_v2":
        for i in range(3):
            rest[f"cross_{i}"] = matrix(width, width)
            rest[f"cross_{i}_bias"] = jnp.zeros(width)
    if name == "deepfm":
        rest["vector"] = STDDEV * jax.random.normal(next(keys), (13, DIM))
        rest["weight"] = jnp.zeros(13)
    if name == "dlrm":
        for i, (a, b) in enumerate(((13, 64), (64, DIM))):
            rest[f"bottom_{i}"] = matrix(a, b)
            rest[f"bottom_{i}_bias"] = jnp.zeros(b)
        width = 27 * 26 // 2 + DIM
    for i, units in enumerate(HIDDEN):
        rest[f"hidden_{i}"] = matrix(width, units)
        rest[f"hidden_{i}_bias"] = jnp.zeros(units)
        width = units
    rest["out"] = matrix(width, 1)
    rest["out_bias"] = jnp.full(1, np.log(rate / (1 - rate)))
    table = STDDEV * jax.random.normal(next(keys), (rows, DIM))
    wide = jnp.zeros((rows, 1))
    return {"table": table, "wide": wide, "rest": rest}


def logits(name: str, weights: Any, ids: Any, numbers: Any) -> Any:
    """[N] of a batch: ids [N, 26], numbers [N, 13]."""
    rest = weights["rest"]
    rows = weights["table"][ids]  # [N, 26, DIM]
    flat = jnp.concatenate([rows.reshape(len(ids), -1), numbers], 1)
    logit = jnp.zeros(len(ids))
    if name in ("wide_deep", "deepfm"):
        logit += weights["wide"][ids].sum((1, 2))
    x = flat
    if name == "dcn_v2":
        for i in range(3):
            x = flat * (x @ rest[f"cross_{i}"] + rest[f"cross_{i}_bias"]) + x
    if name == "deepfm":
        fields = jnp.concatenate(
            [rows, numbers[:, :, None] * rest["vector"]], 1
        )
        square = jnp.square(fields.sum(1)) - jnp.square(fields).sum(1)
        logit += numbers @ rest["weight"] + 0.5 * square.sum(1)
    if name == "dlrm":
        bottom = numbers
        for i in range(2):
            bottom = jax.nn.relu(
                bottom @ rest[f"bottom_{i}"] + rest[f"bottom_{i}_bias"]
            )
        fields = jnp.concatenate([bottom[:, None], rows], 1)
        one, other = np.tril_indices(27, -1)
        dots = jnp.einsum("nid,njd->nij", fields, fields)[:, one, other]
        x = jnp.concatenate([bottom, dots], 1)
    for i in range(len(HIDDEN)):
        x = jax.nn.relu(x @ rest[f"hidden_{i}"] + rest[f"hidden_{i}_bias"])
    return logit + (x @ rest["out"] + rest["out_bias"])[:, 0]


def logloss(logit: Any, label: Any) -> Any:
    """Mean log loss of logits."""
    return jnp.mean(jax.nn.softplus(logit) - label * logit)


def _table_update(
    w: Any, m: Any, v: Any, g: Any, hit: Any, row: Any, h: Any, step: Any
) -> tuple[Any, Any, Any]:
    """One step of a table [R, D] by the rule that `h` says.

    Args:
        w, m, v: weights and two slots; a rule uses what it needs.
        g: gradient summed over the batch, zero in other rows.
        hit: [R, 1], rows of the batch.
        row: [R, 2]: steps in which a row was seen, and the last of them.
        h: the setting, with `rate`; `rule` is the table's.
        step: 1, 2, ...
    """
    hit = jnp.maximum(hit, 1 - h["lazy"])
    b1, b2, rate = h["b1"], h["b2"], h["rate"]
    lag = jnp.where(
        (h["decayed"] > 0) & (row[:, 1:] > 0), step - row[:, 1:] - 1, 0.0
    )
    old = m * jnp.power(b2, lag)
    c = b1 * old + (1 - b1) * g
    norm = jnp.sqrt(jnp.square(c).sum(1, keepdims=True))
    by_row = c / jnp.maximum(norm, 1e-30) * c.shape[1] ** 0.5
    mean = jnp.abs(c).mean(1, keepdims=True)
    smooth = jnp.tanh(c / jnp.maximum(mean, 1e-30))
    u = jnp.select(
        [h["unit"] == ROW, h["unit"] == TANH], [by_row, smooth], jnp.sign(c)
    )
    agrees = (u * g > 0).astype(jnp.float32)
    scale = agrees / jnp.maximum(agrees.mean(1, keepdims=True), 1e-3)
    u = jnp.where(h["cautious"] > 0, u * scale, u)
    seen = jnp.maximum(row[:, :1], 1.0)
    u = u * jnp.power(seen, -h["frequency"])
    lion = (w - rate * (u + h["decay"] * w), b2 * old + (1 - b2) * g, v)

    m_, v_ = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    fix = jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    move = m_ * fix / (jnp.sqrt(v_) + 1e-7) + h["decay"] * w
    adam = (w - rate * move, m_, v_)

    begun = jnp.where(v == 0, 0.1, v)
    v_ = begun + g * g
    adagrad = (w - rate * g / jnp.sqrt(v_ + 1e-7), m, v_)
    v_ = v + jnp.square(g).mean(1, keepdims=True)
    rowwise = (w - rate * g / (jnp.sqrt(v_) + 1e-8), m, v_)

    n_ = begun + g * g
    z = m + g - (jnp.sqrt(n_) - jnp.sqrt(begun)) / rate * w
    ftrl = (-z * rate / jnp.sqrt(n_), z, n_)

    rules = [lion, adam, adagrad, rowwise, ftrl]
    pick = [h["rule"] == i for i in range(len(rules))]
    return tuple(
        jnp.where(hit > 0, jnp.select(pick, [r[i] for r in rules]), before)
        for i, before in enumerate((w, m, v))
    )


def _orthogonal(g: Any) -> Any:
    """Muon's Newton-Schulz iteration, five steps."""
    wide = g.shape[0] < g.shape[1]
    x = g if wide else g.T
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return (x if wide else x.T) * max(1.0, g.shape[0] / g.shape[1]) ** 0.5


def _rest_update(
    muon: bool, w: Any, m: Any, v: Any, g: Any, h: Any, step: Any, name: str
) -> tuple[Any, Any, Any]:
    c = 0.9 * m + 0.1 * g
    lion = (w - h["rest_rate"] * jnp.sign(c), 0.99 * m + 0.01 * g, v)
    m_, v_ = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    fix = jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    move = (
        m_ * fix / (jnp.sqrt(v_) + 1e-7)
        + jnp.where(h["table"] == ADAM, h["decay"], 0.0) * w
    )
    adam = (w - h["rest_rate"] * move, m_, v_)
    v_ = jnp.where(v == 0, 0.1, v) + g * g
    adagrad = (w - h["rest_rate"] * g / jnp.sqrt(v_ + 1e-7), m, v_)
    rules = [lion, adam, adagrad]
    if muon and w.ndim == 2 and name not in ("out", "vector"):
        m_ = 0.95 * m + g
        u = _orthogonal(0.95 * m_ + g)
        # Rates of Adam's size: the update's RMS is matched (2502.16982).
        fit = (
            0.2 * max(w.shape) ** 0.5 / max(1.0, w.shape[0] / w.shape[1]) ** 0.5
        )
        rules = [(w - h["rest_rate"] * fit * u, m_, v)] * 3
    pick = [h["rest"] == i for i in range(3)]
    return tuple(jnp.select(pick, [r[i] for r in rules]) for i in range(3))


def train_step(
    name: str, muon: bool, steps: int, state: Any, batch: Any, h: Any, hit: Any
) -> Any:
    """One update of all weights by one setting."""
    weights, m, v, row, step = state
    ids, numbers, label = batch
    step = step + 1
    grads = jax.grad(lambda w: logloss(logits(name, w, ids, numbers), label))(
        weights
    )
    cosine = 0.5 * (1 + jnp.cos(np.pi * (step - 1) / steps))
    pace = jnp.where(h["cosine"] > 0, cosine, 1.0)
    h = {
        **h,
        "rate": h["table_rate"] * pace,
        "rest_rate": h["rest_rate"] * pace,
    }
    new: list[Any] = [{}, {}, {}]
    seen = row[:, :1] + hit
    for part in ("table", "wide"):
        rule = h["table"]
        if part == "wide":
            rule = jnp.where(h["wide"] >= 0, h["wide"], rule)
        out = _table_update(
            weights[part], m[part], v[part], grads[part], hit,
            jnp.concatenate([seen, row[:, 1:]], 1), {**h, "rule": rule}, step,
        )  # fmt: skip
        for i in range(3):
            new[i][part] = out[i]
    rest: list[dict[str, Any]] = [{}, {}, {}]
    for key, w in weights["rest"].items():
        out = _rest_update(
            muon, w, m["rest"][key], v["rest"][key], grads["rest"][key], h,
            step, key,
        )  # fmt: skip
        for i in range(3):
            rest[i][key] = out[i]
    for i in range(3):
        new[i]["rest"] = rest[i]
    last = jnp.where(hit > 0, step, row[:, 1:])
    return (*new, jnp.concatenate([seen, last], 1), step)


class Trainer:
    """Trains many settings of one architecture at once.

    Args:
        name: of the architecture.
        data: of `draw`.
        batch: rows of an update.
        epochs: passes over the training rows, each looked at.
        width: settings trained at once.
    """

    def __init__(
        self, name: str, data: Any, batch: int, epochs: int, width: int
    ) -> None:
        self.name, self.width, self.epochs = name, width, epochs
        total = len(data["label"])
        self.train, self.half = int(total * 0.8), int(total * 0.9)
        self.steps = self.train // batch
        self.batch = batch
        self.arrays = tuple(
            jax.device_put(data[k]) for k in ("ids", "numbers", "label")
        )
        self.labels = data["label"]
        self.rows = int(data["rows"])
        self.rate = float(data["label"][: self.train].mean())
        self._programs = {
            muon: jax.jit(partial(self._epoch, muon), donate_argnums=(0,))
            for muon in (False, True)
        }
        self._scores = jax.jit(self._score)
        self._compiled: dict[bool, Any] = {}
        self._scored: Any = None

    def _epoch(
        self, muon: bool, state: Any, order: Any, h: Any, arrays: Any
    ) -> Any:
        step_fn = partial(train_step, self.name, muon, self.steps * self.epochs)

        def body(state: Any, index: Any) -> Any:
            batch = tuple(a[index] for a in arrays)
            hit = jnp.zeros((self.rows, 1)).at[batch[0].reshape(-1)].set(1.0)
            many = jax.vmap(step_fn, in_axes=(0, None, 0, None))
            return many(state, batch, h, hit), None

        return jax.lax.scan(body, state, order)[0]

    def _score(self, weights: Any, arrays: Any) -> Any:
        """Logits of validation and test rows, [width, N]."""
        ids, numbers, _ = (a[self.train :] for a in arrays)
        part = 2000
        count = len(ids) // part
        ids = ids[: count * part].reshape(count, part, -1)
        numbers = numbers[: count * part].reshape(count, part, -1)
        many = jax.vmap(partial(logits, self.name), in_axes=(0, None, None))
        out = jax.lax.map(lambda xs: many(weights, *xs), (ids, numbers))
        return out.transpose(1, 0, 2).reshape(out.shape[1], -1)

    def compile(self, muon: bool) -> None:
        """Compiles ahead: several architectures at once, on other threads."""
        h = {
            k: jax.ShapeDtypeStruct((self.width,), jnp.float32)
            for k in (*SETTING, "table_rate", "rest_rate", "cosine")
            if k != "muon"
        }
        state = jax.eval_shape(self._state, jax.random.key(0))
        order = jax.ShapeDtypeStruct((self.steps, self.batch), jnp.int32)
        for kind in (False, True)[: 1 + muon]:
            program = self._programs[kind]
            self._compiled[kind] = program.lower(
                state, order, h, self.arrays
            ).compile()
        self._scored = self._scores.lower(state[0], self.arrays).compile()

    def _state(self, key: Any) -> Any:
        one = initial(self.name, self.rows, self.rate, key)
        zeros = jax.tree.map(jnp.zeros_like, one)
        state = (one, zeros, zeros, jnp.zeros((self.rows, 2)), jnp.zeros(()))
        return jax.tree.map(lambda x: jnp.repeat(x[None], self.width, 0), state)

    def run(
        self, settings: list[dict[str, Any]], seed: int
    ) -> list[list[dict[str, float]]]:
        """For each setting, after each epoch: logloss and AUC of both parts."""
        padded = settings + settings[-1:] * (self.width - len(settings))
        keys = padded[0].keys()
        h = {
            k: jnp.array([s[k] for s in padded], jnp.float32)
            for k in keys
            if k != "muon"
        }
        state = jax.jit(self._state)(jax.random.key(seed))
        program = self._compiled[bool(padded[0]["muon"])]
        rng = np.random.default_rng(seed)
        scores_of: list[list[dict[str, float]]] = [[] for _ in settings]
        for _ in range(self.epochs):
            order = rng.permutation(self.train)[: self.steps * self.batch]
            order = order.astype(np.int32)
            state = program(
                state, order.reshape(self.steps, -1), h, self.arrays
            )
            found = np.asarray(self._scored(state[0], self.arrays))
            with ThreadPoolExecutor() as pool:
                for i, scores in enumerate(
                    pool.map(self._judge, found[: len(settings)])
                ):
                    scores_of[i].append(scores)
        return scores_of

    def _judge(self, logit: Any) -> dict[str, float]:
        labels = self.labels[self.train :][: len(logit)]
        cut = self.half - self.train
        logit = logit.astype(np.float64)
        scores = {}
        for part, where in (
            ("validation", slice(0, cut)),
            ("test", slice(cut, None)),
        ):
            x, y = logit[where], labels[where]
            scores[f"{part}_logloss"] = float(
                np.mean(np.logaddexp(0, x) - y * x)
            )
            scores[f"{part}_auc"] = auc(x, y)
        return scores


def auc(score: Any, label: Any) -> float:
    """Area under the ROC curve; ties are rare enough to ignore."""
    order = np.argsort(score)
    rank = np.empty(len(order))
    rank[order] = np.arange(1, len(order) + 1)
    positive = label.sum()
    negative = len(label) - positive
    area = rank[label > 0].sum() - positive * (positive + 1) / 2
    return float(area / (positive * negative))


def settings_of(name: str) -> list[dict[str, Any]]:
    """The search of a contender: rates of tables x rest x schedule."""
    fixed, (tables, rest) = CONTENDERS[name]
    return [
        {**fixed, "table_rate": a, "rest_rate": b, "cosine": float(c)}
        for a, b, c in itertools.product(tables, rest, (True, False))
    ]


def study(
    trainer: Trainer, names: list[str], seeds: int, deadline: float
) -> dict[str, Any]:
    """Searches, then judges: contender -> what was tried, what came out."""
    found: dict[str, Any] = {}
    for muon in (0.0, 1.0):
        group = [n for n in names if CONTENDERS[n][0]["muon"] == muon]
        flat = [(n, s) for n in group for s in settings_of(n)]
        tried: dict[str, list[Any]] = {n: [] for n in group}
        for start in range(0, len(flat), trainer.width):
            if time.monotonic() > deadline:
                break
            some = flat[start : start + trainer.width]
            results = trainer.run([s for _, s in some], 0)
            for (n, s), epochs in zip(some, results, strict=True):
                tried[n].append({"setting": s, "epochs": epochs})
        best: dict[str, Any] = {}
        for n in group:
            options = [
                (e["validation_logloss"], i, item["setting"])
                for item in tried[n]
                for i, e in enumerate(item["epochs"])
                if np.isfinite(e["validation_logloss"])
            ]
            if options:
                best[n] = min(options, key=lambda o: o[0])
        judged: dict[str, list[Any]] = {n: [] for n in best}
        for seed in range(1, seeds + 1):
            if not best or time.monotonic() > deadline:
                break
            results = trainer.run([best[n][2] for n in best], seed)
            for n, epochs in zip(best, results, strict=True):
                judged[n].append(epochs[best[n][1]])
        for n in best:
            found[n] = {
                "best": {"epoch": best[n][1] + 1, **best[n][2]},
                "searched": tried[n],
                "seeds": judged[n],
            }
    return found


def show(title: str, found: dict[str, Any]) -> None:
    """Prints the table of one architecture on one data set."""
    print(f"\n{title}")
    print(
        f"{'contender':<28} {'AUC':>7} {'logloss':>8} {'+-':>7}"
        "  table rate, rest, schedule, epoch"
    )
    lines = []
    for name, item in found.items():
        losses = [s["test_logloss"] for s in item["seeds"]] or [np.nan]
        aucs = [s["test_auc"] for s in item["seeds"]] or [np.nan]
        b = item["best"]
        lines.append(
            (
                np.mean(losses),
                (
                    f"{name:<28} {np.mean(aucs):7.4f} {np.mean(losses):8.5f}"
                    f" {np.std(losses):7.5f}  {b['table_rate']:g}"
                    f" {b['rest_rate']:g}"
                    f" {'cosine' if b['cosine'] else 'constant'} {b['epoch']}"
                ),
            )
        )
    for _, line in sorted(lines):
        print(line, flush=True)


def main() -> None:
    """Runs the study, data set by data set, as far as the time goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--screen-rows", type=int, default=300_000)
    parser.add_argument("--small-rows", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    parser.add_argument(
        "--architectures", nargs="*", default=list(ARCHITECTURES)
    )
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    # The product trains in float32, not in tf32.
    jax.config.update("jax_default_matmul_precision", "highest")
    print(jax.devices(), jax.__version__, flush=True)
    stages = []
    with ThreadPoolExecutor() as pool:
        for rows, batch, epochs, names in (
            (options.screen_rows, 512, 1, options.only),
            (options.rows, 512, 1, [n for n in FINAL if n in options.only]),
            (options.small_rows, 256, 4, options.only),
        ):
            if rows:
                data = drawn(rows)
                for name in options.architectures:
                    trainer = Trainer(name, data, batch, epochs, options.width)
                    muon = any(CONTENDERS[n][0]["muon"] for n in names)
                    ready = pool.submit(trainer.compile, muon)
                    stages.append((name, rows, names, trainer, ready))
        results: dict[str, Any] = {}
        for name, rows, names, trainer, ready in stages:
            if time.monotonic() > deadline:
                break
            ready.result()
            began = time.monotonic()
            some = [n for n in names if "ftrl" not in n or name == "wide_deep"]
            found = study(trainer, some, options.seeds, deadline)
            key = f"{name}, {rows:,} rows"
            results[key] = found
            show(f"{key} ({time.monotonic() - began:.0f} s)", found)
            options.out.write_text(json.dumps(results))
        for *_, ready in stages:
            ready.cancel()


def drawn(rows: int) -> dict[str, np.ndarray]:
    """The data, after a line on how good its truth is."""
    began = time.monotonic()
    data = draw(rows, 1)
    p, y = data["probability"], data["label"]
    test = slice(int(rows * 0.9), None)
    truth = -np.mean(np.log(np.where(y > 0, p, 1 - p))[test])
    print(
        f"{rows:,} rows, {int(data['rows']):,} ids, base rate {y.mean():.3f};"
        f" the truth: AUC {auc(p[test], y[test]):.4f}, logloss {truth:.5f};"
        f" drawn in {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return data


if __name__ == "__main__":
    main()
