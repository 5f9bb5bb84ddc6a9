"""`lionctr doctor`: what is installed here, and what is wrong with it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline import wheels
from pipeline.console import quiet

_PACKAGES = (
    "tfx",
    "tensorflow",
    "keras",
    "tf-keras",
    "tensorflow-transform",
    "tensorflow-model-analysis",
    "tensorflow-recommenders",
    "apache-beam",
    "ml-metadata",
    "pyarrow",
    "kfp",
    "uvicorn",
)
_OPTIONAL = {"kfp": "kubeflow", "uvicorn": "serving"}
_LEAST_FREE_GIB = 2.0
# Those of `pipeline.extensions`, which a broken installation cannot import.
_KINDS = (
    "log formats",
    "architectures",
    "optimizers",
    "metrics",
    "objectives",
    "gates",
    "callbacks",
)

# A finding is what to show, and what to do about it ("" if all is well).
Finding = tuple[str, str]


def main() -> int:
    """Prints one line for each check; returns 1 if one failed."""
    failed = 0
    for name, check in _CHECKS.items():
        try:
            with quiet(Path(os.devnull)):  # importing TensorFlow is not
                shown, advice = check()
        except Exception as error:  # a broken installation breaks anywhere
            shown = f"{type(error).__name__}: {error}".splitlines()[0]
            advice = "run `make setup`"
        print(f"{'ok ' if not advice else 'BAD'} {name:<16} {shown}")
        if advice:
            failed = 1
            print(f"    -> {advice}")
    return failed


def _python() -> Finding:
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return (
        f"{platform.python_version()} at {sys.prefix}",
        "" if supported else "use Python 3.11, 3.12 or 3.13",
    )


def _packages() -> Finding:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            extra = _OPTIONAL.get(name)
            found.append(f"{name} missing")
            if extra is None:
                missing.append(name)
    return (
        ", ".join(found),
        f"install {', '.join(missing)}: run `make setup`" if missing else "",
    )


def _glibc() -> Finding:
    version = wheels.glibc_version()
    if version is None:
        return (
            f"none ({platform.system()})",
            "TFX has wheels for Linux with glibc only",
        )
    shown = ".".join(map(str, version))
    site_packages = Path(sysconfig.get_paths()["purelib"])
    repaired = wheels.repaired_files(site_packages)
    names = ", ".join(Path(name).stem for name in repaired)
    if not wheels.repair_needed():
        if repaired:
            return f"{shown}; repaired wheels in use: {names}", ""
        return f"{shown}; wheels as published", ""
    if len(repaired) < len(wheels.REPAIRS):
        return (
            f"{shown}, older than 2.39, and the wheels are not repaired",
            "run `make setup`, or `python -m pipeline.wheels`",
        )
    return f"{shown}; repaired wheels in use: {names}", ""


def _native() -> Finding:
    wheels.prove(sys.executable)
    return "ml-metadata and TFDV load", ""


def _keras() -> Finding:
    import models

    del models  # sets TF_USE_LEGACY_KERAS for TFX's layers
    import keras
    import tensorflow as tf

    legacy = os.environ.get("TF_USE_LEGACY_KERAS")
    is_two = tf.keras.Model.__module__.startswith("tf_keras")
    two = "Keras 2, for TFX's layers" if is_two else "Keras 3"
    shown = f"keras {keras.__version__}; tf.keras is {two}"
    if keras.backend.backend() != "tensorflow":
        return shown, "set KERAS_BACKEND=tensorflow"
    if not is_two:
        return shown, f"set TF_USE_LEGACY_KERAS=1 (received {legacy!r})"
    return shown, ""


def _devices() -> Finding:
    import tensorflow as tf

    devices = tf.config.list_physical_devices()
    names = [f"{d.device_type}:{d.name.rsplit(':', 1)[-1]}" for d in devices]
    return f"{', '.join(names)}; {os.cpu_count()} cores", ""


def _precision() -> Finding:
    from models.training import precision

    policy, reason = precision.fastest()
    return f"train.precision auto is {policy}: {reason}", ""


def _compiler() -> Finding:
    name = os.environ.get("CXX", "c++")
    path = shutil.which(name)
    if path is None:
        return (
            f"none ({name} not found): Lion runs on its Python kernel",
            "",
        )
    result = subprocess.run(
        [path, "--version"], capture_output=True, text=True, check=False
    )
    return (result.stdout or path).splitlines()[0], ""


def _kernel() -> Finding:
    import optimizers

    kernel, reason = optimizers.kernel_status()
    return f"{kernel} ({reason})", ""


def _examples() -> Finding:
    from components.example_io import native

    library, reason = native.load()
    return f"{'NumPy' if library is None else 'native'} ({reason})", ""


def _names(kind: str) -> Finding:
    """The names that a config may use; each is imported."""
    from pipeline.extensions import KINDS

    for name in KINDS[kind].names:
        KINDS[kind].load(name)
    return ", ".join((*KINDS[kind].names, "package.module:Name")), ""


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return (
        f"{free:.1f} GiB free in {Path.cwd()}",
        ""
        if free >= _LEAST_FREE_GIB
        else f"free some: runs need {_LEAST_FREE_GIB:g} GiB at least",
    )


_CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": _python,
    "packages": _packages,
    "glibc": _glibc,
    "native modules": _native,
    "Keras": _keras,
    "devices": _devices,
    "precision": _precision,
    "C++ compiler": _compiler,
    "Lion kernel": _kernel,
    "reader of examples": _examples,
    **{kind: partial(_names, kind) for kind in _KINDS},
    "disk": _disk,
}
