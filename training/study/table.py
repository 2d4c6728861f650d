"""Variants of a study, the log of its measurements, and their table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from training.benchmark.markdown import table
from training.recipes import RECIPES, Recipe

LOG = Path(__file__).parent / "studies" / "methods.jsonl"
CONTROL = "simclr"


def _changed(name: str, method: dict[str, Any] | None = None, **augment: Any) -> Recipe:
    """The default recipe of a method with other options or augmentation."""
    recipe = RECIPES[name][1]
    return replace(recipe, method=replace(recipe.method, **method or {}), augment=replace(recipe.augment, **augment))


_METHODS = ("simclr", "clip_pair", "uscl", "meta_uscl", "hico", "awcl")
_GENTLE: dict[str, Any] = {"area": (0.8, 1.0), "brightness": 0.8, "contrast": 0.8}
VARIANTS: dict[str, Recipe] = {
    "random": RECIPES["simclr"][1],
    **{name: RECIPES[name][1] for name in _METHODS},
    **{f"{name}-papers-views": _changed(name, **_GENTLE) for name in _METHODS},
    # Every step with an update of CMW-Net takes three of the others: every fourth is what the released weight did.
    "meta_uscl-every4": _changed("meta_uscl", {"meta_every": 4}),
    "uscl-small": _changed("uscl", area=(0.08, 1.0)),
    "uscl-unlabelled": _changed("uscl", {"label_weight": 0.0}),
    "uscl-sharp": _changed("uscl", {"temperature": 0.1}),
    "uscl-beam": _changed("uscl-ultrasound", area=(0.2, 1.0), aspect=(0.8, 1.25)),
    "uscl-even": replace(RECIPES["uscl"][1], draw="even"),
    **{f"uscl-{size}px": _changed("uscl", size=size) for size in (64, 128, 160, 224)},
}
"""The recipe of each; "random" is only told how large its input is. A study sets seed and steps for all alike."""


@dataclass(frozen=True)
class Record:
    """One run of a study.

    Attributes:
        variant: of `VARIANTS`.
        sources: the datasets that it was trained on.
        steps: of the run.
        seed: of the run.
        fold: which third of the groups was held out.
        px: side of the frames that it was evaluated on.
        found: {task: {probe: {level: value}}} on the groups held out.
    """

    variant: str
    sources: tuple[str, ...]
    steps: int
    seed: int
    fold: int
    px: int
    found: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it the same measurement."""
        return self.variant, self.sources, self.steps, self.seed, self.fold, self.px

    def told(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """A line of the log."""
        return vars(self) | {"found": found}


def read_log(log: Path) -> list[Record]:
    """The measurements of a log, none where there is no log yet."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [Record(**{**record, "sources": tuple(record["sources"])}) for record in map(json.loads, lines)]


def _score(found: Mapping[str, Any]) -> float | None:
    """The number of a task that stands in the table: the linear probe on clips, or the error in mm of ridge."""
    if "linear" in found:
        return float(found["linear"]["clip"])
    return float(found["ridge"]["frame"]) if "ridge" in found else None


def study_table(log: Path = LOG) -> str:
    """The log as Markdown: a row a variant, for each task the mean over runs, and below it the paired difference.

    A difference is taken to the control of the same datasets, length, seed, fold and size; its interval is Student's at
    95 % over those pairs, and is left out where there is one pair alone.
    """
    records = read_log(log)
    tasks = list(dict.fromkeys(task for record in records for task in record.found))
    rows: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        rows.setdefault((record.px, record.sources, record.steps, record.variant), []).append(record)
    by_key = {record.key: record for record in records}
    heads = [f"{task} (mm)" if task == "hc18" else task for task in tasks]
    shown = []
    for (px, sources, steps, variant), members in sorted(rows.items()):
        cells = [_cell(task, members, by_key) for task in tasks]
        trained_on = ", ".join(sources) or "nothing"
        shown.append([variant, trained_on, str(steps), f"{px} px", str(len(members)), *cells])
    return "\n".join(table(["variant", "trained on", "steps", "evaluated at", "runs", *heads], shown))


def _cell(task: str, members: Sequence[Record], by_key: Mapping[tuple[Any, ...], Record]) -> str:
    """Mean over runs, of how many where not all have the task, then the mean paired difference with its interval."""
    values, differences = [], []
    for record in members:
        value = _score(record.found.get(task, {}))
        if value is None:
            continue
        values.append(value)
        control = by_key.get((CONTROL, *record.key[1:]))
        other = _score(control.found.get(task, {})) if control else None
        if other is not None and record.variant != CONTROL:
            differences.append(value - other)
    if not values:
        return "not run"
    text = f"{np.mean(values):.2f}" + f" of {len(values)}" * (len(values) < len(members))
    if len(differences) > 1:
        error = t.ppf(0.975, len(differences) - 1) * np.std(differences, ddof=1) / len(differences) ** 0.5
        text += f" ({np.mean(differences):+.2f} ± {error:.2f})"
    return text
