"""The page of a leaderboard holds the numbers of its summary, and loads nothing."""

import html
import json
import re
from types import SimpleNamespace

import pytest

from tests.browser import CHROMIUM, Browser
from training.benchmark.html_report import _of_task, write_comparison
from training.benchmark.leaderboard import main
from training.benchmark.models import Entry
from usbackbones._words import with_interval


@pytest.fixture(scope="module")
def board(mini, tmp_path_factory):
    place = tmp_path_factory.mktemp("comparison")
    quick = {"size": 32, "seeds": 2, "shots": ("1", "2"), "legacy_epochs": 0, "cache": place / "cache"}
    main(("random:test_resnet",), mini, json_file=place / "s.json", report=place / "r.html", **quick)
    return json.loads((place / "s.json").read_text()), place / "r.html"


def words(page):
    """The page without the marks that keep an interval on one line."""
    return re.sub("</?span[^>]*>", "", page.read_text(encoding="utf-8"))


def test_numbers_are_those_of_the_summary(board):
    found, file = board
    text = words(file)
    for task, report in found["tasks"].items():
        assert f"{task}: balanced accuracy by clip" in text and f"{task}: few labelled groups" in text
        for row in report["rows"]:
            assert row["model"] in text
            for levels in row.get("results", {}).values():
                for metrics in levels.values():
                    for told in metrics.values():
                        assert html.escape(with_interval(told)) in text
    assert "not run" in text and "data:image" not in text and "--report" not in found["command"]


def test_a_measured_number_has_its_page_too(tmp_path):
    """Errors in millimetres, no classes and no few-shot curves; rows that were not run are told."""
    numbers = {"mae": {"value": 19.3, "low": 17.4, "high": 21.2}, "r2": {"value": 0.87, "low": 0.84, "high": 0.9}}
    random = {"model": "random:resnet18", "overlap": "none", "networks": 2, "results": {"ridge": {"frame": numbers}}}
    absent = {"model": "SimCLR resnet18", "overlap": "unknown", "not_run": "no run. See", "command": "python"}
    found = {"command": "python -m x", "tasks": {}}
    counts = {"pretrain": {"groups": 60}, "test": {"groups": 9}}
    found["tasks"]["hc18"] = {
        "kind": "number",
        "rows": [random, absent],
        "counts": counts,
        "protocol": {"part": "test"},
    }
    task = SimpleNamespace(pretrain=SimpleNamespace(frames=()))
    rows = [Entry("random:resnet18", "resnet18", [None]), Entry("SimCLR resnet18", "resnet18", [], "no run")]
    write_comparison(tmp_path / "r.html", found, [task], rows, None, False)
    text = words(tmp_path / "r.html")
    assert "19.300 [17.400, 21.200]" in text and "0.870 [0.840, 0.900]" in text and "mean of 2 networks" in text
    assert "SimCLR resnet18 was not run: no run." in text and "few labelled groups" not in text
    assert "95 % intervals over 9 groups; over fewer than 10 they are too narrow to rely on; a line of" in text


def test_few_shot_curves_of_all_rows_are_drawn():
    """Nine rows and more are more plots, for there are eight colors."""
    few = {"knn": {"5": {"value": 0.5}}}
    names = [f"local-dir:w{number}" for number in range(9)]
    told = {"value": 0.5, "low": 0.4, "high": 0.6}
    results = {"knn": {"clip": {"balanced_accuracy": told}}}
    rows = [{"model": name, "networks": 1, "results": results, "few_shot": few} for name in names]
    counts, protocol = {"test": {"groups": 20}}, {"part": "test", "draws": 1}
    section = _of_task("lung", {"rows": rows, "counts": counts, "protocol": protocol})[-1]
    assert all(f"{name}, knn" in section.body for name in names) and section.body.count("<figure") == 2
    assert section.note.startswith("Means over 1 draw")


def test_in_a_browser(board):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with Browser() as browser:
        browser.open(board[1], width=360, dark=True)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.requests == [board[1].as_uri()] and browser.faults == []
