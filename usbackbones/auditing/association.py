"""Association of single facts of files with the classes: Bergsma-corrected Cramér V, counted over patients."""

from collections.abc import Mapping, Sequence

import numpy as np

from usbackbones.data.item import Item
from usbackbones.features.shortcuts import Facts

BINS = 4
"""A number with more values than this is cut into this many bins of about equally many files."""


def corrected_v(table: np.ndarray) -> float:
    """Cramér's V of a table of counts [R, C] with the bias correction of Bergsma (2013); 0 where there is no freedom.

    phi² = chi² / n is lowered by its expectation under independence, (r - 1)(c - 1) / (n - 1), and the numbers of rows
    and columns are lowered alike, so that many rare categories do not look like an association.
    """
    table = np.asarray(table, float)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    n, (r, c) = table.sum(), table.shape
    if min(r, c) < 2 or n < 2:
        return 0.0
    expected = np.outer(table.sum(1), table.sum(0)) / n
    phi = (np.square(table - expected) / expected).sum() / n
    excess = max(0.0, phi - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    return float(np.sqrt(excess / max(min(rows, columns) - 1, 1e-12))) if excess else 0.0


def associations(facts: Mapping[str, Sequence[Facts]], items: Sequence[Item]) -> list[dict[str, float | int | str]]:
    """V between each fact of `facts`, of each file by family, and the class, the largest first.

    A patient counts once for each pair of fact and class that it has, so that a long series weighs no more than a
    single image.
    """
    found: list[dict[str, float | int | str]] = []
    for family, of_files in facts.items():
        for name in sorted({name for of in of_files for name in of}):
            words = _words([of.get(name) for of in of_files])
            cells = {(item.group, word, item.label) for item, word in zip(items, words, strict=True)}
            kinds, labels = sorted({word for _, word, _ in cells}), sorted({label for _, _, label in cells})
            table = np.zeros((len(kinds), len(labels)))
            for _, word, label in cells:
                table[kinds.index(word), labels.index(label)] += 1
            if len(kinds) > 1:
                row: dict[str, float | int | str] = {"family": family, "fact": name, "values": len(kinds)}
                found.append(row | {"v": round(corrected_v(table), 4)})
    return sorted(found, key=lambda row: -float(row["v"]))


def _words(values: Sequence[float | str | None]) -> list[str]:
    """Values as categories; numbers of many values in bins."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(set(numbers)) <= BINS:
        return ["none" if value is None else str(value) for value in values]
    edges = np.quantile(numbers, np.arange(1, BINS) / BINS)
    return [
        "none" if value is None else value if isinstance(value, str) else f"bin {int(np.searchsorted(edges, value))}"
        for value in values
    ]
