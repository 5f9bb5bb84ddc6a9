"""A tiny exported model, and a real server process that serves it."""

import json
import math
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving import manifest

REPOSITORY = Path(__file__).parents[2]
SLOW_USER = 999  # the model takes a second or more for this one
ROW = {"I1": 1.5, "C1": "abc", "user": 7}
BIASES = (0.0, 1.0, 2.0, math.nan)
OTHER_INPUTS = "other"  # an exported model that takes I2 instead of I1
# The models are exported by the server's process before it serves: one
# process that imports TensorFlow is enough.
SERVE = """
import shutil, sys
from pathlib import Path
from tests.serving.tiny import BIASES, OTHER_INPUTS, export
from serving.server import serve
model_dir, exported = map(Path, sys.argv[1:])
for bias in BIASES:
    if not (exported / str(bias)).exists():
        export(exported / str(bias), bias)
if not (exported / OTHER_INPUTS).exists():
    export(exported / OTHER_INPUTS, 0.0, number="I2")
if not (model_dir / "1").exists():
    shutil.copytree(exported / "0.0", model_dir / "1")
serve(model_dir, port=0, grpc_port=0)
"""


def expected_ctr(
    bias: float, i1: float | None, c1: str | None, user: int | None
) -> float:
    """Answer of the tiny model; a missing I1 counts as 0."""
    logit = bias + (i1 or 0.0) + 0.1 * len((c1 or "").encode())
    logit += 0.01 * (-1 if user is None else user)
    return 1.0 / (1.0 + math.exp(-logit))


def export(path: Path, bias: float, number: str = "I1") -> None:
    """Writes the tiny model as `models/export.py` writes a real one."""
    import tensorflow as tf

    class Tiny(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = tf.Variable(bias, dtype=tf.float32)

        def score(self, x: Any) -> Any:
            i1 = tf.where(tf.math.is_nan(x[number]), 0.0, x[number])
            length = tf.cast(tf.strings.length(x["C1"]), tf.float32)
            # Refuses what is out of range, as an embedding lookup does.
            valid = tf.debugging.assert_less(
                x["user"], tf.constant(1000, tf.int64), "no such user"
            )
            with tf.control_dependencies([valid]):
                user = tf.cast(x["user"], tf.float32)
            steps = tf.where(tf.reduce_any(x["user"] == SLOW_USER), 400_000, 0)
            (end,) = tf.while_loop(lambda i: i < steps, lambda i: i + 1, [0])
            user += tf.cast(tf.minimum(end, 0), tf.float32)
            logit = self.bias + i1 + 0.1 * length + 0.01 * user
            return {"ctr": tf.sigmoid(logit)}

        def by_feature(self, **features: Any) -> Any:
            return self.score(features)

        def by_example(self, examples: Any) -> Any:
            nan = float("nan")
            spec = {
                number: tf.io.FixedLenFeature([], tf.float32, nan),
                "C1": tf.io.FixedLenFeature([], tf.string, ""),
                "user": tf.io.FixedLenFeature([], tf.int64, -1),
            }
            return self.score(tf.io.parse_example(examples, spec))

    tiny = Tiny()
    inputs = {number: tf.float32, "C1": tf.string, "user": tf.int64}
    default = tf.function(tiny.by_feature).get_concrete_function(
        **{k: tf.TensorSpec([None], t, k) for k, t in inputs.items()}
    )
    examples = tf.function(tiny.by_example).get_concrete_function(
        tf.TensorSpec([None], tf.string, "examples")
    )
    signatures = {"serving_default": default, "examples": examples}
    tf.saved_model.save(tiny, str(path), signatures=signatures)
    (path / "assets.extra").mkdir()
    manifest.write(str(path), {"inputs": {name: name for name in inputs}})


@dataclass
class RunningServer:
    """A server process, and the directory that it follows."""

    model_dir: Path
    exported: Path
    log: Path
    process: "subprocess.Popen[str]" = field(init=False)
    url: str = ""
    grpc: str = ""
    banner: str = ""

    def start(self) -> None:
        """Waits until the server says that it serves, and where."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, self.model_dir, self.exported],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=REPOSITORY,
                text=True,
            )
        assert self.process.stdout is not None
        # Kills the server if it hangs, which ends the reading below.
        guard = threading.Timer(150, self.process.kill)
        guard.start()
        self.banner = self.process.stdout.readline()
        guard.cancel()
        assert self.banner, self.log.read_text()
        words = self.banner.split()
        self.url = words[words.index("at") + 1].split("/v1/")[0]
        self.grpc = words[words.index("gRPC") + 1].rstrip(";")

    def stop(self) -> int:
        """Asks the server to stop; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def call(self, path: str, body: object = None) -> tuple[int, Any]:
        """GETs, or POSTs JSON (or bytes as they are)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, None if body is None else data
        )
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                status, content = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode()

    def predict(self, body: object, where: str = "") -> tuple[int, Any]:
        """TF Serving's predict call."""
        return self.call(f"/v1/models/tiny{where}:predict", body)

    def push(
        self,
        version: int,
        bias: float | str,
        change: Callable[[Path], object] = lambda _: None,
    ) -> None:
        """Adds a version as the pusher does: moved in place whole.

        bias: or the name of another exported model.
        change: is given the folder first.
        """
        staged = self.model_dir / f".tmp-{version}"
        shutil.copytree(self.exported / str(bias), staged)
        change(staged)
        staged.rename(self.model_dir / str(version))

    def revoke(self, version: int) -> None:
        """Takes a version away at once, as the pusher does."""
        gone = self.model_dir / f".revoked-{version}"
        (self.model_dir / str(version)).rename(gone)
        shutil.rmtree(gone)

    def states(self) -> dict[int, str]:
        """Version -> state, from TF Serving's status call."""
        _, answer = self.call("/v1/models/tiny")
        return {
            int(status["version"]): status["state"]
            for status in answer["model_version_status"]
        }

    def wait_for(
        self, condition: Callable[[], bool], seconds: float = 15.0
    ) -> None:
        """Polls until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
