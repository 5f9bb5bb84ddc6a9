"""A SavedModel as the server loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.savedmodel import LoadedModel
from tests.serving.tiny import expected_ctr, export


@pytest.mark.parametrize("folder", ["models [1]", "m*", "a?b", "plain"])
def test_a_folder_may_have_any_name(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / "3"
    export(path, 1.0)
    model = LoadedModel(path)
    features = {
        "I1": np.array([0.5], np.float32),
        "C1": np.array([b"ab"], object),
        "user": np.array([7]),
    }
    answer = model.predict("serving_default", features)
    assert answer["ctr"] == pytest.approx(expected_ctr(1.0, 0.5, "ab", 7))
