"""Sections about features: maps by class and by group, and the nearest frames of other groups."""

from collections.abc import Sequence

import numpy as np

from usbackbones._evenly import evenly
from usbackbones._words import percent
from usbackbones.report.images import figure
from usbackbones.report.kinds import Features, Section
from usbackbones.report.markup import Markup, element
from usbackbones.report.plots import scatter

POINTS = 1200
"""Most points of a map; more are drawn from evenly, or the file grows and nothing more is seen."""
QUERIES, NEIGHBORS = 8, 5


def sections(features: Features, pictures: bool) -> list[Section]:
    """A map of the features, and what their neighbours are; frames and names only with `pictures`."""
    if len(features.x) < 3:
        return []
    label = _labels(features)
    near = nearest(np.asarray(features.x, np.float64), np.asarray(features.group, dtype=str), NEIGHBORS)
    found = [
        maps_section(features, pictures),
        Section("Neighbors", _agreement(label, near), _NEIGHBOR_NOTE.format(features.unit)),
    ]
    if features.frame is not None:
        found.append(
            Section(
                "Nearest frames",
                _gallery(features, near, label),
                _GALLERY_NOTE.format(features.unit),
                shows_patients=True,
            )
        )
    return found


def maps_section(features: Features, pictures: bool, heading: str = "Map of the features") -> Section:
    """Two maps of the same points, colored by class and by group."""
    group = shown_names(features.group, features.unit, pictures)
    clip = shown_names(features.clip, "clip", pictures)
    maps = _maps(np.asarray(features.x, np.float64), _labels(features), group, clip, features.unit)
    return Section(heading, maps, _MAP_NOTE.format(features.unit))


def _labels(features: Features) -> list[str]:
    return [str(name) or "unknown" for name in features.label]


_MAP_NOTE = (
    "Each point is a frame. Classes that lie apart are easy to tell apart; where {}s lie apart inside a class, the "
    "features tell scanners or patients as well."
)
_NEIGHBOR_NOTE = (
    "The most similar frames of other {}s, by the cosine less the mean. What chance gives is the share of the class "
    "among all frames."
)
_GALLERY_NOTE = "In front a frame, beside it the most similar ones of other {}s, the nearest first."


def pca(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two directions of largest variance: (scores float [N, 2], share of the variance [2]).

    Signs are such that the largest entry of a direction is positive, so that a picture does not flip between runs.
    """
    centered = x - x.mean(0)
    u, s, vt = np.linalg.svd(centered, full_matrices=False)
    sign = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(1)])[:2]
    scores, share = u[:, :2] * s[:2] * sign, np.square(s[:2]) / max(np.square(s).sum(), 1e-300)
    missing = 2 - scores.shape[1]
    return np.pad(scores, ((0, 0), (0, missing))), np.pad(share, (0, missing))


def nearest(x: np.ndarray, group: np.ndarray, k: int) -> np.ndarray:
    """Int [N, k]: for each row the most similar rows of other groups, -1 where there are fewer.

    Similarity is the cosine after the mean of all rows is taken off, as in `usbackbones.probing.probes.knn_predict`.
    """
    centered = x - x.mean(0)
    unit = centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    _, of = np.unique(group, return_inverse=True)
    found = np.full((len(x), k), -1)
    for start in range(0, len(x), 512):
        rows = slice(start, start + 512)
        similar = unit[rows] @ unit.T
        similar[of[rows, None] == of] = -np.inf
        order = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        is_other = np.isfinite(np.take_along_axis(similar, order, 1))
        found[rows, : order.shape[1]] = np.where(is_other, order, -1)
    return found


def shown_names(names: Sequence[str] | np.ndarray, what: str, open_: bool) -> list[str]:
    """The names as they are, or, unless `open_`, as numbers in the order in which they first come: "group 3"."""
    plain = [str(name) for name in names]
    if open_:
        return plain
    number = {name: place for place, name in enumerate(dict.fromkeys(plain), start=1)}
    return [f"{what} {number[name]}" for name in plain]


def _maps(x: np.ndarray, label: list[str], group: list[str], clip: list[str], unit: str) -> Markup:
    """Two maps side by side, of the same points: by class, and by group, a `unit`; UMAP's below where it is there."""
    rows = evenly(len(x), POINTS)
    places, share = pca(x)
    names = (f"first direction, {share[0]:.0%} of the variance", f"second direction, {share[1]:.0%}")
    drawn = [("PCA", places, names)]
    if (other := umap(x[rows])) is not None:
        whole = np.zeros((len(x), 2))
        whole[rows] = other
        drawn.append(("UMAP", whole, ("", "")))
    titles = [f"{label[row]}, {group[row]}, {clip[row]}" for row in rows]
    figures = []
    for method, points, axes in drawn:
        for what, kinds in (("class", label), (unit, group)):
            told = f"{method} of {len(rows)} frames by {what}"
            plot = scatter(points[rows], [kinds[row] for row in rows], titles, told, axes)
            figures.append(element("figure", element("h3", f"{method} by {what}"), plot))
    return element("div", *figures, class_="row")


def umap(x: np.ndarray) -> np.ndarray | None:
    """UMAP's map float [N, 2] where the package umap-learn is installed and there is something to map."""
    try:
        from umap import UMAP
    except ImportError:
        return None
    return UMAP(random_state=0, n_neighbors=min(15, len(x) - 1)).fit_transform(x) if len(x) > 10 else None


def _agreement(label: list[str], near: np.ndarray) -> Markup:
    """For each class: how often the neighbours are of it, and how often chance would make them so."""
    from usbackbones.report.markup import table

    names = np.asarray(label)
    rows = []
    for name in sorted(set(label)):
        mine = names == name
        valid = near[mine] >= 0
        hits = (names[near[mine]] == name) & valid
        first, all_of_them = hits[:, 0].sum() / max(valid[:, 0].sum(), 1), hits.sum() / max(valid.sum(), 1)
        rows.append([name, str(int(mine.sum())), percent(first), percent(all_of_them), percent(mine.mean())])
    header = ["class", "frames", "nearest is of it", f"of the {near.shape[1]} nearest", "by chance"]
    return table(header, rows, "Neighbors of the same class")


def _gallery(features: Features, near: np.ndarray, label: list[str]) -> Markup:
    """Some frames, spread over the classes, each with its neighbours."""
    assert features.frame is not None
    by_class: dict[str, list[int]] = {}
    for row, name in enumerate(label):
        by_class.setdefault(name, []).append(row)
    each = max(1, QUERIES // len(by_class))
    chosen = [rows[i] for rows in by_class.values() for i in evenly(len(rows), each)]
    blocks = []
    for row in chosen[: 2 * QUERIES]:
        figures = [figure(f"{label[row]}: {features.clip[row]}", features.frame(row), "first")]
        figures += [
            figure(f"{label[other]}: {features.clip[other]}", features.frame(other))
            for other in near[row]
            if other >= 0
        ]
        blocks.append(element("div", *figures, class_="gallery query"))
    return element("div", *blocks)
