"""Predict held-out rows of features by probes that were fitted on other groups: the core of every evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from usbackbones.probing.few_shot import few_shot_predict
from usbackbones.probing.probes import knn_predict, linear_predict, ridge_predict

Division = tuple[np.ndarray, np.ndarray]
"""Places to fit on and places to predict, int."""
Key = tuple[str, str, int]
"""Probe ("knn", "linear" or "ridge"), shots ("" for all labels), and the draw of the labels."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of each row of features.

    Attributes:
        label: int [N], an index into the classes, or float [N], a measured number.
        clip: [N], which clip the row is a frame of.
        group: [N], the patient or group.
        classes: names; empty where the label is a number.
    """

    label: np.ndarray
    clip: np.ndarray
    group: np.ndarray
    classes: Sequence[str] = ()


@dataclass
class HeldOut:
    """Predictions of one network's features.

    Attributes:
        members: for each key probabilities float64 [M, C], or numbers float64 [M]; nan where a row was never held out.
        penalties: those that probes chose, in order; of the probes on all labels.
    """

    members: dict[Key, np.ndarray] = field(default_factory=dict)
    penalties: list[float] = field(default_factory=list)


def predict_held_out(
    x: np.ndarray,
    rows: Rows,
    divisions: Iterable[Division],
    new: np.ndarray | None = None,
    shots: Sequence[str] = (),
    repeats: int = 5,
    seed: int = 0,
) -> HeldOut:
    """Fit every probe of the kind of label for each division and predict the rows that it holds out.

    The labels of held-out rows are not read.

    Args:
        x: float [N, D], features of the rows.
        rows: what is known of them.
        divisions: rows to fit on, and rows of `new` to predict.
        new: float [M, D]; by default x itself.
        shots: of few-shot probes, see `usbackbones.probing.few_shot.labeled_rows`; for classes alone.
        repeats: draws of each.
        seed: of the draws.
    """
    new = x if new is None else new
    out, shape = HeldOut(), (len(new), *([len(rows.classes)] if rows.classes else []))
    for fit, held in divisions:
        if not len(held):
            continue
        known = x[fit], rows.label[fit], rows.group[fit]
        for key, predicted, penalty in _fitted(known, rows.clip[fit], new[held], len(rows.classes)):
            out.members.setdefault(key, np.full(shape, np.nan))[held] = predicted
            out.penalties += [penalty] if penalty else []
        few = few_shot_predict(*known, new[held], rows.clip[fit], shots, repeats, len(rows.classes) or None, seed)
        for shot, draw, near, line in few:
            out.members.setdefault(("knn", shot, draw), np.full(shape, np.nan))[held] = near
            out.members.setdefault(("linear", shot, draw), np.full(shape, np.nan))[held] = line
    return out


def _fitted(
    known: tuple[np.ndarray, np.ndarray, np.ndarray], clips: np.ndarray, new: np.ndarray, classes: int
) -> Iterator[tuple[Key, np.ndarray, float]]:
    """(key, predictions, penalty) of each probe on all labels; kNN has no penalty, 0."""
    x, y, groups = known
    if not classes:
        yield ("ridge", "", 0), *ridge_predict(x, y, groups, new, clips)
        return
    yield ("knn", "", 0), knn_predict(x, y, new, classes=classes), 0.0
    yield ("linear", "", 0), *linear_predict(x, y, groups, new, clips, classes=classes)
