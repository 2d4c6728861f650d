"""Report of a fine-tuning run: metrics, errors, learning curves, features and saliency."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from usbackbones._evenly import evenly
from usbackbones._words import percent
from usbackbones.features.extract import embed
from usbackbones.features.saliency import attention_rollout, gradient_times_input
from usbackbones.finetuning.target import Numbers
from usbackbones.finetuning.tuner import Tuner
from usbackbones.report import Features, Heat, Predictions, write_report
from usbackbones.report.agreement import agreement_sections

MOST_FRAMES = 2000
"""Frames whose features are mapped, spread evenly over the test part."""
_SCORES = {"classes": "validation: minus the log loss", "number": "validation: R2"}
"""The curve of the validation part, by the target's task; higher is better."""
HEAT_CLIPS = 6
"""Clips of which a frame is shown with what the network looked at."""


def write_finetune_report(
    out: Path,
    tuner: Tuner,
    facts: Mapping[str, str],
    metrics: Numbers,
    rows: np.ndarray,
    prediction: np.ndarray,
    pictures: bool,
    unit: str,
) -> None:
    """Write report.html into the folder of a run that is finished and whose frames are still there.

    Args:
        out: the folder.
        tuner: after its run.
        facts: for the head of the report.
        metrics: of the test part, by the names to show.
        rows: int [N], frames of the test part, as `Tuner.predict` returns them.
        prediction: float [N, C], of these.
        unit: what a group is, see there.
        pictures: show frames and names, see `usbackbones.report.write_report`.
    """
    owner = tuner.frames.item[rows]
    items, truth = [tuner.items[number] for number in owner], tuner.target.truth[owner]
    clip, group = [_name(tuner, number) for number in owner], [item.group for item in items]
    kept = evenly(len(rows), MOST_FRAMES)
    classes = tuner.target.classes if tuner.target.task == "classes" else ()
    features = Features(
        embed(tuner.model, (tuner.frames[row] for row in rows[kept])),
        [items[place].label if classes else "" for place in kept],
        [clip[place] for place in kept],
        [group[place] for place in kept],
        (lambda place: tuner.frames[rows[kept[place]]]) if pictures else None,
        unit,
    )
    write_report(
        out / "report.html",
        f"Fine-tuning on {len(classes)} classes" if classes else "Fine-tuning for a number",
        facts=facts,
        metrics=metrics,
        predictions=Predictions(classes, truth, prediction, owner, group, unit) if classes else None,
        features=features,
        history=[
            {_SCORES[tuner.target.task] if name == "validation" else name: value for name, value in record.items()}
            for record in tuner.history
        ],
        heat=_heat(tuner, rows, prediction, clip) if pictures else (),
        sections=[] if classes else agreement_sections(truth, prediction[:, 0], owner),
        pictures=pictures,
        unit=unit,
    )


def _name(tuner: Tuner, number: int) -> str:
    return tuner.items[number].path.name


def _heat(tuner: Tuner, rows: np.ndarray, prediction: np.ndarray, clip: list[str]) -> list[Heat]:
    """The middle frame of a few clips, spread over the test part, with every saliency that the network allows."""
    ways: dict[str, Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]] = {
        "gradient x input": gradient_times_input
    }
    if hasattr(tuner.model, "blocks"):
        ways["attention rollout"] = attention_rollout
    owner = tuner.frames.item[rows]
    numbers = np.unique(owner)
    found = []
    for number in numbers[evenly(len(numbers), HEAT_CLIPS)]:
        places = np.flatnonzero(owner == number)
        place = places[len(places) // 2]
        frame = tuner.frames[rows[place]]
        image = tuner.plain(frame)[None].to(tuner.device)
        caption = f"{clip[place]}: {tuner.items[number].label}, {_called(tuner, prediction[place])}"
        seen = np.asarray(_pixels(tuner, frame))
        found += [Heat(caption, seen, _smooth(way(tuner.model, image)), how) for how, way in ways.items()]
    return found


def _called(tuner: Tuner, prediction: np.ndarray) -> str:
    if tuner.target.task == "number":
        return f"predicted {prediction[0]:.3g}"
    return f"predicted {tuner.target.classes[int(prediction.argmax())]} ({percent(prediction.max())})"


def _pixels(tuner: Tuner, frame: np.ndarray) -> np.ndarray:
    """The frame as the network sees it, cut and sized by its transform: uint8 [S, S]."""
    return tuner.plain.spatial(torch.from_numpy(frame.copy())[None])[0].numpy()


def _smooth(heat: torch.Tensor) -> np.ndarray:
    """The heat [h, w] of one image [1, h, w]; pixels are averaged over an eighth of the side, single ones flicker."""
    side = max(heat.shape[-1] // 16, 1)
    if heat.shape[-1] < 32:  # patches
        return heat[0].float().cpu().numpy()
    pooled = torch.nn.functional.avg_pool2d(heat[None].float(), 2 * side + 1, 1, side, count_include_pad=False)
    return pooled[0, 0].cpu().numpy()
