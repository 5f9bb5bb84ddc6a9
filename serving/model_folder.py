"""A model's folder: its versions, and the one that is pinned."""

from collections.abc import Iterable
from pathlib import Path

GRAPH = "saved_model.pb"  # a push to an object store writes it last
PIN = ".pinned"  # holds the number of the version to serve


def version_number(name: str) -> int | None:
    """The version that a folder of this name is; None for any other name.

    ASCII digits without leading zeros: "²" and "007" are no versions.
    """
    name = name.rstrip("/")
    if not (name.isascii() and name.isdigit()):
        return None
    return int(name) if str(int(name)) == name else None


def scan(model_dir: Path) -> dict[int, Path]:
    """The version folders of a model's folder.

    Raises:
        OSError: the folder cannot be read.
    """
    return {
        number: entry
        for entry in model_dir.iterdir()
        if (number := version_number(entry.name)) is not None and entry.is_dir()
    }


def pinned(model_dir: Path) -> int | None:
    """The version that `lionctr models NAME pin V` named.

    Raises:
        OSError: the folder cannot be read.
        ValueError: the pin's file holds no version.
    """
    try:
        text = (model_dir / PIN).read_text("utf-8")
    except FileNotFoundError:
        return None
    return pin_of(text)


def pin_of(text: str) -> int:
    """The version in a pin's file.

    Raises:
        ValueError: there is none.
    """
    number = version_number(text.strip())
    if number is None:
        raise ValueError(
            f"{PIN}: expected the number of a version. Received:"
            f" {text.strip()[:60]!r}"
        )
    return number


def preferred(versions: Iterable[int], pin: int | None) -> list[int]:
    """Versions in the order in which a server tries them.

    The newest first. With a pin: that version, those before it, then those
    after it: a pin is set because of what came after.
    """
    return sorted(versions, key=lambda v: (pin is not None and v > pin, -v))
