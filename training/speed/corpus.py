"""A made-up corpus for the comparisons: speckle in videos of 480 x 360, as JPEG files and as a prepared cache."""

from pathlib import Path

import cv2
import numpy as np

from training.data.cache import Cache
from training.data.manifest import Row
from training.data.prepare.run import prepare


def write_corpus(folder: Path, clips: int, frames: int, size: int) -> tuple[Cache, list[list[Path]]]:
    """Write the corpus to jpeg/, one folder a clip, and to cache/; return the cache, and the JPEG files of each clip.

    Labels are a, b and c; `size` is that of the cache's frames, pixels.
    """
    rng, rows, files = np.random.default_rng(0), [], []
    for number in range(clips):
        clip = folder / "jpeg" / f"clip{number:03d}"
        clip.mkdir(parents=True)
        files.append([clip / f"{index:03d}.jpg" for index in range(frames)])
        for file in files[-1]:
            cv2.imwrite(str(file), cv2.cvtColor(_frame(rng), cv2.COLOR_GRAY2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
        rows.append(Row(str(clip), clip.name, f"patient{number}", "phantom", "abc"[number % 3], "CC0", "speckle"))
    return prepare(rows, folder / "cache", size=size, jobs=1, progress=False), files


def _frame(rng: np.random.Generator) -> np.ndarray:
    """Speckle uint8 [360, 480] that darkens with depth."""
    fine = cv2.GaussianBlur(rng.rayleigh(60, (360, 480)).astype(np.float32), (0, 0), 1.2)
    return np.asarray((fine * np.linspace(1.6, 0.4, 360)[:, None]).clip(0, 255), np.uint8)
