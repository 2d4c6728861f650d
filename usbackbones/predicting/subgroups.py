"""Subgroups of an external set: the values of columns of its table, and the headline metric of each."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from usbackbones.clips.files import real
from usbackbones.data.item import DataError
from usbackbones.data.table import read_table

Measure = Callable[[np.ndarray], Mapping[str, float]]
"""From the places of a subgroup to {"value", "low", "high"} of the headline metric."""


def columns_of(data: Path, names: Sequence[str], key: str) -> dict[str, dict[Path, str]]:
    """The value of each file, named in the column `key`, in some columns of a table: {column: {path: value}}.

    Raises:
        DataError: if the data are no table, or it lacks a column.
    """
    if names and data.is_dir():
        raise DataError(f"--by {names[0]} needs a CSV with that column; {data} is a folder")
    rows = read_table(data, {key, *names}) if names else []
    return {
        name: {real(data.parent / row[key].strip()): (row[name] or "").strip() or "(empty)" for row in rows}
        for name in names
    }


def subgroups(
    columns: Mapping[str, Mapping[Path, str]], files: Sequence[Path], groups: np.ndarray, kind: str, measure: Measure
) -> dict[str, dict[str, dict[str, float]]]:
    """{column: {value: {kind, "groups", "value", "low", "high"}}} of the headline; `kind` is "clips" or "images".

    `files` and `groups` [N] are those that were evaluated.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, values in columns.items():
        own = np.array([values[real(file)] for file in files])
        found[name] = {}
        for value in sorted(set(own)):
            places = np.flatnonzero(own == value)
            counts = {kind: len(places), "groups": len(set(groups[places]))}
            found[name][str(value)] = counts | dict(measure(places))
    return found
