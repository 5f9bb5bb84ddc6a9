"""Import the parts of TensorFlow that a server needs, and not its whole API.

`import tensorflow` is most of a server's start: it imports two thousand modules
for names that no server reads. The modules themselves import one another by
path, so the parts work without the package's `__init__`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_NAME = "tensorflow"
_lock = threading.RLock()


class _Package(ModuleType):
    """TensorFlow before its `__init__`, which runs if a name of it is read."""

    def __getattr__(self, name: str) -> Any:
        special = name.startswith("__") and name != "__version__"
        if special or self.__spec__ is None or self.__spec__.loader is None:
            raise AttributeError(name)
        with _lock, without("keras"):
            if type(self) is _Package:
                object.__setattr__(self, "__class__", ModuleType)
                self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def prepare() -> None:
    """Makes imports of TensorFlow's modules import those alone.

    Without effect where TensorFlow is imported already, or has plug-ins for
    devices: its `__init__` loads these.
    """
    if _NAME in sys.modules or _has_plugins():
        return
    spec = importlib.util.find_spec(_NAME)
    if spec is None:  # whoever imports it gets the error
        return
    # As TensorFlow's `__init__` does, before anything else.
    os.environ.setdefault("ENABLE_RUNTIME_UPTIME_TELEMETRY", "1")
    os.environ["TF2_BEHAVIOR"] = "1"
    package = importlib.util.module_from_spec(spec)
    package.__class__ = _Package
    sys.modules[_NAME] = package
    from tensorflow.python import (
        pywrap_tensorflow,  # noqa: F401
        tf2,
    )

    tf2.enable()


def is_public_op(name: str) -> bool:
    """True if stock TensorFlow has a public op of this name.

    Libraries that this process has loaded do not count. A server loads none,
    so the ops of its process are those of stock TensorFlow.
    """
    if type(sys.modules.get(_NAME)) is _Package:
        from tensorflow.python.framework import op_def_registry

        return op_def_registry.get(name) is not None
    import tensorflow as tf

    return hasattr(tf.raw_ops, name)


@contextmanager
def without(package: str) -> Iterator[None]:
    """Makes imports of a package fail, unless it is there already.

    TensorFlow imports Keras if it can, and Keras plots, notebooks and
    scikit-learn: a third of its import, for layers that a server has none of.
    """
    if package in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules[package] = None
    try:
        yield
    finally:
        del modules[package]


def _has_plugins() -> bool:
    if os.environ.get("TF_PLUGGABLE_DEVICE_LIBRARY_PATH"):
        return True
    places = (sysconfig.get_path(name) for name in ("purelib", "platlib"))
    return any((Path(p) / "tensorflow-plugins").exists() for p in places)
