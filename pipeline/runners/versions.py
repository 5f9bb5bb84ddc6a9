"""State of what a run depends on besides its config and its logs."""

from __future__ import annotations

import hashlib

from models import user_code
from models.architectures.user_model import own_version
from pipeline import extensions
from pipeline.config import PipelineConfig


def content_version(path: str | None) -> str:
    """Changes when a file's content does; "" without a file."""
    if path is None:
        return ""
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.open(path) as stream:
        return hashlib.sha256(stream.read()).hexdigest()[:16]


def user_version(config: PipelineConfig) -> str:
    """Changes when the user's own model, callbacks or optimizer changes."""
    return own_version(config.model) + user_code.version(
        extensions.own_modules(config)
    )
