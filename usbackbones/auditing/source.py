"""Sources held out: the backbone with patients held out beside sources held out, and its score where a cue is right.

A source is a clinic or a scanner. Where nobody names it, files of one container, frame size and scanner are one.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from usbackbones.auditing.estimate import FOLDS, Estimate, Target, estimate, predictions
from usbackbones.auditing.look import Seen
from usbackbones.auditing.rows import Row
from usbackbones.metrics.resampling import interval

LEAST = 3
"""Sources without which none can be held out."""


@dataclass(frozen=True)
class Held:
    """The backbone under two ways of holding out.

    Attributes:
        sources: number of them.
        by_patient, by_source: scores on the same files.
        difference, low, high: by source less by patient, paired over patients.
    """

    sources: int
    by_patient: Estimate
    by_source: Estimate
    difference: float
    low: float
    high: float


def clusters(seen: Sequence[Seen]) -> list[str]:
    """The source of each file by container, frame size, sector and scanner; rare ones count as one."""
    keys = []
    for one in seen:
        facts = one.container | one.geometry | one.scanner
        sector = one.screen.sector.get("kind") if one.screen else None
        names = ("format", "codec", "tables", "height", "width", "Manufacturer", "ManufacturerModelName", "StationName")
        keys.append(repr([facts.get(name) for name in names] + [sector]))
    counts = Counter(keys)
    return [key if counts[key] > 1 else "one of its kind" for key in keys]


def source_held_out(
    x: np.ndarray, target: Target, row: Row, groups: Sequence[str], sources: Sequence[str]
) -> Held | None:
    """Score the backbone's features [N, D] with whole sources held out, beside its row with patients held out.

    A patient whose files are of several sources joins them, so that no patient is divided; twins are in one group.
    None where there are fewer than `LEAST` sources.
    """
    whole = joined_sources(groups, sources)
    counts = Counter(whole)
    if len(counts) < LEAST:
        return None
    fold_of, filled = {}, np.zeros(min(FOLDS, len(counts)), int)
    for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        fold_of[name] = int(filled.argmin())
        filled[fold_of[name]] += count
    fold = np.array([fold_of[name] for name in whole])
    folds = [[np.flatnonzero(fold == number) for number in range(len(filled))]]
    score, samples = estimate(predictions(x, target, folds), target, folds, groups)
    low, high = interval(samples - row.samples)
    return Held(len(counts), row.score, score, score.value - row.score.value, low, high)


def joined_sources(groups: Sequence[str], sources: Sequence[str]) -> list[str]:
    """The sources, those that share a patient taken for one, named after the alphabetically first."""
    from usbackbones.data.near_duplicates import joined_groups

    of_group = defaultdict(set)
    for group, source in zip(groups, sources, strict=True):
        of_group[group].add(source)
    pairs = [(min(of), other) for of in of_group.values() for other in of]
    leader = joined_groups(sources, pairs)
    return [leader[source] for source in sources]


def where_cue_is_right(backbone: Row, cue: Row, target: Target) -> dict[str, Any]:
    """Accuracy of the backbone on files that the cue's row gets right, and on those that it gets wrong.

    Both are means over repeats of the share of files that are right, unweighted; classes only.
    """
    right = backbone.predicted == target.y
    cue_right = cue.predicted == target.y
    told = {}
    for name, where in (("cue right", cue_right), ("cue wrong", ~cue_right)):
        told[name] = {
            "share of files": float(where.mean()),
            "accuracy": float(right[where].mean()) if where.any() else None,
        }
    return {"cue": cue.name, **told}
