"""Sections about predictions: confusion, each class with its intervals, calibration."""

from collections.abc import Sequence

import numpy as np

from usbackbones._words import percent, plural, with_interval
from usbackbones.metrics.levels import by_level
from usbackbones.metrics.resampling import draw_groups, interval
from usbackbones.report.kinds import Predictions, Section
from usbackbones.report.markup import Markup, element, joined
from usbackbones.report.plots import Axes, curves
from usbackbones.report.runs import resampled

BINS = 10
"""Of the reliability curve, with about equally many predictions each."""
RESAMPLES = 2000


def sections(predictions: Predictions) -> list[Section]:
    """What a report tells of predictions: of whole clips, and for calibration of frames beside them."""
    levels = by_level(predictions.label, predictions.probability, predictions.clip, predictions.group)
    truth, probability, group = levels["clip"]
    classes = [str(name) for name in predictions.classes]
    of = "" if predictions.unit == "file" else f" of {plural(len(set(group)), predictions.unit)}"
    shown = ("frame", "clip") if len(truth) < len(predictions.label) else ("clip",)
    reliable = {level: reliability(*levels[level][:2]) for level in shown}
    axes = Axes((0, 1), (0, 1), "probability of the predicted class", "share that was right")
    return [
        Section(
            "Confusion",
            confusion_table(truth, probability.argmax(1), classes),
            f"{plural(len(truth), 'clip')}{of}. A row is what clips are, a column what they were taken for; in each "
            "cell their number and the share of the row.",
        ),
        Section(
            "Classes",
            _classes_table(truth, probability.argmax(1), group, classes, predictions.unit),
            f"By clip. {resampled(predictions.unit)} Recall: share of a class that was "
            "found; precision: share of what was taken for it that was it. Where that is all or nothing, "
            "resampling cannot see how unsure it is.",
        ),
        Section(
            "Reliability",
            element("figure", curves(reliable, _reliability_label(reliable["clip"]), axes, guide=True)),
            "On the dashed line a network is right as often as it says. Below it, it is too sure of itself.",
        ),
    ]


def confusion_table(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Markup:
    """Counts of what is (rows) against what it was taken for (columns), shaded by the share of the row."""
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, predicted), 1)
    head = [element("th", "is, taken for", scope="col"), *(element("th", name, scope="col") for name in classes)]
    rows = []
    for name, row in zip(classes, counts, strict=True):
        share = row / max(row.sum(), 1)
        cells = [
            element("td", f"{count} ({percent(part)})", class_=f"heat{round(part * 10)}")
            for count, part in zip(row, share, strict=True)
        ]
        rows.append(element("tr", element("th", name, scope="row"), *cells))
    made = element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="confusion")
    return element("div", made, class_="wide", role="region", aria_label="Confusion of classes", tabindex="0")


def per_class(
    truth: np.ndarray, predicted: np.ndarray, group: np.ndarray, classes: int, seed: int = 0
) -> list[dict[str, dict[str, float]]]:
    """Recall, precision and F1 of each of C classes, with 95 % intervals from resampling whole groups.

    Arguments are int [N] and the group [N]. {metric: {"value", "low", "high"}} of each class; NaN where a class is
    never there or never predicted.
    """
    number, times = draw_groups(group, RESAMPLES, seed)
    confusion = np.zeros((times.shape[1], classes, classes))
    np.add.at(confusion, (number, truth, predicted), 1)
    value, drawn = _ratios(confusion.sum(0)[None]), _ratios(np.tensordot(times, confusion, 1))
    found = []
    for c in range(classes):
        row = {}
        for metric, ratio in drawn.items():
            known = bool(np.isfinite(ratio[:, c]).any())
            low, high = interval(ratio[:, c]) if known else (float("nan"), float("nan"))
            row[metric] = {"value": float(value[metric][0, c]), "low": low, "high": high}
        found.append(row)
    return found


def _ratios(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """From confusions [R, truth, prediction] to ratios [R, C], NaN where there is nothing to divide by."""
    right, support, called = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(2), confusion.sum(1)

    def over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)

    return {"recall": over(right, support), "precision": over(right, called), "F1": over(2 * right, support + called)}


def _classes_table(
    truth: np.ndarray, predicted: np.ndarray, group: np.ndarray, classes: Sequence[str], unit: str
) -> Markup:
    from usbackbones.report.markup import table

    found = per_class(truth, predicted, group, len(classes))
    rows = []
    for number, (name, metrics) in enumerate(zip(classes, found, strict=True)):
        mine = truth == number
        cells = [with_interval(numbers) if np.isfinite(numbers["value"]) else "none" for numbers in metrics.values()]
        groups = [] if unit == "file" else [str(len(set(group[mine])))]
        rows.append([name, str(int(mine.sum())), *groups, *cells])
    header = ["class", "clips", *([] if unit == "file" else [f"{unit}s"]), "recall", "precision", "F1"]
    return table(header, rows, "Classes")


def reliability(truth: np.ndarray, probability: np.ndarray) -> list[tuple[float, float]]:
    """(mean probability of the predicted class, share that was right) of about equally full bins, the least sure first.

    Classes are int [N], probabilities float [N, C].
    """
    sure, hit = probability.max(1), probability.argmax(1) == truth
    order = np.argsort(sure, kind="stable")
    bins = np.array_split(order, min(BINS, max(1, len(order) // 5)))
    return [(float(sure[rows].mean()), float(hit[rows].mean())) for rows in bins]


def _reliability_label(points: Sequence[tuple[float, float]]) -> str:
    return joined(["Reliability by clip: ", "; ".join(f"says {x:.2f}, is right {y:.2f}" for x, y in points)])
