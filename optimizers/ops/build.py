"""Builds the op library against the installed TensorFlow. Stdlib only.

The library's name holds TensorFlow's version and a hash of the sources:
`lion-2.21.0-0123456789ab.so`. So one that fits is never built again, one that
does not is known before it is loaded, and a new one appears whole.

    python -m optimizers.ops.build    # honours CXX
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
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


class BuildError(RuntimeError):
    """The library cannot be built; the message is the cause."""


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
    target = folder / library_name()
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".lion-") as scratch:
        made = Path(scratch) / target.name
        beside_sources = HERE / target.name
        if beside_sources.exists():
            shutil.copyfile(beside_sources, made)
        else:
            _compile(made)
        for stale in folder.glob("lion-*.so"):
            stale.unlink()
        made.chmod(0o755)
        made.replace(target)
    return target


def library_name() -> str:
    """Returns the file name of the library that fits this installation."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(SOURCES.glob("*.*")):
        if path.suffix in (".cc", ".h"):
            digest.update(path.name.encode() + path.read_bytes())
    return f"lion-{tensorflow_version()}-{digest.hexdigest()[:12]}.so"


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
    compiler = _compiler()
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
        list(pool.map(_run, commands))
    _run([*compiler, "-shared", *objects, "-o", str(target), *libraries])


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["g++"], ["c++"], ["clang++"]]:
        if shutil.which(command[0]):
            _run([*command, "--version"])
            return command
    raise BuildError(
        f"no C++ compiler: CXX is {os.environ['CXX']!r}, which is not found"
        if named
        else "no C++ compiler: neither CXX nor g++, c++ or clang++ is there"
    )


def _tensorflow_flags() -> tuple[list[str], list[str], str]:
    if tensorflow_version() == "none":
        raise BuildError(
            "TensorFlow is not installed where the build runs; "
            "pip needs --no-build-isolation"
        )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = _run([sys.executable, "-c", _FLAGS_PROGRAM], environment)
    compile_flags, link_flags, include = json.loads(output.splitlines()[-1])
    return compile_flags, link_flags, include


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment
    )
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        cause = (errors or lines or ["no message"])[0]
        raise BuildError(
            f"`{shlex.join(command[:2])} ...` ended with "
            f"{result.returncode}: {cause}"
        )
    return result.stdout


def main(folder: Path = HERE) -> int:
    """Builds the library in `folder`; 1 and a warning if it cannot."""
    try:
        build(folder)
    except BuildError as error:
        print(
            f"Warning: Lion's ops are not built: {error}. Its Python kernel "
            f"gives the same numbers, slower. To build: `{COMMAND}`, with CXX "
            "set to a C++17 compiler.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
