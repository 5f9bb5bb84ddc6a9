"""Cells that `make test` runs of a large grid have every pair of values."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tests.covering import covering


@pytest.mark.parametrize("sizes", [(3,), (2, 5), (2, 2, 3, 3), (4, 3, 2, 2, 2)])
def test_each_pair_of_values_is_in_a_cell_that_is_chosen(
    sizes: tuple[int, ...],
) -> None:
    cells = list(product(*map(range, sizes)))
    names = [{f"axis {i}": v for i, v in enumerate(c)} for c in cells]
    chosen = [cells[place] for place in sorted(covering(names))]
    assert len(chosen) >= max(sizes)
    for one, other in combinations(range(len(sizes)), 2):
        found = {(cell[one], cell[other]) for cell in chosen}
        assert len(found) == sizes[one] * sizes[other]
    if len(sizes) > 2:
        assert len(chosen) < len(cells) / 2


@pytest.mark.pairs
@pytest.mark.parametrize("first", [None, {"a": 1}, [2]])
@pytest.mark.parametrize("second", ["x", "y", "z"])
@pytest.mark.parametrize(("third", "fourth"), [(1, 2), (1, 3), (2, 2)])
def test_cell_of_a_grid(
    first: object, second: str, third: int, fourth: int
) -> None:
    """A grid for the next test to look at."""


def test_pytest_leaves_out_cells_beyond_pairs(
    request: pytest.FixtureRequest,
) -> None:
    cells = [
        item
        for item in request.session.items
        if item.name.startswith("test_cell_of_a_grid[")
    ]
    if not cells:
        pytest.skip("the grid was not collected")
    chosen = [c for c in cells if not c.get_closest_marker("slow")]
    assert 9 <= len(chosen) <= 12  # of 27
