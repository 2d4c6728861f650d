"""Outputs claim no more than is known: rounding, intervals, units, counts; see `usbackbones._words`."""

import csv
import json
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from usbackbones._words import intervals_over, lasted, percent, plural, rounded, with_interval
from usbackbones.cli import main as cli
from usbackbones.metrics.levels import metrics
from usbackbones.metrics.operating_point import rates
from usbackbones.metrics.segmentation import mean_interval
from usbackbones.report import Features, Predictions, write_report
from usbackbones.report.plots import whiskers


def text_of(page):
    """What a reader of an HTML page sees."""
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S)).split())


@pytest.mark.parametrize(
    ("value", "told"),
    [(1.0, "1.000"), (0.9996, ">0.999"), (0.9994, "0.999"), (0.0, "0.000"), (0.0004, "<0.001"), (-0.0004, ">-0.001")],
)
def test_what_is_not_quite_all_or_nothing_is_not_rounded_to_it(value, told):
    assert rounded(value) == told


def test_shares_are_none_or_all_only_if_they_are():
    assert [percent(part / 1000) for part in (0, 4, 500, 996, 1000)] == ["0%", "<1%", "50%", ">99%", "100%"]
    assert percent(0.0004, 1) == "<0.1%" and percent(0.1234, 1) == "12.3%"


def test_counts_have_a_singular():
    assert [plural(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


def test_one_group_has_no_interval():
    """Resampling the only group gives the value again and again, which would look like certainty."""
    y, p = np.array([0, 1, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    for group, known in (("aaaa", False), ("aabb", True)):
        group = list(group)
        found = [one for of in metrics(y, p, list("wxyz"), group).values() for one in of.values()]
        found += [mean_interval(p[:, 0], group), rates(p[:, 1] > 0.5, y == 1, group)["sensitivity"]]
        found += [one for of in metrics(y * 1.0, p[:, 0], list("wxyz"), group).values() for one in of.values()]
        assert all(bool(np.isfinite(one["low"])) == known for one in found if np.isfinite(one["value"]))
        assert ("no interval" in with_interval(found[0])) != known and np.isfinite(found[0]["value"])
    assert with_interval({"value": None, "low": None, "high": None}) == "not defined"
    assert with_interval({"value": 1.0, "low": 1.0, "high": 1.0}) == "1.000 (no interval: no resample differs)"
    more = {"low": np.nan, "high": np.nan, "members": [0.1, 0.2]}  # as a leaderboard has them
    assert "nan" not in whiskers({"a": found[0] | more}, "label").lower()


def test_intervals_say_over_what():
    assert intervals_over(12, "patient") == "brackets: 95 % intervals over 12 patients"
    assert intervals_over(12, "", joined=True) == (
        "brackets: 95 % intervals over 12 files, each taken for a patient of its own, near-duplicates as one"
    )
    assert intervals_over(3, "group").endswith("; over fewer than 10 they are too narrow to rely on")
    assert intervals_over(1, "patient") == "no intervals: 1 patient to evaluate on, two at least are needed"


@pytest.mark.parametrize("unit", ["file", "patient", "group"])
def test_a_report_calls_a_group_what_it_is(tmp_path, unit):
    rng = np.random.default_rng(0)
    y, names = np.arange(12) % 2, [f"f{number}" for number in range(12)]
    p = rng.dirichlet((1, 1), 12)
    write_report(
        tmp_path / "report.html",
        "A run",
        facts={},
        metrics={"clip": metrics(y, p, names, names)["clip"]},
        predictions=Predictions(["a", "b"], y, p, names, names, unit),
        features=Features(rng.normal(size=(12, 4)), [str(label) for label in y], names, names, unit=unit),
        unit=unit,
    )
    told = text_of((tmp_path / "report.html").read_text()).replace("the names of files and groups", "")
    told = told.replace("Patients can still be few enough", "").replace("each taken for a patient of its own", "")
    told = told.replace("tell scanners or patients", "").replace("this file can be shared", "")
    others = {"file", "patient", "group"} - {unit}
    assert f"resampling whole {unit}s" in told and f"of other {unit}s" in told and f"{unit} 12" in told
    assert not re.search(rf"\b({'|'.join(others)})s?\b", told)
    assert "nan" not in told


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    """Two classes of six stills that nobody groups; one file is there twice, one cannot be read."""
    folder, rng = tmp_path_factory.mktemp("unknown"), np.random.default_rng(0)
    for number in range(12):
        file = folder / "data" / "ab"[number % 2] / f"x{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8))
        small.resize((48, 48), Image.Resampling.BICUBIC).save(file)
    Image.open(folder / "data" / "a" / "x00.png").resize((64, 64)).save(folder / "data" / "a" / "x90.png")
    (folder / "data" / "b" / "x99.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    return folder / "data"


def test_one_count_of_files_in_all_places(unknown, tmp_path, capsys):
    """Joined near-duplicates are still two files, and one that cannot be read is counted where it is left out."""
    cli.main(["probe", str(unknown), "--model", "random:test_resnet", "--folds", "2", "-o", str(tmp_path / "out")])
    told = capsys.readouterr()
    said = "every file counts as a patient of its own (14 files)"
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    page = text_of((tmp_path / "out" / "report.html").read_text())
    assert said in told.err and said in found["patients"] and said in page
    assert told.err.count("skipped: ") == 1 and "could not be read 1 file" in page
    assert "a: 7 items\n" in told.out and found["counts"] == {
        label: {"items": number, "groups": number} for label, number in (("a", 7), ("b", 6))
    }
    assert "1 pair of near-duplicates, kept together: x00.png = x90.png" in told.err
    assert "over 13 files, each taken for a patient of its own, near-duplicates as one" in told.out
    assert "by patient" not in told.out + page and "whole files" in page


def test_a_class_that_the_test_part_lacks_is_said(unknown, tmp_path, capsys):
    files = sorted(unknown.glob("[ab]/x[01]*.png"))
    lines = [
        f"{file},{file.parent.name},{'test' if file.name in ('x02.png', 'x04.png') else 'train'}" for file in files
    ]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *lines]))
    cli.main(["probe", str(tmp_path / "table.csv"), "--model", "random:test_resnet", "-o", str(tmp_path / "out")])
    told = capsys.readouterr()
    assert "note: no item of b is evaluated: means over classes are over the others" in told.err
    assert "auroc" not in told.out and "b: " not in told.out and "a: 2 items" in told.out


def test_an_audit_of_files_that_nobody_groups_does_not_make_patients_of_them(unknown, tmp_path, capsys):
    out = tmp_path / "audit"
    cli.main(["audit", str(unknown), "--model", "none", "-o", str(out)])
    told, page = capsys.readouterr().out, text_of((out / "report.html").read_text())
    counts = json.loads((out / "audit.json").read_text())["counts"]
    assert counts["patients"] is None and counts["patients of"] == {} and counts["unit"] == ""
    assert "(14 files)" in told and "13 read, 1 that cannot be" in page
    assert "a: 6 files, too few" in page and "over files" in page
    rest = re.sub(r"as a patient of its own|(tells|told by|column|contradicts) patients?\w*|patients apart", "", page)
    assert not re.search(r"\d patient|by patient|over patients", rest)
    with (out / "groups.csv").open(newline="") as stream:
        assert "group" not in next(csv.reader(stream))


def test_images_that_show_nothing_are_counted_beside_their_dice(tmp_path):
    """An empty mask over an empty truth is a Dice of 1, which lifts a mean over many such images."""
    pytest.importorskip("segmentation_models_pytorch", reason="pip install usbackbones[dense]")
    from usbackbones.segmentation.dataset import read_masked
    from usbackbones.segmentation.report import told_empty
    from usbackbones.segmentation.run import evaluate

    for number in range(3):
        pixels = np.zeros((16, 16), np.uint8)
        pixels[4:8] = 255 * (number > 0)
        for folder, image in (("images", np.full((16, 16), 40 * number, np.uint8)), ("masks", pixels)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "data" / folder / f"{number}.png")
    rows = evaluate(read_masked(tmp_path / "data"), np.zeros((3, 16, 16), np.float32), tmp_path / "out")
    assert [row["dice"] for row in rows] == [1, 0, 0] and [row["empty"] for row in rows] == [True, False, False]
    assert told_empty(1, 3).startswith("1 of 3 test images with an empty truth") and told_empty(0, 3) == ""


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "less than a second"),
        (8.4, "8 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7530, "2 h 5 min"),
    ],
)
def test_a_time_in_words(seconds, told):
    assert lasted(seconds) == told
