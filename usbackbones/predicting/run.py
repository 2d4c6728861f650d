"""Predict new clips with a trained model: one row a frame, one a clip, and masks where the model draws them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from usbackbones._version import __version__
from usbackbones.clips.cleaned import cleaned_frames
from usbackbones.clips.patient import patient_of
from usbackbones.clips.read import ClipError, read_clip, timed_frames
from usbackbones.data.patients import Note, Notes, silent
from usbackbones.data.seen import Seen
from usbackbones.features.ahead import loaded
from usbackbones.predicting.inputs import Input, read_inputs
from usbackbones.predicting.places import Places
from usbackbones.predicting.rows import Clip, Frame, Predictor
from usbackbones.predicting.tables import Tables
from usbackbones.predicting.trained import PredictError, load_trained

_SYNC = 8
"""After a clip that ends with so many batches of frames since the last one, or a batch of clips, the rows count."""
_MOST_WARNINGS = 100


@dataclass(frozen=True)
class Predicted:
    """Result of a prediction run.

    Attributes:
        frames: the table with a row a frame.
        clips: the table with a row a clip.
        about: the JSON file that says which model, version and command made them.
        predicted: number of clips that were predicted.
        errors: number of clips that could not be read; each has a row that says why.
        calibration: what was done to the probabilities, in a line; empty for numbers and masks.
        warnings: what was odd about clips that were read, a line each, at most 100.
        license: of the weights; empty where their source states none.
        was_finished: the output was there already, of this model, these clips and settings; nothing was computed.
    """

    frames: Path
    clips: Path
    about: Path
    predicted: int
    errors: int
    calibration: str = ""
    warnings: tuple[str, ...] = ()
    license: str = ""
    was_finished: bool = False


def predict(
    model: Path | str,
    paths: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    group_from: str = "",
    size: int | None = None,
    batch: int = 32,
    stride: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    command: str = "",
    note: Note = silent,
) -> Predicted:
    """Predict clips with a model that `finetune` or `segment` trained; the same call goes on after an interruption.

    Where it was finished before and no file has changed since, it computes nothing.

    A clip that cannot be read is a row with its error and does not end the run. Preprocessing is the model folder's.

    Args:
        model: the folder of the trained model, or another name that carries a classifier, see `load_trained`.
        paths: clips, folders, zips of stills, or lists (.txt, .csv); see `predicting.inputs.read_inputs`.
        out: a .csv or .parquet file, beside which NAME.clips.csv and NAME.about.json are written; or a folder, which
            gets predictions.csv, clips.csv, about.json, and masks/, overlays/ and legend.csv from a segmenter.
        group_from: a regular expression that finds the patient or group in a file's name.
        size: side of the input in pixels, if not the training's.
        batch: frames computed at a time.
        stride: every stride-th frame of a clip.
        overwrite: replace what stands under the output's names, masks and overlays of an earlier run included.
        progress: show a bar.
        command: recorded in the output; empty for a call from Python.
        note: gets each line about files that are passed over, besides the record.

    Returns:
        Where the tables are, and how many clips they hold.

    Raises:
        PredictError, DataError: if the model, the paths or the output cannot be used.
    """
    if batch < 1 or stride < 1:
        raise PredictError(f"batch {batch}, stride {stride}: both must be at least 1")
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    trained = load_trained(model, size)
    places = Places.of(Path(out), trained.task == "masks")
    notes = Notes(note)
    inputs = read_inputs(given, group_from, notes)
    calibration = trained.calibration() if trained.task == "classes" else None
    temperature = calibration.temperature if calibration else 1.0
    masks = None
    if trained.task == "masks":
        from usbackbones.predicting.masks import MaskWriter  # smp and scipy, which a classifier does without

        masks = MaskWriter(Path(out), trained)
    predictor = Predictor(trained, temperature, masks)
    names = "\n".join(f"{source.path}\t{source.group}\t{_state(source.path)}" for source in inputs)
    settings = {
        "weights": trained.sha256,
        "size": trained.size,
        "stride": stride,
        "batch": batch,
        "temperature": temperature,
        "version": __version__,
        "inputs": hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest(),
    }
    if before := places.finished(settings):
        errors = before["clips_with_error"]
        return Predicted(
            places.frames, places.clips, places.about, before["clips"] - errors, errors, str(calibration or ""),
            license=trained.license, was_finished=True,
        )  # fmt: skip
    places.claim(settings, overwrite)
    about = {
        "usbackbones": __version__,
        "command": command,
        **trained.about(),
        "task": trained.task,
        "classes": list(trained.classes),
        "size": trained.size,
        "stride": stride,
        "clean": trained.clean,
        "calibration": str(calibration or ""),
        "temperature": temperature,
        "warning": "for research, not a medical device",
        "notes": notes.lines,
        "settings": settings,
    }
    tables = Tables(places.unfinished, settings, *predictor.columns())
    reader = _Reader(stride, trained.seen(), masks is not None, trained.clean)
    try:
        _fill(tables, inputs, predictor, reader, batch, progress)
    finally:
        tables.close()
    if masks:
        masks.write_legend()
    counts = {"clips": tables.done, "clips_with_error": tables.errors}
    tables.finish(places.frames, places.clips, places.about, about | counts)
    return Predicted(
        places.frames,
        places.clips,
        places.about,
        tables.done - tables.errors,
        tables.errors,
        str(calibration or ""),
        tuple(reader.warnings),
        trained.license,
    )


def _state(path: Path) -> str:
    """The size and time of a file, by which a change is noticed; empty where there is none."""
    try:
        told = path.stat()
    except OSError:
        return ""
    return f"{told.st_size} {told.st_mtime_ns}"


class _Reader:
    """Reads clips frame by frame, and what their rows need besides."""

    def __init__(self, stride: int, seen: Seen | None, spacing: bool, clean: bool) -> None:
        self.stride, self.seen, self.spacing, self.clean = stride, seen, spacing, clean
        self.warnings: list[str] = []

    def frames(self, clip: Clip) -> Iterator[Frame]:
        """The frames of a clip; what is wrong with it goes into `clip.error`."""
        source = clip.source
        clip.error = source.fault
        if source.fault:
            return
        try:
            clip.group = source.group or patient_of(source.path) or ""
            if self.spacing:
                clip.spacing = read_clip(source.path, max_frames=1).spacing_mm
            read = cleaned_frames if self.clean else timed_frames
            with closing(read(source.path, stride=self.stride, warn=self._warner(source))) as timed:
                for number, (pixels, seconds) in enumerate(timed):
                    if number == 0 and self.seen:
                        clip.seen = "yes" if self.seen.has(source.path, pixels) else "no"
                    yield Frame(clip, number * self.stride, seconds, pixels)
        except (ClipError, OSError) as error:
            clip.error = " ".join(str(error).split())

    def _warner(self, source: Input) -> Callable[[str], None]:
        def warn(line: str) -> None:
            if len(self.warnings) < _MOST_WARNINGS:
                self.warnings.append(f"{source.path}: {line}")

        return warn


def _fill(
    tables: Tables, inputs: list[Input], predictor: Predictor, reader: _Reader, batch: int, progress: bool
) -> None:
    """Add the rows of all clips from where the tables stand."""
    from tqdm import tqdm

    batches = _batches(inputs[tables.done :], reader, batch)
    read = loaded(batches, lambda part: predictor.read([frame.pixels for frame in part[0]]), predictor.device)
    with tqdm(total=len(inputs), initial=tables.done, unit="clip", disable=not progress, desc="predicting") as bar:
        for (frames, clips), images in read:
            if frames:
                predictor.add_rows(frames, *images)
            if clips:
                tables.add([predictor.clip_rows(clip) for clip in clips])
                bar.update(len(clips))


def _batches(inputs: list[Input], reader: _Reader, batch: int) -> Iterator[tuple[list[Frame], list[Clip]]]:
    """Frames of one clip or of several, and with some of them the clips whose rows now count.

    The last digits of a network's numbers depend on what else is in the batch. So rows count only at points where no
    frame waits, which depend on the inputs alone: a run that was interrupted goes on with the batches of a whole one.
    """
    waiting: list[Frame] = []
    clips: list[Clip] = []
    frames = 0
    for number, source in enumerate(inputs, start=1):
        clips.append(Clip(source))
        for frame in reader.frames(clips[-1]):
            waiting.append(frame)
            frames += 1
            if len(waiting) == batch:
                yield waiting, []
                waiting = []
        if len(clips) == batch or frames >= _SYNC * batch or number == len(inputs):
            yield waiting, clips
            waiting, clips, frames = [], [], 0
