"""Result of an audit, and audit.json."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from usbackbones._version import __version__
from usbackbones.auditing.estimate import Target
from usbackbones.auditing.findings import Finding
from usbackbones.auditing.rows import Row


@dataclass
class Audited:
    """Result of an audit.

    Attributes:
        folder: that it was written to.
        counts: files, patients, what tells patients apart, and files and patients of each class, if there are classes;
            "unit" is what a group is, "patient" or "group", and "" where nobody tells: then patients are None.
        findings: the serious ones first.
        rows: no-tissue rows, then cheap ones.
        target: what was to be told; None without labels.
        how: the permutations were drawn.
        associations: of single facts with the class.
        sources: the backbone with sources held out; empty where it was not run.
        privacy: files by what was noticed.
        detectors: files with text and with calipers; sensitivity and specificity where the table labels them.
        missing: what was not run, and why.
        written: names of the files in the folder.
        notes: of the readers.
    """

    folder: Path
    counts: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    target: Target | None = None
    how: str = ""
    associations: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, Any] = field(default_factory=dict)
    privacy: dict[str, int] = field(default_factory=dict)
    detectors: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def serious(self) -> list[Finding]:
        """Serious findings that no baseline accepts."""
        return [one for one in self.findings if one.serious and not one.accepted]


def as_json(done: Audited, data: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything that an audit found, as audit.json holds it."""
    chance = done.target.chance if done.target else None
    of_rows = [
        {
            "name": row.name,
            "family": "cheap" if row.tissue else "no tissue",
            "features": row.features,
            "scores": {grouping: asdict(score) for grouping, score in row.scores.items()},
            "inner pixels": asdict(row.beside) if row.beside else None,
            "test": asdict(row.tested) if row.tested else None,
            "expected": row.expected,
        }
        for row in done.rows
    ]
    found = {
        key: getattr(done, key) for key in ("counts", "associations", "sources", "privacy", "detectors", "missing")
    }
    return {
        "usbackbones": __version__,
        "data": str(data.resolve()),
        "settings": settings,
        "findings": [asdict(one) for one in done.findings],
        "chance": chance,
        "permutations": done.how,
        "rows": of_rows,
        **found,
        "notes": [re.split(r": |, as ", line)[0] for line in done.notes],  # what follows may be names of files
    }
