"""What the analysis found in a file, kept for later runs."""

from __future__ import annotations

import hashlib
import os
import pickle
import uuid
from dataclasses import dataclass
from typing import cast

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from models.analysis import Part

_BLOCK = 1 << 22


@dataclass(frozen=True)
class Cache:
    """Entries named by the content of the file, so that no run sees old ones.

    folder: path or URI; whoever can write there can run code in the pipeline,
    as with its models. It may be emptied at any time.
    version: what the entries depend on besides the file.
    """

    folder: str
    version: str

    def path(self, file: str) -> str:
        """Where the entry of `file` is, or would be."""
        digest = hashlib.sha256(self.version.encode() + b"\0")
        with FileSystems.open(
            file, compression_type=CompressionTypes.UNCOMPRESSED
        ) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        return os.path.join(self.folder, digest.hexdigest())

    def get(self, path: str) -> list[Part] | None:
        """The entry, None where there is none."""
        if not FileSystems.exists(path):
            return None
        with FileSystems.open(path) as stream:
            return cast(list[Part], pickle.loads(stream.read()))

    def put(self, path: str, found: list[Part]) -> None:
        """Writes an entry; a reader sees all of it or none."""
        unfinished = f"{path}.{uuid.uuid4().hex}"
        with FileSystems.create(unfinished) as stream:
            stream.write(pickle.dumps(found))
        FileSystems.rename([unfinished], [path])
