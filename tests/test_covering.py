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
