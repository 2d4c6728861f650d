"""Null rows beside a result: what container and geometry of the files tell of the classes, without a single pixel.

Where the paired difference of a result to such a row has an interval that includes 0, the result is told so in a line.
"""

from collections.abc import Sequence

import numpy as np

from usbackbones.data.item import Item
from usbackbones.features.shortcuts import Noticed, encoded
from usbackbones.metrics.levels import bootstrap, by_clip, scores
from usbackbones.metrics.resampling import interval
from usbackbones.probing.probes import linear_predict

Division = tuple[np.ndarray, np.ndarray]
"""Items to fit on and items to evaluate on, int."""


class NullRows(Noticed):
    """What is noticed of the clips of items; give `seen` to `usbackbones.data.frames.Frames`."""

    def line(
        self,
        name: str,
        items: Sequence[Item],
        clip: np.ndarray,
        probability: np.ndarray,
        parts: Sequence[Division],
        seed: int = 0,
    ) -> str:
        """A line about the best null row that a result is not beyond; "" where it is beyond each of them.

        Args:
            name: of the result.
            items: in the order that was read, groups as they were evaluated.
            clip: int [M], the item of each evaluated frame.
            probability: float [M, C] of the result, classes in alphabetical order.
            parts: that the result was evaluated on; every evaluated item in one.
            seed: of the resamples.
        """
        classes = sorted({item.label for item in items})
        label = np.array([classes.index(item.label) for item in items])
        group = np.array([item.group for item in items])
        y, own, groups = by_clip(label[clip], probability, clip, group[clip])
        held = np.unique(clip)
        found = []
        for row, facts in self.facts.items():
            known = np.array(sorted(facts))
            told = encoded([facts[number] for number in known])
            x = np.zeros((len(items), told.shape[1]))
            x[known] = told
            null = np.zeros((len(items), len(classes)))
            for fit, test in parts:
                fit, test = np.intersect1d(fit, known), np.intersect1d(test, held)
                if len(test):
                    null[test] = linear_predict(x[fit], label[fit], group[fit], x[test], classes=len(classes))[0]
            drawn = [bootstrap(y, [p], groups, seed=seed)["balanced_accuracy"] for p in (own, null[held])]
            value, of_null = (scores(y, p, held, groups)["clip"]["balanced_accuracy"] for p in (own, null[held]))
            low, high = interval(drawn[0] - drawn[1])
            if not low > 0:  # nor where there is no interval
                found.append((of_null, row, value - of_null, low, high))
        if not found:
            return ""
        of_null, row, difference, low, high = max(found)
        brackets = f"[{low:+.3f}, {high:+.3f}]" if np.isfinite(low) else "(no interval)"
        return (
            f"{row} alone, without a pixel, has a balanced accuracy by clip of {of_null:.3f}; {name} is "
            f"{difference:+.3f} {brackets} beside it, no proven gain: see usbackbones audit"
        )


def division_of(items: Sequence[Item]) -> Division:
    """The items of all other parts, to fit on, and those of the test part."""
    test = np.array([item.part == "test" for item in items])
    return np.flatnonzero(~test), np.flatnonzero(test)
