"""The files of an evaluation: metrics.json, and predictions.csv with a row a clip or image."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from usbackbones._files import write_csv, write_json
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
    write_json(done.folder / "metrics.json", content)
    write_csv(done.folder / "predictions.csv", header, rows)
