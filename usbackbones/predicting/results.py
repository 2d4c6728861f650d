"""The files of an evaluation: metrics.json, and predictions.csv with a row a clip."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from usbackbones._files import atomic_write
from usbackbones._version import __version__
from usbackbones.data.item import Item
from usbackbones.predicting.trained import Trained

if TYPE_CHECKING:
    from usbackbones.predicting.evaluate import Evaluated


def write_results(
    done: "Evaluated",
    trained: Trained,
    items: Sequence[Item],
    numbers: np.ndarray,
    y: np.ndarray,
    probability: np.ndarray,
    groups: np.ndarray,
    command: str,
) -> None:
    """Write metrics.json and predictions.csv, a row a clip."""
    content = {
        "usbackbones": __version__,
        "command": command,
        "weights_sha256": trained.sha256,
        "weights_license": trained.license,
        "classes": list(trained.classes),
        "a group is": done.unit or "a file, since nothing tells patients apart",
        "metrics": done.metrics,
        "rates": done.rates,
        "threshold": done.threshold,
        "subgroups": done.subgroups,
        "counts": done.counts,
        "notes": done.notes,
        "skipped": done.skipped,
    }
    with atomic_write(done.folder / "metrics.json", "w", encoding="utf-8") as stream:
        json.dump(_finite(content), stream, indent=1)
    with atomic_write(done.folder / "predictions.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "group", "label", "prediction", *(f"prob_{name}" for name in trained.classes)])
        for number, label, row, group in zip(numbers, y, probability, groups, strict=True):
            predicted = trained.classes[int(row.argmax())]
            shown = (f"{p:.6f}" for p in row)
            writer.writerow([items[number].path, group, trained.classes[label], predicted, *shown])


def _finite(content: Any) -> Any:
    """The same for JSON, which has no word for NaN: None in its place."""
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    return None if isinstance(content, float) and not math.isfinite(content) else content
