"""`lionctr models` from outside: what it prints, leaves and returns."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from components import model_store
from components.pusher import publish
from pipeline.cli import main
from serving.model_folder import preferred
from tests.exported import write_export


class Model:
    """A model's folder, and the command on it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.base = root / "served/ads"
        self._capsys = capsys

    def push(self, *names: str) -> None:
        for name in names:
            folder = self.root / f"export-{name}"
            if not folder.exists():
                write_export(folder, name, metrics={"auc": 0.7})
            publish.publish(str(folder), str(self.base))

    def run(self, *words: str | int) -> tuple[int, str]:
        """Exit code, and stdout and stderr."""
        code = main(["models", str(self.base), *map(str, words)])
        printed = self._capsys.readouterr()
        return code, printed.out + printed.err

    @property
    def versions(self) -> list[int]:
        return model_store.versions(str(self.base))

    @property
    def ids(self) -> list[str]:
        """Models by version, oldest first."""
        return [
            model_store.export_id(str(self.base / str(v)))
            for v in self.versions
        ]

    @property
    def served(self) -> str:
        """The model that a server takes."""
        version = model_store.served(str(self.base))
        return model_store.export_id(str(self.base / str(version)))

    def damage(self, version: int) -> None:
        (self.base / str(version) / "assets/ads").write_bytes(b"two\none\n")


@pytest.fixture
def ads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Model:
    """Versions of the models a, b and c."""
    model = Model(tmp_path, capsys)
    model.push("a", "b", "c")
    return model


def test_the_list_tells_versions_metrics_and_which_is_served(
    ads: Model,
) -> None:
    code, text = ads.run()
    assert code == 0
    first, head, *rows = text.splitlines()
    newest = ads.versions[-1]
    assert first.endswith(f"version {newest} is served: it is the newest")
    assert head.split()[:3] == ["version", "pushed", "(UTC)"]
    assert [row.replace("*", "").split()[0] for row in rows] == [
        str(v) for v in reversed(ads.versions)
    ]
    assert rows[0].startswith("*") and "0.70000" in rows[0]


def test_the_list_as_json(ads: Model) -> None:
    ads.damage(ads.versions[-1])
    code, text = ads.run("--json")
    found = json.loads(text)
    assert (code, found["served"]) == (0, ads.versions[1])
    assert found["why"].endswith(f"{ads.versions[-1]} damaged")
    states = [row["state"] for row in found["versions"]]
    assert states == ["damaged", "holds", None]
    assert found["versions"][1]["metrics"] == {"auc": 0.7}


def test_rollback_serves_the_version_before_and_loses_none(
    ads: Model,
) -> None:
    before = ads.versions
    code, text = ads.run("rollback")
    assert code == 0
    assert ads.versions[:3] == before
    assert (ads.ids, ads.served) == (["a", "b", "c", "b"], "b")
    assert f"rollback {before[-1]}" in text  # the way forward again
    # The highest number, which is what TF Serving serves, linked.
    one, two = (
        ads.base / str(v) / "variables/variables.data-00000-of-00001"
        for v in (before[1], ads.versions[-1])
    )
    assert one.samefile(two)
    assert ads.run("rollback")[0] == 0
    assert ads.ids == ["a", "b", "c", "b", "a"]
    code, text = ads.run("rollback")
    assert code == 1
    assert "no version before" in text


def test_rollback_goes_forward_to_a_version_that_is_named(ads: Model) -> None:
    ads.run("rollback")
    assert ads.run("rollback", ads.versions[2])[0] == 0
    assert ads.served == "c"
    code, text = ads.run("rollback", 12)
    assert code == 2
    assert f"received 12; accepted: {ads.versions[0]}" in text


def test_a_model_that_was_run_again_goes_back_to_the_one_it_replaced(
    ads: Model,
) -> None:
    ads.push("a")
    assert ads.served == "a"
    ads.run("rollback")
    assert ads.served == "c"


def test_rollback_passes_over_a_damaged_version(ads: Model) -> None:
    ads.damage(ads.versions[1])
    assert ads.run("rollback")[0] == 0
    assert ads.served == "a"
    code, text = ads.run("rollback", ads.versions[1])
    assert code == 1
    assert "assets/ads" in text


def test_a_damaged_newest_is_not_what_is_rolled_back(ads: Model) -> None:
    """Servers serve b already; the one before is a."""
    ads.damage(ads.versions[-1])
    ads.run("rollback")
    assert ads.served == "a"


def test_pin_holds_against_pushes_until_unpin(ads: Model) -> None:
    code, text = ads.run("pin", ads.versions[0])
    assert (code, ads.served) == (0, "a")
    assert "TF Serving" in text
    ads.push("d")
    assert ads.served == "a"
    assert "served, pinned" in ads.run()[1]
    assert ads.run("unpin")[0] == 0
    assert ads.served == "d"
    assert ads.run("unpin")[0] == 0


def test_rollback_moves_the_pin(ads: Model) -> None:
    ads.run("pin", ads.versions[1])
    ads.run("rollback")
    assert ads.served == "a"
    assert ads.ids[-1] == "a"
    ads.push("d")
    assert ads.served == "a"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["pin"], 2, "pin: received None; accepted: "),
        (["pin", "7"], 2, "pin: received 7; accepted: "),
        (["verify", "7"], 2, "only pin and rollback"),
    ],
)
def test_wrong_versions_are_refused(
    ads: Model, words: list[str], code: int, told: str
) -> None:
    found, text = ads.run(*words)
    assert (found, told in text) == (code, True)


def test_a_damaged_version_is_not_pinned(ads: Model) -> None:
    ads.damage(ads.versions[0])
    code, text = ads.run("pin", ads.versions[0])
    assert code == 1
    assert "assets/ads" in text and not (ads.base / ".pinned").exists()


def test_verify_tells_each_version(ads: Model) -> None:
    assert ads.run("verify")[0] == 0
    ads.damage(ads.versions[1])
    (ads.base / str(ads.versions[0]) / "assets.extra/manifest.json").unlink()
    code, text = ads.run("verify")
    assert code == 1
    first, second, third, _ = text.splitlines()
    assert "no manifest" in first
    assert "damaged" in second and "assets/ads" in second
    assert third.endswith("holds")


def test_verify_without_manifests_is_no_failure(ads: Model) -> None:
    for version in ads.versions:
        folder = ads.base / str(version)
        (folder / "assets.extra/manifest.json").unlink()
    code, text = ads.run("verify")
    assert code == 0 and text.count("no manifest") == 3


def test_a_name_is_looked_for_where_models_are_pushed(
    ads: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "ads", "--to", str(ads.root / "served")]) == 0
    assert main(["models", "adz", "--to", str(ads.root / "served")]) == 2
    assert "no version in" in capsys.readouterr().err


def test_a_config_names_its_model(
    ads: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ads.root / "ads.yaml"
    config.write_text(
        json.dumps(
            {
                "name": "ads",
                "data": {
                    "impressions": {
                        "path": "x.csv",
                        "format": "csv",
                        "header": True,
                    },
                    "label": "click",
                },
                "features": {"numeric": ["price"]},
                "push": {"to": str(ads.root / "served")},
            }
        )
    )
    assert main(["models", str(config)]) == 0
    assert str(ads.base) in capsys.readouterr().out


def test_rollbacks_at_the_same_time_end_whole(ads: Model) -> None:
    threads = [
        threading.Thread(target=main, args=(["models", str(ads.base), *words],))
        for words in (["rollback"], ["rollback"], ["verify"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ads.run("verify")[0] == 0
    assert (ads.ids, ads.served) == (["a", "b", "c", "b", "a"], "a")


def test_it_answers_without_tensorflow(ads: Model) -> None:
    code = (
        "import sys; from pipeline.cli import main; "
        f"main(['models', {str(ads.base)!r}, 'rollback']); "
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'numpy'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("pin", "order"),
    [(None, [3, 2, 1]), (3, [3, 2, 1]), (2, [2, 1, 3]), (1, [1, 3, 2])],
)
def test_the_order_in_which_versions_are_tried(
    pin: int | None, order: list[int]
) -> None:
    assert preferred([1, 2, 3], pin) == order
