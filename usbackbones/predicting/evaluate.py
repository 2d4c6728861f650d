"""Evaluate a trained model on an external labelled set; nothing is trained, and nothing is chosen on its labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from usbackbones._run_folder import require_writable
from usbackbones._words import plural
from usbackbones.predicting.trained import PredictError, Task, load_trained

Numbers = Mapping[str, Mapping[str, float]]
"""{metric: {"value", "low", "high"}}, 95 % intervals over groups."""


@dataclass(frozen=True)
class Evaluated:
    """Result of an evaluation.

    Attributes:
        folder: with metrics.json, predictions.csv and report.html; of a segmenter masks/ and overlay.png as well.
        task: "classes", "number" or "masks".
        headline: the metric of the subgroups: balanced_accuracy, mae or dice.
        metrics: {level: numbers}; levels are frame, clip and patient, of a segmenter image and patient.
        rates: {class: {"sensitivity", "specificity", "ppv", "npv"}} of clips, each {"value", "low", "high", "of"}.
        threshold: {"positive", "value", "fixed_on"}: what the rates of a two-class model rest on; empty for several
            classes, where a clip is taken for the most probable one.
        structures: of a segmenter {structure: numbers}: Dice, and the error of its area.
        subgroups: {column: {value: {"clips" or "images", "groups", "value", "low", "high"}}} of the headline.
        counts: {"clips" or "images", "groups", "seen"}: evaluated, and how many the model was trained on, which is left
            out where its folder does not say.
        notes: what a reader must know, a line each.
        unit: what a group is, "patient" or "group"; "" where nobody tells, and no metric is by patient.
        skipped: clips that could not be read, a line each.
        license: of the weights; empty where their source states none.
    """

    folder: Path
    task: Task
    headline: str
    metrics: Mapping[str, Numbers]
    subgroups: Mapping[str, Numbers]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    unit: str
    skipped: tuple[str, ...] = ()
    rates: Mapping[str, Numbers] = field(default_factory=dict)
    threshold: Mapping[str, Any] = field(default_factory=dict)
    structures: Mapping[str, Numbers] = field(default_factory=dict)
    license: str = ""


def told_seen(seen: int | None, count: int, noun: str) -> list[str]:
    """What a reader must know of those that the model was trained on; `seen` is None where its folder does not say."""
    if seen is None:
        return ["the model's folder does not say what it was trained on: whether these data were in it is not known"]
    many = f"{seen} of {plural(count, noun)} in the model's training, themselves or as near-duplicates"
    return [f"{many}: these numbers are too good; the column seen of predict says which"] if seen else []


@dataclass(frozen=True)
class Asked:
    """What `evaluate` was asked for, see there."""

    data: Path
    out: Path
    group_from: str
    positive: str
    by: tuple[str, ...]
    label: str
    names: Mapping[str, str]
    foreground: str
    classes: str
    resize_masks: Literal["", "nearest"]
    frames_per_clip: int
    batch: int
    seed: int
    pictures: bool
    progress: bool
    command: str


def evaluate(
    model: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    group_from: str = "",
    positive: str = "",
    by: Sequence[str] = (),
    label: str = "label",
    names: Mapping[str, str] | None = None,
    foreground: str = "",
    classes: str = "",
    resize_masks: Literal["", "nearest"] = "",
    frames_per_clip: int = 8,
    size: int | None = None,
    batch: int = 32,
    seed: int = 0,
    pictures: bool = False,
    progress: bool = True,
    command: str = "",
) -> Evaluated:
    """Evaluate a classifier, regressor or segmenter on a labelled set that it was not trained on.

    Args:
        model: the folder that `finetune` or `segment` wrote, or another name that carries a classifier.
        data: for a classifier or regressor a folder of class folders, or a CSV with path and label, as for `finetune`;
            for a segmenter images with masks, as for `segment`.
        out: the folder to write.
        group_from: a regular expression that finds the patient or group in a file's name.
        positive: of two classes the one whose sensitivity is reported; by default the second by name.
        by: columns of the CSV, each for a table of its subgroups.
        label: the column of the CSV that is the label.
        names: {label of the set: class of the model}, where they are called otherwise; "" leaves such clips out.
        foreground: of a segmenter of one structure, the values of the masks that are it, as "1,2".
        classes: of a segmenter of several structures, the value of each in the masks, as "nerve=1,artery=2"; by default
            the values of its training.
        resize_masks: "nearest" brings masks to the size of their images.
        frames_per_clip: frames of a clip, evenly spaced, whose mean is the clip's prediction.
        size: side of the input in pixels, if not the training's.
        batch: frames computed at a time.
        seed: of the bootstrap.
        pictures: name files and groups, and show images of a segmenter, in report.html, which is then not to be
            passed on.
        progress: show bars.
        command: recorded in metrics.json.

    Raises:
        PredictError, DataError, CannotWrite: if the model, the data or the output cannot be used.
    """
    if batch < 1 or frames_per_clip < 1 or seed < 0:
        raise PredictError(f"batch {batch}, frames {frames_per_clip}, seed {seed}: give at least 1, 1 and 0")
    asked = Asked(
        Path(data), Path(out), group_from, positive, tuple(by), label, names or {}, foreground, classes, resize_masks,
        frames_per_clip, batch, seed, pictures, progress, command,
    )  # fmt: skip
    if asked.out.exists() and (not asked.out.is_dir() or any(asked.out.iterdir())):
        raise PredictError(f"-o {out} is there already: give another folder")
    require_writable(asked.out)
    trained = load_trained(model, size)
    if positive and trained.task != "classes":
        raise PredictError(f"--positive {positive}: {trained.name} predicts {trained.task}, not classes")
    if (foreground or classes or resize_masks) and trained.task != "masks":
        raise PredictError(f"--foreground, --classes and --resize-masks are about masks; {trained.name} draws none")
    if trained.task == "masks":
        if names:
            raise PredictError("--map is about labels: --classes names the values of masks")
        from usbackbones.predicting.evaluate_masks import evaluate_masks  # scipy and smp, which others do without

        return evaluate_masks(trained, asked)
    from usbackbones.predicting.evaluate_clips import evaluate_clips

    return evaluate_clips(trained, asked)
