"""Masks of a segmenter, at the size of each frame, with overlays to look at and areas."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from usbackbones._files import atomic_write
from usbackbones.predicting.trained import Trained
from usbackbones.segmentation.losses import foreground, network_input
from usbackbones.segmentation.trainer import at_size

_EDGE = (255, 196, 0)


class MaskWriter:
    """Predicts masks and writes them below the folder of a run, as masks/NAME_FRAME.png and overlays/NAME_FRAME.png."""

    def __init__(self, out: Path, trained: Trained) -> None:
        self.out, self.trained = out, trained
        self.device = next(trained.model.parameters()).device

    @torch.inference_mode()
    def probabilities(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """How probable each pixel of frames uint8 [H, W] is foreground, float32 [N, S, S]."""
        side = (self.trained.size, self.trained.size)
        small = np.stack([np.asarray(Image.fromarray(f).resize(side, Image.Resampling.BILINEAR)) for f in frames])
        images = network_input(self.trained.model, torch.from_numpy(small).to(self.device))
        return foreground(self.trained.model, images).cpu().numpy()

    def write(
        self, path: Path, number: int, frame: np.ndarray, probability: np.ndarray, spacing: tuple[float, float] | None
    ) -> tuple[dict[str, object], np.ndarray]:
        """Write the mask and the overlay of a frame.

        Args:
            path: of its clip.
            number: of the frame in it.
            frame: uint8 [H, W].
            probability: float [S, S] of the foreground.
            spacing: (row, column) size of a pixel in mm; None where it is unknown.

        Returns:
            The cells "mask" and "overlay", and the areas [pixels, mm2], nan where the spacing is unknown.
        """
        mask = at_size(probability, (frame.shape[0], frame.shape[1]))
        # Files of one name in different folders must not meet.
        name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{number:05d}.png"
        cells: dict[str, object] = {}
        for kind, image in (("mask", Image.fromarray(mask)), ("overlay", outlined(frame, mask))):
            cells[kind] = f"{kind}s/{name}"
            with atomic_write(self.out / str(cells[kind])) as stream:
                image.save(stream, format="PNG")
        pixels = float(mask.sum())
        return cells, np.array([pixels, pixels * spacing[0] * spacing[1] if spacing else np.nan])


def outlined(frame: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The frame, uint8 [H, W], with the outline of the mask, bool [H, W], drawn over it."""
    inside = mask.copy()
    inside[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    inside[[0, -1]] = inside[:, [0, -1]] = False
    colors = np.repeat(frame[..., None], 3, axis=2)
    colors[mask & ~inside] = _EDGE
    return Image.fromarray(colors)
