"""Signed versions, with the real model-signing."""

from pathlib import Path

import pytest

pytest.importorskip("model_signing", reason="needs the extra `signing`")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from components.pusher import publish
from serving import ServingError, manifest, signature
from serving.manifest import DamagedError
from tests.exported import FILES, write_export


def write_keys(folder: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    """Writes `key` and `key.pub`; returns the path of the private one."""
    folder.mkdir()
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "key.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
    )
    return folder / "key"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key; its public one lies beside it."""
    return write_keys(tmp_path / "k", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def version(tmp_path: Path, key: Path) -> Path:
    """A version that was pushed and signed."""
    write_export(tmp_path / "export", "one")
    base = tmp_path / "served/ads"
    number = publish.publish(
        str(tmp_path / "export"), str(base), {"metrics": {}}, str(key)
    )
    return base / str(number)


def public(key: Path) -> Path:
    return key.with_name("key.pub")


def test_a_signed_version_holds(version: Path, key: Path) -> None:
    signature.verify(version, public(key))
    assert manifest.verify(str(version))


@pytest.mark.parametrize(
    "name", [*FILES, manifest.NAME, signature.NAME, "assets.extra/new", ".new"]
)
def test_a_file_that_is_changed_or_added_is_found(
    version: Path, key: Path, name: str
) -> None:
    path = version / name
    content = bytearray(path.read_bytes() if path.exists() else b"xx")
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="signature does not hold"):
        signature.verify(version, public(key))


def test_another_key_is_refused(
    version: Path, key: Path, tmp_path: Path
) -> None:
    other = write_keys(
        tmp_path / "other", ec.generate_private_key(ec.SECP256R1())
    )
    with pytest.raises(DamagedError, match="does not hold"):
        signature.verify(version, public(other))


def test_a_version_without_a_signature_is_refused(
    version: Path, key: Path
) -> None:
    (version / signature.NAME).unlink()
    with pytest.raises(DamagedError, match="not signed"):
        signature.verify(version, public(key))


def test_a_rollback_keeps_the_signature(version: Path, key: Path) -> None:
    new = publish.republish(int(version.name), str(version.parent))
    signature.verify(version.with_name(str(new)), public(key))


@pytest.mark.parametrize("kind", ["rsa", "text", "public", "missing"])
def test_a_key_that_cannot_sign_is_named_and_nothing_is_pushed(
    tmp_path: Path, key: Path, kind: str
) -> None:
    if kind == "rsa":
        write_keys(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))
    (tmp_path / "text").mkdir(exist_ok=True)
    (tmp_path / "text/key").write_text("no key")
    paths = {
        "rsa": tmp_path / "rsa/key",
        "text": tmp_path / "text/key",
        "public": public(key),
        "missing": tmp_path / "nowhere",
    }
    write_export(tmp_path / "export", "one")
    base = tmp_path / "served/ads"
    with pytest.raises(ServingError, match=f"cannot sign with {paths[kind]}"):
        publish.publish(
            str(tmp_path / "export"), str(base), None, str(paths[kind])
        )
    assert list(base.iterdir()) == []


def test_the_server_loads_only_what_is_signed(version: Path, key: Path) -> None:
    from serving.savedmodel import LoadedModel

    (version / signature.NAME).unlink()
    with pytest.raises(DamagedError, match="not signed"):
        LoadedModel(version, public(key))
