"""Downloads Flink and Beam's job server, by pip and Maven as set up here.

    python deploy/flink/fetch.py

Nothing else in this project downloads them. What arrives must have the
sha256 that `jars.sha256` records.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUMS = HERE / "jars.sha256"
FLINK = "apache-flink-libraries"
FLINK_VERSION = "1.19.3"
MAVEN_COPY = (
    "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
)


def folder() -> Path:
    """Where the jars are kept: LIONCTR_FLINK, or in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    given = os.environ.get("LIONCTR_FLINK") or f"{cache}/lionctr/flink"
    # Beam's job server sends its classpath along with each job (200 MB), all
    # but what has this in its path; Flink's processes have the jars already.
    return Path(given).expanduser().absolute() / "gradle" / "wrapper"


def missing(jars: Path) -> list[str]:
    """Jars that are not in `jars`, or are not what `jars.sha256` says."""
    wanted = _sums()
    return [
        name
        for name, digest in wanted.items()
        if not (jars / name).is_file() or _sha256(jars / name) != digest
    ]


def classpath(jars: Path) -> str:
    """Java's classpath, for Flink and the job server."""
    return ":".join(str(jars / name) for name in _sums())


def fetch(jars: Path) -> None:
    """Completes `jars`; a repeated call returns at once.

    Raises:
        SystemExit: a tool is missing or fails, or a file is not the known one.
    """
    if not missing(jars):
        return
    jars.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars) as name:
        arrived = Path(name)
        _flink(arrived)
        _beam(arrived)
        wrong = missing(arrived)
        if wrong:
            raise SystemExit(
                f"{len(wrong)} of {len(_sums())} jars are missing or do not"
                f" have the sha256 of {SUMS.name}: {', '.join(wrong[:5])}"
            )
        for jar in _sums():
            (arrived / jar).replace(jars / jar)


def _flink(target: Path) -> None:
    """Flink's own jars, out of the source archive on PyPI."""
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
        "--disable-pip-version-check", "--no-binary", FLINK,
        "--dest", target, f"{FLINK}=={FLINK_VERSION}",
    )  # fmt: skip
    (archive,) = target.glob("*.tar.gz")
    wanted = _sums()
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            if "/deps/lib/" in member.name and name in wanted:
                source = members.extractfile(member)
                assert source is not None
                with source, (target / name).open("wb") as stream:
                    shutil.copyfileobj(source, stream)
    archive.unlink()


def _beam(target: Path) -> None:
    """The jars of pom.xml."""
    _run(
        "mvn", "--batch-mode", "--quiet", "--file", HERE / "pom.xml",
        MAVEN_COPY, "-DincludeScope=runtime", f"-DoutputDirectory={target}",
    )  # fmt: skip


def _run(*command: str | Path) -> None:
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise SystemExit(f"{words[0]} is not installed")
    result = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(
            f"Failed: {' '.join(words)}\n{result.stdout.strip()[-2000:]}"
        )


def _sums() -> dict[str, str]:
    """Jar -> sha256."""
    pairs = (line.split() for line in SUMS.read_text("utf-8").splitlines())
    return {name: digest for digest, name in pairs}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=folder())
    jars = parser.parse_args().folder
    fetch(jars)
    print(jars)


if __name__ == "__main__":
    main()
