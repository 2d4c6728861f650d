"""Reports: numbers against slow loops, what is left out, and how they look and behave in a real browser."""

import re

import numpy as np
import pytest

from tests.browser import CHROMIUM, Browser
from tests.contrast import contrasts
from tests.phantoms import phantom_clip
from usbackbones.report import Features, Heat, Predictions, picture_section, table_section, write_report
from usbackbones.report.features import nearest, pca
from usbackbones.report.images import overlay
from usbackbones.report.markup import element, link
from usbackbones.report.plots import HEIGHT, MOST_MARKS, Axes, curves
from usbackbones.report.predictions import per_class, reliability
from usbackbones.report.runs import history_section

NASTY = "</style><script>alert(1)</script>\"'"


@pytest.fixture(scope="module")
def given(clustered_rows):
    x, y, clip, group = clustered_rows
    logits = x[:, :3] * 2
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    names = np.array(["benign", "malignant", NASTY])
    frames = phantom_clip(0, frames=4, size=64)
    features = Features(x, names[y], clip, group, lambda row: frames[row % 4])
    history = [{"epoch": epoch, "loss": 1 / (epoch + 1), "validation": 0.5 + epoch / 20} for epoch in range(6)]
    return {
        "facts": {"model": NASTY, "data": "made up"},
        "metrics": {"clip": {"auroc": {"value": 0.8, "low": 0.7, "high": 0.9}}},
        "predictions": Predictions(names, y, probability, clip, group),
        "features": features,
        "history": history,
        "heat": [Heat("a frame", frames[0], np.random.default_rng(0).random((8, 8)), "gradient x input")],
        "sections": [table_section("Own", ["a", "b"], [["x", NASTY]]), picture_section("Masks", [("m", frames[1])])],
    }


@pytest.fixture(scope="module")
def clustered_rows():
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(30) % 3, 4)
    group = np.repeat([f"patient {g}" for g in range(30)], 4)
    clip = [f"secret{g}-{f // 2}.dcm" for g in range(30) for f in range(4)]
    x = 1.5 * np.eye(8)[y] + rng.normal(size=(120, 8))
    return x, y, np.array(clip), group


@pytest.fixture(scope="module")
def files(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    for pictures in (False, True):
        write_report(folder / f"{pictures}.html", "A report", **given, pictures=pictures)
    return {pictures: folder / f"{pictures}.html" for pictures in (False, True)}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with Browser() as opened:
        yield opened


def test_by_default_nobody_is_shown(files):
    shared, private = (files[pictures].read_text(encoding="utf-8") for pictures in (False, True))
    assert "data:image" not in shared and "secret" not in shared and not re.search(r"patient \d", shared)
    assert "were left out" in shared and "group 1" in shared and "Masks" not in shared
    assert private.count("data:image") > 20 and "secret0-0.dcm" in private and "patient 7" in private
    assert "do not pass it on" in private and "Masks" in private
    for text in (shared, private):
        assert "<script" not in text and "&lt;script&gt;" in text and "Own" in text


def test_classes_by_loops(given):
    predictions = given["predictions"]
    truth, predicted = predictions.label, predictions.probability.argmax(1)
    found = per_class(truth, predicted, np.asarray(predictions.group), 3, seed=4)
    names = np.unique(predictions.group)
    times = np.random.default_rng(4).multinomial(len(names), np.full(len(names), 1 / len(names)), 2000)
    for c in range(3):
        pairs = list(zip(truth, predicted, strict=True))
        right = sum(t == p == c for t, p in pairs)
        assert found[c]["recall"]["value"] == pytest.approx(right / sum(t == c for t, _ in pairs))
        assert found[c]["precision"]["value"] == pytest.approx(right / sum(p == c for _, p in pairs))
        drawn = []
        for draw in times[:, :]:
            weight = dict(zip(names, draw, strict=True))
            mine = np.array([weight[group] for group in predictions.group])
            drawn.append(mine[(truth == c) & (predicted == c)].sum() / mine[truth == c].sum())
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert (found[c]["recall"]["low"], found[c]["recall"]["high"]) == pytest.approx((low, high))


def test_a_class_that_is_never_there():
    found = per_class(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array(["a", "b", "c"]), 3)
    assert np.isnan(found[2]["recall"]["value"]) and found[1]["precision"]["value"] == 0.5


def test_reliability_by_a_loop(given):
    predictions = given["predictions"]
    order = sorted(range(120), key=lambda row: predictions.probability[row].max())
    slow = []
    for start in range(0, 120, 12):
        rows = order[start : start + 12]
        sure = np.mean([predictions.probability[row].max() for row in rows])
        slow.append((sure, np.mean([predictions.probability[r].argmax() == predictions.label[r] for r in rows])))
    assert np.allclose(reliability(predictions.label, predictions.probability), slow)


def test_pca_by_eigenvectors(clustered_rows):
    x = clustered_rows[0]
    scores, share = pca(x)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    for place in range(2):
        direction = vectors[:, -1 - place] * np.sign(vectors[np.abs(vectors[:, -1 - place]).argmax(), -1 - place])
        assert np.allclose(scores[:, place], (x - x.mean(0)) @ direction)
        assert share[place] == pytest.approx(values[-1 - place] / values.sum())


def test_neighbours_by_loops(clustered_rows):
    x, _, _, group = clustered_rows
    found, centered = nearest(x, group, 3), x - x.mean(0)
    for row in range(0, 120, 17):
        cosine = [a @ centered[row] / np.linalg.norm(a) / np.linalg.norm(centered[row]) for a in centered]
        others = sorted((o for o in range(120) if group[o] != group[row]), key=lambda o: -cosine[o])
        assert found[row].tolist() == others[:3]
    assert nearest(x[:4], group[:4], 2).tolist() == [[-1, -1]] * 4


def test_the_overlay_is_hot_where_the_heat_is():
    heat = np.zeros((4, 4))
    heat[0, 0] = 1
    seen = overlay(np.full((64, 64), 100, np.uint8), heat).astype(int)
    assert (seen[40:, 40:] == 100).all() and seen[2, 2, 0] > 180 > 60 > seen[2, 2, 2]
    assert (overlay(np.full((8, 8), 7, np.uint8), np.zeros((2, 2))) == 7).all()


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match="x 3, label 3, clip 2, group 3"):
        Features(np.zeros((3, 2)), ["a"] * 3, ["c"] * 2, ["g"] * 3)


@pytest.mark.parametrize(
    "values", [[-0.86, -0.7, -0.8], [0.65, 0.4, 0.5], [-0.1, 0.2, 0.1], [-0.5, -0.5, -0.5], [0, 0, 0]]
)
def test_a_curve_stays_inside_its_plot(values):
    """Scores below zero, as minus the log loss, are shown whole."""
    text = history_section([{"epoch": epoch, "score": value} for epoch, value in enumerate(values)]).body
    (way,) = re.findall(r'class="curve s0" d="M([^"]+)"', text)
    heights = [float(point.split()[1]) for point in way.split("L")]
    assert len(heights) == 3 and min(heights) > 0 and max(heights) < HEIGHT
    if len(set(values)) > 1:
        assert np.argmin(heights) == np.argmax(values) and max(heights) - min(heights) > 30


def test_marks_do_not_hide_a_long_curve():
    points = [(step / 500, (step / 500) ** 2) for step in range(501)]
    text = curves({"a": points}, "a curve", Axes((0, 1), (0, 1)))
    assert text.count("<title>") == MOST_MARKS and "a: 0, 0" in text and "a: 1, 1" in text
    (way,) = re.findall(r'class="curve s0" d="M([^"]+)"', text)
    assert way.count("L") == 500


def test_only_web_addresses_are_links():
    assert link("paper", "javascript:alert(1)") == "paper"
    assert link("<", 'https://x.org/?a="') == element("a", "<", href='https://x.org/?a="', rel="noopener noreferrer")


@pytest.mark.parametrize(("width", "dark", "pictures"), [(360, True, True), (360, False, False), (1280, True, False)])
def test_in_a_browser(browser, files, width, dark, pictures):
    browser.open(files[pictures], width=width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert {request.partition(":")[0] for request in browser.requests} <= {"file", "data"} and browser.faults == []
    assert browser.run("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    ratios = contrasts(browser)
    assert len(ratios) > 60 and min(ratios.values()) >= 4.5, min(ratios, key=ratios.get)
    assert browser.run("[...document.querySelectorAll('svg[role]')].every(one => one.getAttribute('aria-label'))")
    browser.press("Tab", "Enter")  # the first link of the contents
    assert browser.run("location.hash") == "#part0"


@pytest.mark.parametrize("dark", [False, True])
def test_a_table_of_five_intervals_fits_a_small_window(browser, tmp_path, dark):
    """At 1,100 px nothing is cut off; an interval is never broken. On a phone a shadow says that there is more."""
    row = ["usbackbones/vit_tiny_patch16_224.hico_nc2", "knn, frame", *["0.649 [-0.579, 0.720]"] * 5]
    header = ["model", "probe, by", "balanced accuracy", "macro F1", "AUROC", "calibration error", "MAE"]
    write_report(tmp_path / "wide.html", "Wide", facts={}, sections=[table_section("All", header, [row] * 3)])
    for width in (1280, 1100):
        browser.open(tmp_path / "wide.html", width=width, dark=dark)
        assert browser.run("[...document.querySelectorAll('.wide')].every(one => one.scrollWidth <= one.clientWidth)")
    assert browser.run("new Set([...document.querySelectorAll('.interval')].map(one => one.offsetHeight)).size") == 1
    assert browser.run("document.querySelectorAll('td')[1].innerText") == "0.649 [-0.579, 0.720]"
    browser.open(tmp_path / "wide.html", width=390, dark=dark)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert "gradient" in browser.run("getComputedStyle(document.querySelector('.wide')).backgroundImage")
