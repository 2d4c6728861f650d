"""Masks of a segmenter, at the size of each frame, with overlays to look at, a legend and areas."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from usbackbones._files import write_csv, write_png
from usbackbones.predicting.areas import areas
from usbackbones.predicting.trained import Trained
from usbackbones.segmentation.losses import classes_of, foreground, network_input
from usbackbones.segmentation.report import color_of, mask_image
from usbackbones.segmentation.trainer import at_size

LEGEND = ("legend.csv", "legend.png")
_LONGEST_STEM = 100


class MaskWriter:
    """Predicts masks and writes them below the folder of a run, as masks/NAME_FRAME.png and overlays/NAME_FRAME.png.

    A mask of one structure is black and white; of several, its values are the classes of legend.csv, 0 is background.
    """

    def __init__(self, out: Path, trained: Trained) -> None:
        self.out, self.trained = out, trained
        self.device = next(trained.model.parameters()).device

    def read(self, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Frames uint8 [H, W] at the size of the model, uint8 [N, S, S]."""
        side = (self.trained.size, self.trained.size)
        small = [np.asarray(Image.fromarray(frame).resize(side, Image.Resampling.BILINEAR)) for frame in frames]
        return torch.from_numpy(np.stack(small))

    @torch.inference_mode()
    def probabilities(self, gray: torch.Tensor) -> np.ndarray:
        """Probabilities of frames uint8 [N, S, S]: float32 [N, S, S] of one structure, else [N, 1 + C, S, S]."""
        of = classes_of if len(self.trained.classes) > 1 else foreground
        return of(self.trained.model, network_input(self.trained.model, gray)).cpu().numpy()

    def write(
        self, path: Path, number: int, frame: np.ndarray, probability: np.ndarray, spacing: tuple[float, float] | None
    ) -> tuple[dict[str, object], np.ndarray]:
        """Write the mask and the overlay of a frame.

        Args:
            path: of its clip.
            number: of the frame in it.
            frame: uint8 [H, W].
            probability: as `probabilities` gives it for a frame.
            spacing: (row, column) size of a pixel in mm; None where it is unknown.

        Returns:
            The cells "mask" and "overlay", and the areas, see `areas`.
        """
        mask = at_size(probability, (frame.shape[0], frame.shape[1]))
        # Files of one name in different folders must not meet.
        sum_of_path = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:12]
        name = f"{path.stem[:_LONGEST_STEM]}_{sum_of_path}_{number:05d}.png"
        cells: dict[str, object] = {}
        for kind, image in (("mask", mask_image(mask)), ("overlay", outlined(frame, mask))):
            cells[kind] = f"{kind}s/{name}"
            write_png(self.out / str(cells[kind]), image)
        return cells, areas(mask, len(self.trained.classes), spacing)

    def write_legend(self) -> None:
        """Write which value and color of a mask is which structure, as a table and as an image."""
        values = [255] if len(self.trained.classes) == 1 else range(1, 1 + len(self.trained.classes))
        rows = [
            (value, name, "#{:02x}{:02x}{:02x}".format(*color_of(number)))
            for number, (value, name) in enumerate(zip(values, self.trained.classes, strict=True), start=1)
        ]
        table, image = LEGEND
        write_csv(self.out / table, ("value", "class", "color"), [(0, "background", ""), *rows])
        write_png(self.out / image, _drawn([(name, color) for _, name, color in rows]))


def outlined(frame: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The frame, uint8 [H, W], with the outline of each structure of a mask, bool or labels [H, W], in its color."""
    inside = np.zeros(mask.shape, bool)
    middle = mask[1:-1, 1:-1]
    inside[1:-1, 1:-1] = np.logical_and.reduce(
        [middle == near for near in (mask[:-2, 1:-1], mask[2:, 1:-1], mask[1:-1, :-2], mask[1:-1, 2:])]
    )
    colors = np.repeat(frame[..., None], 3, axis=2)
    for number in range(1, int(mask.max(initial=0)) + 1):
        colors[(mask == number) & ~inside] = color_of(number)
    return Image.fromarray(colors)


def _drawn(rows: Sequence[tuple[str, str]]) -> Image.Image:
    """A square of each color with its name."""
    image = Image.new("RGB", (320, 8 + 20 * len(rows)), "white")
    draw = ImageDraw.Draw(image)
    for number, (name, color) in enumerate(rows):
        top = 6 + 20 * number
        draw.rectangle((6, top, 20, top + 14), fill=color, outline="black")
        draw.text((28, top + 2), name.encode("ascii", "replace").decode(), fill="black")
    return image
