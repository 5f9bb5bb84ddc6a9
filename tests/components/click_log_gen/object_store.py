"""A Beam filesystem without folders, in memory, as object stores are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, ClassVar

from apache_beam.io.filesystem import FileMetadata, FileSystem


class ObjectStore(FileSystem):
    """Files at memory://..., gone with the process."""

    files: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "memory"

    @classmethod
    def save(cls, prefix: str, folder: Path) -> None:
        """Writes what is below `prefix` to a real folder."""
        for name, data in cls.files.items():
            if name.startswith(prefix):
                path = folder / name.removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def join(self, base: str, *paths: str) -> str:
        return "/".join([base.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        pass

    def has_dirs(self) -> bool:
        return False

    def _list(self, prefix: str) -> Any:
        return [self.metadata(n) for n in self.files if n.startswith(prefix)]

    def create(self, path: str, *_: Any, **__: Any) -> Any:
        files = self.files

        class Upload(io.BytesIO):
            def close(self) -> None:
                files[path] = self.getvalue()
                super().close()

        return Upload()

    def open(self, path: str, *_: Any, **__: Any) -> Any:
        return io.BytesIO(self.files[path])

    def exists(self, path: str) -> bool:
        return path in self.files

    def size(self, path: str) -> int:
        return len(self.files[path])

    def last_updated(self, path: str) -> float:
        return 1.0

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path), 1.0)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            del self.files[path]

    def copy(self, sources: list[str], targets: list[str]) -> None:
        raise NotImplementedError

    rename = copy
