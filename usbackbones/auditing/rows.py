"""Rows that predict the target: no-tissue rows, which may alarm, and cheap rows, for context; on the same folds."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from usbackbones._words import rounded, with_interval
from usbackbones.auditing.estimate import Estimate, Target, estimate, folds_of, predictions
from usbackbones.auditing.findings import Finding
from usbackbones.auditing.look import Seen, View
from usbackbones.auditing.privacy import CODED
from usbackbones.auditing.screens import MISSING
from usbackbones.auditing.statistics import Tested, permutation_test
from usbackbones.data.item import DataError, Item
from usbackbones.data.patients import unit
from usbackbones.data.targets import Kind
from usbackbones.features.shortcuts import LEVELS, SIDE, Facts, border, encoded, inner

MARGIN, ALPHA = 0.10, 0.05
"""A no-tissue row alarms where it is this far above chance, and its adjusted p is no larger."""
UNGROUPED, GROUPED, JOINED = "every file its own", "by {}", "near-duplicates joined"
"""The groupings under which a row is scored; the last is the one that counts."""


@dataclass(frozen=True)
class Row:
    """A row of the audit.

    Attributes:
        name: of the row.
        tissue: False for the no-tissue rows.
        features: number of features.
        scores: by grouping; those that are equal to the one before it are left out.
        beside: of as many random inner pixels, twins joined; None where that makes no sense.
        tested: of no-tissue rows.
        expected: deployment will have the same cue, so it does not alarm.
        predicted: out-of-fold, twins joined [R, N].
        samples: resamples of the score, for paired differences.
    """

    name: str
    tissue: bool
    features: int
    scores: dict[str, Estimate]
    beside: Estimate | None = None
    tested: Tested | None = None
    expected: bool = False
    predicted: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)
    samples: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)

    @property
    def score(self) -> Estimate:
        """Under the last grouping, the strictest."""
        return list(self.scores.values())[-1]

    def alarms(self, chance: float) -> bool:
        """Whether the row is serious."""
        if self.tested is None or self.expected:
            return False
        return self.tested.adjusted <= ALPHA and self.score.value >= chance + MARGIN


def target_of(items: Sequence[Item], kind: Kind) -> Target:
    """The labels as classes or as numbers, as `usbackbones.data.targets.decide_target` decided."""
    labels = [item.label for item in items]
    if kind == "number":
        return Target(np.array([float(label) for label in labels]))
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise DataError(f"only {classes[0]} could be read: an audit of labels needs two classes")
    return Target(np.array([classes.index(label) for label in labels]), tuple(classes))


def no_tissue(seen: Sequence[Seen], columns: Mapping[str, Sequence[str]]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Features of the no-tissue rows, float64 [N, D] by name, and what was not run and why."""
    rows = {"container": encoded([s.container for s in seen]), "geometry": encoded([s.geometry for s in seen])}
    missing = []
    if any(s.scanner for s in seen):
        rows["scanner"] = encoded([s.scanner for s in seen])
    else:
        missing.append("scanner: not run, no DICOM header names one")
    screens = [s.screen for s in seen if s.screen]
    if len(screens) == len(seen):
        rows["sector shape"] = encoded([s.sector for s in screens])
        rows["outside of sector"] = np.stack([s.outside for s in screens]).astype(float)
        rows["text and calipers"] = np.stack([s.writing for s in screens]).astype(float)
    else:
        missing += [
            f"{name}: not run, {MISSING}" for name in ("sector shape", "outside of sector", "text and calipers")
        ]
    for name, values in columns.items():
        rows[name] = encoded([_fact(name, value) for value in values])
    return rows, missing


def _fact(name: str, value: str) -> Facts:
    """A cell of a table as a number where it is one, else as a word; none where it is empty."""
    if not value:
        return {}
    try:
        return {name: float(value)}
    except ValueError:
        return {name: value}


def cheap(views: Sequence[View]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features of the cheap rows, each with as many random inner pixels beside it."""
    pixels = np.stack([inner(view.small.astype(float)) for view in views])
    some = np.random.default_rng(0).permutation(pixels.shape[1])
    return {
        f"border of {SIDE} x {SIDE}": (np.stack([border(view.small.astype(float)) for view in views]), pixels),
        "gray levels": (np.stack([view.levels for view in views]).astype(float), pixels[:, some[:LEVELS]]),
        "thumbnail": (np.stack([v.thumb for v in views]).astype(float), pixels[:, some[: len(views[0].thumb)]]),
    }


def groupings(items: Sequence[Item], joined: Sequence[Item]) -> dict[str, list[str]]:
    """The groups under each grouping, as far as they differ."""
    found = {UNGROUPED: [str(number) for number in range(len(items))]}
    for name, of in ((GROUPED.format(unit(items) or "file"), items), (JOINED, joined)):
        groups = [item.group for item in of]
        if _partition(groups) != _partition(list(found.values())[-1]):
            found[name] = groups
    return found


def _partition(groups: Sequence[str]) -> list[int]:
    first: dict[str, int] = {}
    return [first.setdefault(group, number) for number, group in enumerate(groups)]


def scored(
    name: str,
    x: np.ndarray,
    target: Target,
    groups: Mapping[str, Sequence[str]],
    tissue: bool,
    beside: np.ndarray | None = None,
) -> Row:
    """A row's scores under each grouping."""
    scores = {}
    for grouping, of in groups.items():
        folds = folds_of(target, of)
        predicted = predictions(x, target, folds)
        scores[grouping], samples = estimate(predicted, target, folds, of)
    other = None if beside is None else estimate(predictions(beside, target, folds), target, folds, of)[0]
    return Row(name, tissue, x.shape[1], scores, other, predicted=predicted, samples=samples)


def tested(
    rows: Mapping[str, np.ndarray],
    target: Target,
    groups: Mapping[str, Sequence[str]],
    expected: Collection[str],
    draws: int,
    seed: int,
    progress: bool = False,
) -> tuple[list[Row], str]:
    """The no-tissue rows with their adjusted p, and how the permutations were drawn.

    Raises:
        DataError: if `expected` names a row that there is not.
    """
    if unknown := set(expected) - set(rows):
        raise DataError(f"--expected {', '.join(sorted(unknown))}: no such row; there are {', '.join(rows)}")
    strictest = list(groups.values())[-1]
    numbers = not target.classes
    alike, how = permutation_test(rows, target.y, strictest, draws, seed, numbers=numbers, progress=progress)
    found = [
        replace(scored(name, x, target, groups, False), tested=alike[name], expected=name in expected)
        for name, x in tqdm(rows.items(), "scoring", unit="row", disable=not progress)
    ]
    return found, how


def row_findings(rows: Sequence[Row], target: Target) -> list[Finding]:
    """A finding for each no-tissue row that alarms."""
    what = "the class" if target.classes else "the number"
    return [
        Finding(
            f"tells:{row.name}",
            f"{row.name} tells {what}: {shown(row.score, target)}, adjusted p {rounded(row.tested.adjusted)}",
            True,
        )
        for row in rows
        if row.tested and row.alarms(target.chance)
    ]


def shown(score: Estimate, target: Target) -> str:
    """A score in words, as "balanced accuracy 0.69 [0.57, 0.80], chance 0.33"."""
    told = with_interval({"value": score.value, "low": score.low, "high": score.high}, 2)
    if target.classes:
        return f"balanced accuracy {told}, chance {target.chance:.2f}"
    return f"R² {told}, mean absolute error {score.error:.3g} against {score.level:.3g} for the mean"


def coded(scanners: Sequence[Facts]) -> list[Facts]:
    """Facts of scanners with institution, station and serial number as A, B, C, the most frequent first."""
    codes = {}
    for name in CODED:
        counts = Counter(str(of[name]) for of in scanners if name in of)
        codes[name] = {word: _letter(number) for number, (word, _) in enumerate(counts.most_common())}
    return [{name: codes[name][str(v)] if name in codes else v for name, v in of.items()} for of in scanners]


def _letter(number: int) -> str:
    """A, B, .. Z, A1, B1 .."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")
