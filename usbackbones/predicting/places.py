"""Where a run writes: under which names, what it refuses to write over, and what an earlier run has written."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usbackbones.predicting.trained import PredictError

TABLES = (".csv", ".parquet")
UNFINISHED = ".part"
"""Folder in a run's folder that keeps its rows until it is whole."""
SETTINGS = "settings.json"
_IMAGES = ("masks", "overlays", "overlay.png", "legend.png")


@dataclass(frozen=True)
class Places:
    """The files of a prediction run.

    Attributes:
        frames: the table with a row a frame.
        clips: the table with a row a clip.
        about: the record of model, version and command.
        unfinished: the folder that keeps the rows until the run is whole.
    """

    frames: Path
    clips: Path
    about: Path
    unfinished: Path

    @classmethod
    def of(cls, out: Path, folder_only: bool) -> "Places":
        """The places of an output.

        Args:
            out: a .csv or .parquet file, or a folder.
            folder_only: the model writes masks, which need a folder.

        Raises:
            PredictError: if the form cannot be written.
        """
        if out.suffix.lower() in TABLES:
            if folder_only:
                raise PredictError(f"-o {out}: a segmenter writes masks; give a folder")
            if out.is_dir():
                raise PredictError(f"-o {out} is a folder with the name of a table; give another name")
            if out.suffix.lower() == ".parquet":
                _require_pyarrow()
            about = out.with_name(f"{out.stem}.about.json")
            return cls(out, out.with_name(f"{out.stem}.clips{out.suffix}"), about, out.with_name(f".{out.name}.part"))
        if out.exists() and not out.is_dir():
            raise PredictError(f"-o {out} is a file; give a folder, or a name that ends in {' or '.join(TABLES)}")
        return cls(out / "predictions.csv", out / "clips.csv", out / "about.json", out / UNFINISHED)

    def finished(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What about.json says of a whole run of these settings; empty where there is none."""
        if self.unfinished.is_dir() or not all(file.is_file() for file in (self.frames, self.clips, self.about)):
            return {}
        try:
            told = json.loads(self.about.read_text(encoding="utf-8"))
        except ValueError:
            return {}
        return told if isinstance(told, dict) and told.get("settings") == settings else {}

    def claim(self, settings: Mapping[str, Any], overwrite: bool) -> None:
        """Make the places free for a run; one of the same settings that was interrupted goes on.

        Args:
            settings: what decides the rows.
            overwrite: what an earlier run wrote, finished or not, may be replaced; its masks and overlays are removed.

        Raises:
            PredictError: if something else stands there.
        """
        begun = self.unfinished / SETTINGS
        if begun.is_file():
            told = json.loads(begun.read_text(encoding="utf-8"))
            other = sorted(key for key in settings.keys() | told.keys() if settings.get(key) != told.get(key))
            if not other:
                return
            if not overwrite:
                raise PredictError(
                    f"{self.unfinished} holds an unfinished run of other clips or settings ({', '.join(other)} differ)"
                    ": give the command of that run again to go on with it, --overwrite to start over, or another -o"
                )
            shutil.rmtree(self.unfinished)
        out = self.frames.parent if self.unfinished.name == UNFINISHED else None
        taken = [file for file in (self.frames, self.clips, self.about) if file.exists()]
        if not taken and out and out.is_dir():
            taken = sorted(entry for entry in out.iterdir() if entry != self.unfinished)
        if taken and not overwrite and not self.unfinished.is_dir():
            raise PredictError(f"{taken[0]} is there already: give another -o, or --overwrite")
        if out and self.about.is_file() and _is_run(out):  # only what a run of ours has written
            for name in ("masks", "overlays"):
                shutil.rmtree(out / name, ignore_errors=True)


def is_written_by_us(file: Path, below: Path) -> bool:
    """Whether an image below a folder is a mask, overlay or legend of a run of predict, evaluate or segment."""
    parts = file.relative_to(below).parts
    return any(part in _IMAGES and _is_run(below.joinpath(*parts[:place])) for place, part in enumerate(parts))


def _is_run(folder: Path) -> bool:
    """Whether a folder is one of those runs, finished or not."""
    if (folder / UNFINISHED / SETTINGS).is_file():
        return True
    for file, key in (("about.json", "weights_sha256"), ("metrics.json", "weights_sha256"), ("run.json", "command")):
        try:
            if key in json.loads((folder / file).read_text(encoding="utf-8")):
                return True
        except (OSError, ValueError, TypeError):
            continue
    return False


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise PredictError("Parquet needs pyarrow: pip install 'usbackbones[parquet]', or write .csv") from error
