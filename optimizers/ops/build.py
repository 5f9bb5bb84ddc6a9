"""Builds the op library against the installed TensorFlow. Stdlib only.

The library's name holds TensorFlow's version and a hash of the sources:
`lion-2.21.0-0123456789ab.so`. So one that fits is never built again, one that
does not is known before it is loaded, and a new one appears whole.

    python -m optimizers.ops.build    # honours CXX
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
if TYPE_CHECKING or __package__:
    from optimizers.ops import toolchain
else:  # run by its path, where nothing is installed
    toolchain = SimpleNamespace(**runpy.run_path(str(HERE / "toolchain.py")))

SOURCES = HERE / "cc"
XLA_SOURCE = SOURCES / "lion_xla.cc"
COMMAND = "python -m optimizers.ops.build"

# No fused multiply-add: the same bits on every processor. What a loop needs
# of newer instruction sets is compiled beside the baseline (lion_loops.cc).
FLAGS = ("-O3", "-w", "-fPIC", "-ffp-contract=off", "-fno-math-errno")
INCLUDES = ("external/farmhash_archive/src", "external/highwayhash")

_FLAGS_PROGRAM = (
    "import json, tensorflow as tf; s = tf.sysconfig;"
    "print(json.dumps([s.get_compile_flags(), s.get_link_flags(),"
    " s.get_include()]))"
)


def find(folder: Path = HERE) -> tuple[Path | None, str]:
    """Returns the library in `folder` that fits, if any, and the reason."""
    installed = tensorflow_version()
    wanted = folder / library_name()
    if wanted.exists():
        return wanted, f"built for TensorFlow {installed}"
    reason = "it is not built"
    for other in sorted(folder.glob("lion-*.so")):
        version = other.name.split("-")[1]
        if version != installed:
            reason = (
                f"it was built for TensorFlow {version}, and TensorFlow "
                f"{installed} is installed"
            )
        else:
            reason = "its sources have changed since it was built"
    return None, reason


def build(folder: Path = HERE) -> Path:
    """Returns the library that fits; compiles it if `folder` has none.

    Raises:
        BuildError: there is no compiler or no TensorFlow, or one of them
            fails; the message says which and how.
    """
    name = library_name()
    return toolchain.make(folder / name, HERE / name, _compile)


def library_name() -> str:
    """Returns the file name of the library that fits this installation."""
    sources = [
        path
        for path in sorted(SOURCES.glob("*.*"))
        if path.suffix in (".cc", ".h")
    ]
    digest = toolchain.digest([Path(__file__), *sources])
    return f"lion-{tensorflow_version()}-{digest}.so"


def tensorflow_version() -> str:
    """Returns the installed TensorFlow's version, without importing it."""
    loaded = sys.modules.get("tensorflow")
    if loaded is not None and hasattr(loaded, "__version__"):
        return str(loaded.__version__)
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"


def _compile(target: Path) -> None:
    compiler = toolchain.compiler()
    compile_flags, link_flags, include = _tensorflow_flags()
    libraries = [*link_flags]
    if XLA_SOURCE.exists():
        libraries.append("-l:libtensorflow_cc.so.2")
    includes = [f"-I{Path(include) / folder}" for folder in INCLUDES]
    commands = []
    objects = []
    for source in sorted(SOURCES.glob("*.cc"), reverse=True):
        objects.append(str(target.parent / f"{source.stem}.o"))
        commands.append(
            [*compiler, "-std=c++17", *FLAGS, *compile_flags, *includes]
            + ["-c", str(source), "-o", objects[-1]]
        )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(toolchain.run, commands))
    toolchain.run(
        [*compiler, "-shared", *objects, "-o", str(target), *libraries]
    )


def _tensorflow_flags() -> tuple[list[str], list[str], str]:
    if tensorflow_version() == "none":
        raise toolchain.BuildError(
            "TensorFlow is not installed where the build runs; "
            "pip needs --no-build-isolation"
        )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = toolchain.run([sys.executable, "-c", _FLAGS_PROGRAM], environment)
    compile_flags, link_flags, include = json.loads(output.splitlines()[-1])
    return compile_flags, link_flags, include


def main(folder: Path = HERE) -> int:
    """Builds the library in `folder`; 1 and a warning if it cannot."""
    return toolchain.report(
        build,
        folder,
        "Lion's ops are not built",
        "Its Python kernel gives the same numbers, slower",
        COMMAND,
    )


if __name__ == "__main__":
    sys.exit(main())
