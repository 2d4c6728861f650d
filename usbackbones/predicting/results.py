"""The files of an evaluation: metrics.json, and predictions.csv with a row a clip or image."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from usbackbones._files import atomic_write, finite
from usbackbones._version import __version__
from usbackbones.predicting.trained import Trained

if TYPE_CHECKING:
    from usbackbones.predicting.evaluate import Evaluated


def write_results(
    done: "Evaluated", trained: Trained, header: Sequence[str], rows: Iterable[Sequence[object]], command: str
) -> None:
    """Write metrics.json and predictions.csv."""
    told = {one.name: getattr(done, one.name) for one in fields(done) if one.name not in ("folder", "license")}
    content = {
        "usbackbones": __version__,
        "command": command,
        **trained.about(),
        "classes": list(trained.classes),
        "a group is": done.unit or "a file, since nothing tells patients apart",
        **told,
    }
    with atomic_write(done.folder / "metrics.json", "w", encoding="utf-8") as stream:
        json.dump(finite(content), stream, indent=1)
    with atomic_write(done.folder / "predictions.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
