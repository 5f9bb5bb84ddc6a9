"""Paths as people write them: `~`, `~user`, `file://`, names with [1]."""

from __future__ import annotations

import os.path
import re

_FILE = re.compile(r"file:(?://(?:localhost)?)?(?=/(?!/))")
_SECRET = re.compile(r"([A-Za-z][\w+.-]*)://[^/?#]*@")
_GLOB = re.compile(r"[*?[]")


def expanded(path: str) -> str:
    """`path` with `~` as the home folder, and without `file://`.

    URIs of other schemes, such as gs:// and s3://, stay as they are.

    Raises:
        ValueError: there is no such user, the path is none, or a URI holds
            credentials.
    """
    if "\0" in path:
        raise ValueError(f"received {path!r}; accepted: no NUL in a path")
    if secret := _SECRET.match(path):
        raise ValueError(
            f"received a user or password in {secret[1]}://...@...; accepted:"
            " a URI without them. Credentials are variables of the environment"
        )
    path = _FILE.sub("", path, count=1)
    if path.startswith("file:"):
        raise ValueError(
            f"received {path!r}; accepted: file:///folder/name, or a path"
        )
    if not path.startswith("~"):
        return path
    full = os.path.expanduser(path)  # noqa: PTH111 (a glob is no Path)
    if full.startswith("~"):
        user = path.partition("/")[0]
        raise ValueError(
            f"received {path!r}, but {user!r} names no user. Accepted: ~/, or"
            f" ./{path} for a folder of this name"
        )
    return full


def is_local(path: str) -> bool:
    """True if `path` lies on this machine, as far as its text says."""
    return "://" not in path


def literal(path: str) -> str:
    """A glob that matches `path` alone, whatever characters it has."""
    return _GLOB.sub(lambda found: f"[{found[0]}]", path)
