"""Lion on a GPU: is it right, and how near the card's bandwidth is it.

    python -m benchmarks.studies.gpu.lower --out build/hlo  # with TensorFlow
    python -m benchmarks.studies.gpu.run build/hlo          # with jax and nvcc

Small programs are compared with the NumPy reference of the tests, or with
what our CPU kernels gave. Large ones are timed: blocks of calls in a row,
the state donated; the median of blocks. The card's copy bandwidth is measured
in the same run. `lion_sparse.cu`, the sparse update as a CUDA kernel, says
what a native op would bring. On a CPU, `--cpu` rehearses with small programs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.gpu import hlo
from benchmarks.studies.gpu.drawing import DISTINCT, zipf_lookups
from benchmarks.studies.gpu.report import Report

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/optimizers"))
RATES = (1e-3, 0.9, 0.99, 0.01)  # as in lower.py
Array = Any


def main() -> None:
    """Runs all parts; 1 if one fails or a number is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("programs", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    report = Report(options.out / "gpu.json")
    if not options.cpu:  # before jax takes the card's memory
        report.attempt("cuda", cuda_kernel, options.out)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
    import jax

    jax.config.update("jax_enable_x64", True)  # ids are int64
    device = jax.devices("cpu" if options.cpu else "gpu")[0]
    report.say("device", f"{device.device_kind}, jax {jax.__version__}")
    programs = json.loads((options.programs / "programs.json").read_text())
    copied = report.attempt("copy", copy_bandwidth, device, options.cpu)
    report.attempt("sort", sorting, device, options.cpu)
    for program in sorted(programs, key=lambda p: p["size"] == "large"):
        name, large = program["name"], program["size"] == "large"
        given = (options.programs / name, program, device, copied)
        if not large:
            report.attempt(name, parity, *given)
        if large != options.cpu:
            report.attempt(f"{name}, timed", timing, *given, options.out)
            if program["kind"] == "sparse":
                report.attempt(f"{name}, kernels", kernels, *given)
    sys.exit(report.failed)


def copy_bandwidth(device: Any, small: bool) -> float:
    """GB/s of a copy on the card, bytes read and written counted."""
    import jax
    import jax.numpy as jnp

    size = 1 << (24 if small else 30)
    with jax.default_device(device):
        source = jnp.arange(size, dtype=jnp.float32)
        run = jax.jit(lambda x: x + 1)
        seconds = per_call(lambda _: run(source), None)
    return round(8 * size / seconds / 1e9, 1)


def sorting(device: Any, small: bool) -> dict[str, float]:
    """Milliseconds of XLA's stable sort of FBGEMM's lookups, by key's type."""
    import jax
    import jax.numpy as jnp

    count = 10_000 if small else 1_048_570
    keys = np.random.default_rng(0).integers(0, 16_800_000, count)
    found = {}
    with jax.default_device(device):
        for dtype in ("uint32", "int32"):
            given = (jnp.asarray(keys, dtype), jnp.arange(count, dtype="int32"))
            run = jax.jit(lambda x: jax.lax.sort(x, num_keys=1))
            found[dtype] = round(1e3 * per_call(run, given), 4)
    return found


def per_call(
    run: Callable[[Any], Any], state: Any, blocks: int = 7, calls: int = 10
) -> float:
    """Median seconds of a call, of blocks of calls, each on the last's state.

    Calls are queued: only the end of a block is waited for.
    """
    import jax

    seconds = []
    for block in range(-1, blocks):
        began = time.perf_counter()
        for _ in range(calls):
            state = run(state)
        jax.block_until_ready(state)
        if block >= 0:
            seconds.append((time.perf_counter() - began) / calls)
    return statistics.median(seconds)


def cuda_kernel(out: Path) -> dict[str, Any]:
    """Compiles and runs `lion_sparse.cu`; its last line is JSON."""
    compiler = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    source = Path(__file__).with_name("lion_sparse.cu")
    program = out.resolve() / "lion_sparse"
    flags = ["-O3", "-std=c++17", "-arch=sm_90", "--fmad=false"]
    subprocess.run(
        [compiler, *flags, str(source), "-o", str(program)], check=True
    )
    try:
        done = subprocess.run(
            [str(program)], capture_output=True, text=True, timeout=120
        )
    finally:
        program.unlink(missing_ok=True)
    print(done.stdout, done.stderr[-2000:])
    if done.returncode:
        return {"error": f"exit code {done.returncode}: {done.stderr[-300:]}"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def parity(
    path: Path, program: dict[str, Any], device: Any, _: Any
) -> dict[str, Any]:
    """How far a small program's results are from those that are right."""
    compiled, shapes = hlo.compiled(
        path.with_suffix(".hlo.pb").read_bytes(), device, program["states"]
    )
    if program["kind"] == "step":
        saved = np.load(path.with_suffix(".npz"))
        given = [saved[n] for n in sorted(saved) if n.startswith("in")]
        wanted = [saved[n] for n in sorted(saved) if n.startswith("out")]
        return step_parity(results(compiled, given, device), wanted)
    rng = np.random.default_rng(0)
    given = [
        (
            rng.integers(0, shapes[0][0][0], shape)
            if np.issubdtype(dtype, np.integer)
            else 0.01 * rng.normal(size=shape)
        ).astype(dtype)
        for shape, dtype in shapes[:-5]
    ]
    scalars = [np.float32(rate) for rate in RATES] + [np.int32(1)]
    found = results(compiled, [*given, *scalars], device)
    return update_parity(given, found, program)


def results(program: Any, given: list[Array], device: Any) -> list[Array]:
    import jax

    state = [jax.device_put(array, device) for array in given]
    return [np.asarray(x) for x in program.execute(state)]


def update_parity(
    given: list[Array], found: list[Array], program: dict[str, Any]
) -> dict[str, Any]:
    """Beside the judge of the tests: the rule in NumPy."""
    from reference import ReferenceLion

    var, m, grad, *ids = given
    reference = ReferenceLion(
        var.copy(),
        *RATES,
        cautious=program["cautious"],
        momentum_dtype=m.dtype.name,
        stochastic_rounding=True,
        seed=1,
    )
    reference.m = m.copy()
    reference.step((grad, ids[0]) if ids else grad)
    # Sums in another order move a result by a last place, and the sign of
    # what is all but 0.
    same = [
        float(np.mean(np.asarray(a) == b))
        for a, b in zip(found, (reference.theta, reference.m), strict=True)
    ]
    off = [
        float(np.abs(np.float64(a) - np.float64(b)).max())
        for a, b in zip(found, (reference.theta, reference.m), strict=True)
    ]
    near = [
        float(np.mean(np.isclose(np.float64(a), np.float64(b), 1e-2, 1e-6)))
        for a, b in zip(found, (reference.theta, reference.m), strict=True)
    ]
    return {"right": min(near) > 0.999, "same_bits": same, "off_by": off}


def step_parity(found: list[Array], wanted: list[Array]) -> dict[str, Any]:
    """Beside what the CPU kernels gave; products may run in TF32 here."""
    loss = abs(float(found[-1]) - float(wanted[-1])) / float(wanted[-1])
    half = (len(wanted) - 1) // 2
    apart = [
        float(np.linalg.norm(a - b) / np.linalg.norm(b))
        for a, b in zip(found[half:-1], wanted[half:-1], strict=True)
    ]
    moved = np.concatenate(
        [
            np.isclose(a, b, 0, 1e-5).ravel()
            for a, b in zip(found[:half], wanted[:half], strict=True)
        ]
    )
    return {
        "right": bool(
            loss < 1e-2 and max(apart) < 1e-2 and moved.mean() > 0.99
        ),
        "loss_off": loss,
        "momenta_off": max(apart),
        "weights_alike": float(moved.mean()),
    }


def timing(
    path: Path, program: dict[str, Any], device: Any, copied: Any, out: Path
) -> dict[str, Any]:
    """Milliseconds of a large program, and what they mean."""
    import jax

    content = path.with_suffix(".hlo.pb").read_bytes()
    began = time.perf_counter()
    compiled, shapes = hlo.compiled(content, device, program["states"])
    compiling = time.perf_counter() - began
    text = compiled.hlo_modules()[0].to_string()
    if program["kind"] == "sparse":
        (out / f"{path.name}.optimized.txt").write_text(text, "utf-8")
    with jax.default_device(device):
        arrays = inputs(program, shapes)
    count = program["states"]
    rest = arrays[count:]

    def run(state: Any) -> Any:
        return compiled.execute([*state, *rest])[:count]

    seconds = per_call(run, arrays[:count])
    found: dict[str, Any] = {
        "ms": round(1e3 * seconds, 3),
        "compiling_s": round(compiling, 1),
    }
    calls = re.findall(r'custom_call_target="([^"]*)"', text)
    found["custom_calls"] = sorted(set(calls))
    if program["kind"] == "step":
        found["rows_per_s"] = round(program["batch"] / seconds)
        return found
    row = sum(np.dtype(d).itemsize for _, d in shapes[:2])
    value = np.dtype(shapes[2][1]).itemsize
    if program["kind"] == "dense":
        moved = shapes[0][0][0] * (2 * row + value)
    else:  # each gradient once, each distinct row read and written once
        lookups, width = shapes[2][0]
        distinct = min(DISTINCT, lookups // 3)
        moved = width * (lookups * value + 2 * row * distinct) + 4 * lookups
    found["least_GB"] = round(moved / 1e9, 3)
    found["GB_per_s"] = round(moved / seconds / 1e9, 1)
    if isinstance(copied, float):
        found["share_of_copy"] = round(moved / seconds / 1e9 / copied, 3)
    return found


def kernels(
    path: Path, program: dict[str, Any], device: Any, _: Any
) -> dict[str, float]:
    """Milliseconds of each kernel of a call, the longest first; on a card."""
    import jax

    content, count = path.with_suffix(".hlo.pb").read_bytes(), program["states"]
    compiled, shapes = hlo.compiled(content, device, count)
    with jax.default_device(device):
        arrays = inputs(program, shapes)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for repeats in (1, 5):  # the first is not looked at
            with jax.profiler.trace(f"{folder}/{repeats}"):
                for _ in range(repeats):
                    arrays[:count] = compiled.execute(arrays)[:count]
                jax.block_until_ready(arrays)
        for file in Path(folder, "5").rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
                for line in plane.lines:
                    if plane.name.startswith("/device:") and (
                        line.name.startswith("Stream")
                    ):
                        for event in line.events:
                            total[event.name] += event.duration_ns
    return {name: round(1e-6 * ns / 5, 4) for name, ns in total.most_common(12)}


def inputs(program: dict[str, Any], shapes: list[Any]) -> list[Any]:
    """Made on the card: none of it travels but the ids."""
    import jax.numpy as jnp

    rng = np.random.default_rng(1)
    arrays = []
    for number, (shape, dtype) in enumerate(shapes):
        if not shape:
            scalar = [*RATES, 1][number - len(shapes)]
            arrays.append(jnp.asarray(scalar, dtype))
        elif np.issubdtype(dtype, np.integer):
            drawn = ids(program, shape, shapes[0][0][0], rng)
            arrays.append(jnp.asarray(drawn, dtype))
        elif program["kind"] == "step" and number == len(shapes) - 1:
            arrays.append((jnp.arange(shape[0]) % 4 == 0).astype(dtype))
        else:
            waves = [
                jnp.sin((number + 0.37) * jnp.arange(n, dtype=jnp.float32))
                for n in shape
            ]
            wave = waves[0]
            for other in waves[1:]:
                wave = wave[..., None] + other
            arrays.append((0.01 * wave).astype(dtype))
    return arrays


def ids(program: dict[str, Any], shape: Any, size: int, rng: Any) -> Array:
    """Lookups of Zipf's law: FBGEMM's number distinct, or fields of a batch."""
    if program["kind"] == "step":
        return (rng.zipf(1.2, shape) - 1) % program["ids_below"]
    distinct = min(DISTINCT, shape[0] // 3)
    return zipf_lookups(size, shape[0], distinct, rng)


if __name__ == "__main__":
    main()
