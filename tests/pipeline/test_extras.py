"""A command without its extra says what to install."""

from __future__ import annotations

import pytest

from pipeline import cli


@pytest.mark.parametrize(
    ("package", "code", "text"),
    [
        ("yaml", 2, "pip install 'lion-ctr[pipeline]'"),
        ("torch", 1, "torch"),
    ],
)
def test_a_missing_package_is_named(package, code, text, monkeypatch, capsys):
    def command(_):
        raise ModuleNotFoundError(f"No module {package}", name=package)

    monkeypatch.setattr(cli, "_config", command)
    assert cli.main(["config", "--schema"]) == code
    shown = capsys.readouterr().err
    assert text in shown and ("pip" in shown) == (code == 2)
