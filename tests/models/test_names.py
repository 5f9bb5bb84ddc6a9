"""The names of columns in the exported signature."""

from __future__ import annotations

import pytest

from models.config.served_names import served_name, served_names


def test_names_in_one_script_of_one_length_are_numbered() -> None:
    assert served_names(["年龄", "城市", "цена", "вид1", "город"]) == {
        "年龄": "f___",
        "城市": "f____2",
        "цена": "f_____",
        "вид1": "f____1",
        "город": "f______",
    }


def test_no_two_names_are_equal_and_latin_ones_stay() -> None:
    names = ["é", "è", "f__", "f___2", "F__3", "ß", "a", "É"]
    served = served_names(names)
    lower = [name.lower() for name in served.values()]
    assert len(set(lower)) == len(names)
    for name in ("f__", "f___2", "F__3", "a"):
        assert served[name] == name
    assert list(served) == names


def test_an_order_that_is_kept_keeps_the_names() -> None:
    before = served_names(["价格", "城市"])
    after = served_names(["价格", "城市", "年龄", "hour"])
    assert {name: after[name] for name in before} == before


def test_latin_names_that_would_be_equal_are_refused() -> None:
    for pair in (["my col", "my_col"], ["Ad", "ad"], ["a.b", "a b"]):
        with pytest.raises(ValueError, match="rename one"):
            served_names(pair)


def test_served_names_are_those_of_single_columns() -> None:
    for name in ("price", "1x", "class", "köln"):
        assert served_names([name]) == {name: served_name(name)}
