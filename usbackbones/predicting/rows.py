"""The rows of a prediction, a frame or a clip each: batches through a trained model; areas in mm2 come from `areas`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from usbackbones.features.precision import computes_in_bf16
from usbackbones.metrics.calibration import scaled
from usbackbones.predicting.areas import area_columns
from usbackbones.predicting.inputs import Input
from usbackbones.predicting.trained import Trained

if TYPE_CHECKING:
    from usbackbones.predicting.masks import MaskWriter

Row = dict[str, object]


@dataclass
class Clip:
    """A clip on its way through the batches.

    Attributes:
        source: where it is from.
        group: its patient or group; "" where nobody tells.
        spacing: (row, column) size of a pixel in mm; None where it is unknown.
        seen: "yes"; "no" where neither the file nor its first frame was found again; "" where the folder does not say.
        rows: of its frames so far.
        total: sum of the numbers of its frames.
        error: why it could not be read to its end; else "".
    """

    source: Input
    group: str = ""
    spacing: tuple[float, float] | None = None
    seen: str = ""
    rows: list[Row] = field(default_factory=list)
    total: np.ndarray | None = None
    error: str = ""


@dataclass(frozen=True)
class Frame:
    """A frame of a clip: its number in it, its time in seconds or None, and its pixels uint8 [H, W]."""

    clip: Clip
    number: int
    seconds: float | None
    pixels: np.ndarray


class Predictor:
    """A trained model that fills rows."""

    def __init__(self, trained: Trained, temperature: float = 1.0, masks: "MaskWriter | None" = None) -> None:
        """Prepare a model: probabilities at a temperature, see `metrics.calibration`; `masks` of a segmenter alone."""
        self.trained, self.temperature, self.masks = trained, temperature, masks
        self.device = next(trained.model.parameters()).device
        # A number of hundreds in bf16 has steps of two.
        self.bf16 = trained.task == "classes" and computes_in_bf16(self.device)

    def columns(self) -> tuple[list[str], list[str]]:
        """The columns of the table of frames and of the table of clips."""
        numbers = self._numbers() + (["prediction"] if self.trained.task == "classes" else [])
        files = ["mask", "overlay"] if self.masks else []
        return (
            ["file", "frame", "group", "seconds", *numbers, *files, "seen", "error"],
            ["file", "frames", "group", *numbers, "seen", "error"],
        )

    def read(self, frames: Sequence[np.ndarray]) -> tuple[torch.Tensor, ...]:
        """Frames uint8 [H, W] as `outputs` or `masks` takes them; nothing of no frames."""
        if not frames:
            return ()
        if self.masks is not None:
            return (self.masks.read(frames),)
        prepare = self.trained.prepare
        assert prepare is not None
        return (torch.stack([prepare(frame) for frame in frames]),)

    @torch.inference_mode()
    def outputs(self, images: torch.Tensor) -> np.ndarray:
        """Probabilities [N, C] or values [N, 1] of images [N, C, S, S], float64."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out = self.trained.model(images).double()
        return (
            out.cpu().numpy()
            if self.trained.task == "number"
            else scaled(out.softmax(1).cpu().numpy(), self.temperature)
        )

    def add_rows(self, batch: Sequence[Frame], images: torch.Tensor) -> None:
        """Give each clip of a batch the rows of its frames; `images` are what `read` made of them."""
        for frame, (cells, numbers) in zip(batch, self._predicted(batch, images), strict=True):
            clip = frame.clip
            seconds = "" if frame.seconds is None else f"{frame.seconds:.4f}"
            about: Row = {"file": str(clip.source.path), "frame": frame.number, "group": clip.group, "seconds": seconds}
            clip.rows.append(about | self._cells(numbers) | cells | {"seen": clip.seen})
            clip.total = numbers if clip.total is None else clip.total + numbers

    def clip_rows(self, clip: Clip) -> tuple[list[Row], Row]:
        """The rows of a clip's frames, and its own: their means, none where it could not be read to its end."""
        file, group = str(clip.source.path), clip.group or clip.source.group
        row: Row = {"file": file, "frames": len(clip.rows), "group": group, "seen": clip.seen, "error": clip.error}
        if clip.error:
            return [*clip.rows, {"file": file, "group": group, "error": clip.error}], row
        assert clip.total is not None
        return clip.rows, row | self._cells(clip.total / len(clip.rows))

    def _predicted(self, batch: Sequence[Frame], images: torch.Tensor) -> Iterator[tuple[Row, np.ndarray]]:
        if self.masks is None:
            yield from (({}, numbers) for numbers in self.outputs(images))
            return
        for frame, probability in zip(batch, self.masks.probabilities(images), strict=True):
            clip = frame.clip
            yield self.masks.write(clip.source.path, frame.number, frame.pixels, probability, clip.spacing)

    def _numbers(self) -> list[str]:
        if self.trained.task == "classes":
            return [f"prob_{name}" for name in self.trained.classes]
        if self.trained.task == "number":
            return [value_column(self.trained)]
        return area_columns(self.trained.classes)

    def _cells(self, numbers: np.ndarray) -> Row:
        cells: Row = {
            name: "" if np.isnan(number) else f"{number:.6f}" if self.trained.task == "classes" else f"{number:.6g}"
            for name, number in zip(self._numbers(), numbers, strict=True)
        }
        if self.trained.task == "classes":
            cells["prediction"] = self.trained.classes[int(np.argmax(numbers))]
        return cells


def value_column(trained: Trained) -> str:
    """The column of a number: value, with what it measures and its unit where the model's folder tells them."""
    return f"value_{trained.target}" if trained.target else "value"
