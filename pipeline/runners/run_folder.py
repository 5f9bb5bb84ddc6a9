"""Folders of a pipeline's runs on this machine."""

from __future__ import annotations

import datetime
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.config import ConfigError, PipelineConfig

_RUN = "%Y%m%d-%H%M%S"


def home_of(config: PipelineConfig) -> Path:
    """The folder of a pipeline's runs on this machine.

    Raises:
        ConfigError: `root` is an object store.
    """
    if "://" in config.root:
        raise ConfigError(
            f"root: received {config.root!r}; accepted here: a folder of this"
            " machine, such as --set root=runs, since it holds a database."
            " Logs, push.to, transform.cache and train.warm_start may be on"
            " an object store; the artifacts of Kubeflow's runs are (lionctr"
            " submit)"
        )
    return Path(config.root) / config.name


@contextmanager
def only_one(
    home: Path, settings: Sequence[str] = ("root", "name")
) -> Iterator[None]:
    """Keeps two runs of one pipeline apart; a killed run leaves no lock.

    Args:
        home: the folder that only one may use.
        settings: those that say where it is.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / ".lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"{settings[0]}: cannot write to {home}: {error.strerror}"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"Another run of this pipeline is under way in {home}. Wait"
                f" for it, or give this one another {' or '.join(settings)}"
            ) from None
        yield


def new_folder(runs: Path) -> Path:
    """A folder with the time as its name, but after those of all runs before.

    Their order is that of their names, also where the clock was put back.
    """
    runs.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    for path in runs.iterdir():
        with suppress(ValueError):
            then = datetime.datetime.strptime(path.name[:15], _RUN)
            then = then.replace(tzinfo=datetime.UTC)
            now = max(now, then + datetime.timedelta(seconds=1))
    folder = runs / now.strftime(_RUN)
    folder.mkdir()
    return folder


def write(path: Path, text: str) -> None:
    """Replaces a file, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text + "\n", "utf-8")
    temporary.replace(path)
