"""Signatures of versions, by OpenSSF model signing (`model-signing`)."""

import os
from pathlib import Path
from typing import Any

from serving.errors import ServingError
from serving.manifest import DamagedError

NAME = "assets.extra/model.sig"


def sign(folder: Path, key: Path) -> None:
    """Signs all files of a version.

    Args:
        folder: of the version.
        key: the private key, elliptic (P-256, P-384 or P-521), in PEM.

    Raises:
        ServingError: the key cannot be used, or model-signing is missing.
    """
    library = _library()
    signature = folder / NAME
    signature.unlink(missing_ok=True)
    try:
        library.signing.Config().use_elliptic_key_signer(
            private_key=key
        ).set_hashing_config(_files(library, signature)).sign(folder, signature)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ServingError(
            f"cannot sign with {key}: {error}. Accepted: a private key in PEM"
            " on the curve P-256, P-384 or P-521, without a password"
        ) from None


def verify(folder: Path, key: Path) -> None:
    """Compares a version with its signature.

    Args:
        folder: of the version.
        key: the public key, in PEM.

    Raises:
        DamagedError: there is no signature, it is of another key, or a file
            differs.
        ServingError: model-signing is missing.
    """
    library = _library()
    signature = folder / NAME
    if not signature.exists():
        raise DamagedError(f"it is not signed: there is no {NAME}")
    try:
        library.verifying.Config().use_elliptic_key_verifier(
            public_key=key
        ).set_hashing_config(_files(library, signature)).verify(
            folder, signature
        )
    except Exception as error:
        # Whatever is wrong with a signature, it does not hold.
        raise DamagedError(
            f"its signature does not hold for {key}: {error}"
        ) from None


def _files(library: Any, signature: Path) -> Any:
    return library.hashing.Config().set_ignored_paths(
        paths=[os.fspath(signature)], ignore_git_paths=False
    )


def _library() -> Any:
    try:
        import model_signing
    except ImportError as error:
        raise ServingError(
            f"signatures need the extra `signing` of lion-ctr: {error}"
        ) from None
    return model_signing
