"""Few labels: how a probe does when only some groups of each class are labelled.

Shots count groups (patients), since the frames of one patient are near copies of each other. "5" is five groups of each
class, "10%" a tenth of each class's groups, at least one. Every draw is repeated with other groups, because with so few
the draw matters more than the weights.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from usbackbones.data.splits import group_labels
from usbackbones.metrics.resampling import Ids
from usbackbones.probing.probes import knn_predict, linear_predict

SHOTS = ("1", "5", "10", "1%", "10%", "100%")


def labeled_rows(y: np.ndarray, groups: Ids, shots: str, seed: int) -> np.ndarray:
    """The rows of the groups that are labelled, int, sorted.

    Args:
        y: int [N]; a group counts under its commonest label.
        groups: [N].
        shots: a number of groups of each class, or a percentage of them, rounded up. A class that has fewer gives all.
        seed: of the draw; the same seed gives the same groups whatever the order of the rows.

    Raises:
        ValueError: if shots is neither.
    """
    labels = group_labels([str(group) for group in groups], [str(label) for label in y])
    generator = np.random.default_rng(seed)
    chosen: set[str] = set()
    for label in sorted(set(labels.values())):
        names = [group for group, its in labels.items() if its == label]
        chosen.update(generator.permutation(names)[: _count(shots, len(names))].tolist())
    return np.flatnonzero([str(group) in chosen for group in groups])


def _count(shots: str, available: int) -> int:
    number = shots.removesuffix("%")
    if not number.isdigit() or int(number) < 1 or (number != shots and int(number) > 100):
        raise ValueError(f"shots {shots!r}: give a number of groups, as 5, or a percentage of them, as 10%")
    return min(int(number), available) if number == shots else max(1, -(-int(number) * available // 100))


def few_shot_predict(
    train_x: np.ndarray,
    train_y: np.ndarray,
    train_groups: Ids,
    test_x: np.ndarray,
    train_clips: Ids | None = None,
    shots: Sequence[str] = SHOTS,
    repeats: int = 5,
    classes: int | None = None,
    seed: int = 0,
) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Fit kNN and the linear probe on a few labelled groups, for every number of shots and every repeat.

    Two models that are given the same rows and seed meet the same groups, so their difference is paired.

    Args:
        train_x: float [N, D].
        train_y: int [N].
        train_groups: [N].
        test_x: float [M, D].
        train_clips: [N], see `probe.balanced_weights`.
        shots: see `labeled_rows`.
        repeats: draws of each; all groups are drawn once.
        classes: number of columns.
        seed: of the first draw.

    Yields:
        (shots, repeat, kNN's probabilities [M, C], the linear probe's [M, C]).
    """
    groups = np.asarray(train_groups)
    clips = None if train_clips is None else np.asarray(train_clips)
    classes = classes or int(train_y.max()) + 1
    for shot in shots:
        for repeat in range(1 if shot == "100%" else repeats):
            rows = labeled_rows(train_y, groups, shot, seed + repeat)
            x, y = train_x[rows], train_y[rows]
            near = knn_predict(x, y, test_x, classes=classes)
            line, _ = linear_predict(
                x, y, groups[rows], test_x, None if clips is None else clips[rows], classes=classes
            )
            yield shot, repeat, near, line
