"""The pages in a real browser: nothing fetched, every chart to be seen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.report import page
from tests.pipeline.report.test_page import run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium"
)
# Measure what a person would see, and write it into the page.
LOOK = """<script>
const box = e => e.getBoundingClientRect();
const lines = [...document.querySelectorAll("figure svg")].map(svg => ({
  label: svg.getAttribute("aria-label"),
  size: [box(svg).width, box(svg).height],
  marks: [...svg.querySelectorAll("path, use")].filter(
    e => box(e).width + box(e).height > 0).length,
  words: [...svg.querySelectorAll("text")].filter(
    e => box(e).width > 0).length,
  ink: getComputedStyle(svg.querySelector("text")).fill,
}));
const found = {charts: lines, width: document.documentElement.scrollWidth,
  paper: getComputedStyle(document.body).backgroundColor,
  fetched: performance.getEntriesByType("resource").length,
  tables: [...document.querySelectorAll("section > .wide")].filter(
    e => box(e).height > 0).length};
document.body.innerHTML = "<pre id=found></pre>";
document.getElementById("found").textContent = JSON.stringify(found);
</script>"""


def seen(path: Path, width: int = 1000, *more: str) -> dict[str, Any]:
    """Measures of a page in Chromium."""
    look = path.with_name("look.html")
    look.write_text(path.read_text("utf-8").replace("</body>", LOOK), "utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu",
            f"--user-data-dir={path.parent / 'profile'}",
            "--enable-logging=stderr", "--virtual-time-budget=2000",
            f"--window-size={width},900", *more, "--dump-dom", look.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    (text,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout)
    found: dict[str, Any] = json.loads(html.unescape(text))
    return found


def test_the_report_shows_every_chart_and_fetches_nothing(
    tmp_path: Path,
) -> None:
    path = page.write(run(tmp_path, 100))
    light = seen(path)
    assert [one["label"] for one in light["charts"]] == [
        "reliability", "roc", "pr", "histogram", "calibration", "learning",
        "importance",
    ]  # fmt: skip
    for one in light["charts"]:
        assert min(one["size"]) > 100, one
        assert one["marks"] > 10 and one["words"] > 5, one
        assert one["ink"] == "rgb(29, 36, 51)"
    assert light["fetched"] == 0 and light["tables"] > 5
    assert light["paper"] == "rgb(255, 255, 255)"
    dark = seen(path, 1000, "--blink-settings=preferredColorScheme=0")
    assert dark["paper"] == "rgb(20, 23, 31)"
    assert {one["ink"] for one in dark["charts"]} == {"rgb(230, 233, 240)"}


def test_a_phone_shows_the_report_without_scrolling_sideways(
    tmp_path: Path,
) -> None:
    path = page.write(run(tmp_path))
    assert seen(path, 500)["width"] <= 500


def test_the_index_of_runs_shows_its_charts(
    tmp_path: Path, capsys: Any
) -> None:
    run(tmp_path / "ads")
    assert main(["runs", "ads", "--html", "--root", str(tmp_path)]) == 0
    found = seen(Path(capsys.readouterr().out.strip()))
    assert len(found["charts"]) == 2 and found["fetched"] == 0
    assert all(one["marks"] > 5 for one in found["charts"])
