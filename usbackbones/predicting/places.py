"""Where a run writes: under which names, what it refuses to write over, and what an earlier run has written."""

import json
from dataclasses import dataclass
from pathlib import Path

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
    def of(cls, out: Path, folder_only: bool, overwrite: bool) -> "Places":
        """The places of an output.

        Args:
            out: a .csv or .parquet file, or a folder.
            folder_only: the model writes masks, which need a folder.
            overwrite: what stands under these names may be replaced.

        Raises:
            PredictError: if something else stands there, or the form cannot be written.
        """
        if out.suffix.lower() in TABLES:
            if folder_only:
                raise PredictError(f"-o {out}: a segmenter writes masks; give a folder")
            if out.is_dir():
                raise PredictError(f"-o {out} is a folder with the name of a table; give another name")
            if out.suffix.lower() == ".parquet":
                _require_pyarrow()
            about = out.with_name(f"{out.stem}.about.json")
            places = cls(out, out.with_name(f"{out.stem}.clips{out.suffix}"), about, out.with_name(f".{out.name}.part"))
        else:
            if out.exists() and not out.is_dir():
                raise PredictError(f"-o {out} is a file; give a folder, or a name that ends in {' or '.join(TABLES)}")
            places = cls(out / "predictions.csv", out / "clips.csv", out / "about.json", out / UNFINISHED)
        taken = [file for file in (places.frames, places.clips, places.about) if file.exists()]
        if not taken and out.is_dir():
            taken = sorted(entry for entry in out.iterdir() if entry != places.unfinished)
        if taken and not overwrite and not places.unfinished.is_dir():
            raise PredictError(f"{taken[0]} is there already: give another -o, or --overwrite")
        return places


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
