"""Scanner screens made up for the tests: a phantom on a plain ground, and all that a scanner prints around it."""

from dataclasses import dataclass

import cv2
import numpy as np

from tests.phantoms import phantom_clip

NAME = "DOE JANE 1961-04-02"


@dataclass(frozen=True)
class Screen:
    """A clip uint8 [T, H, W], and bool [H, W] where its ultrasound is."""

    frames: np.ndarray
    truth: np.ndarray


def screen(
    patient: int, frames: int = 12, size: int = 400, height: int = 600, width: int = 800, ground: int = 0
) -> Screen:
    """A phantom in the middle of a plain screen."""
    clip = phantom_clip(patient, frames=frames, size=size)
    # The thermal noise of twelve frames lights nearly every pixel of a sector; closing fills in the rest.
    lit = (phantom_clip(patient, frames=12, size=size).max(0) > 0).astype(np.uint8)
    sector = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    top, left = (height - size) // 2, (width - size) // 2
    place = slice(top, top + size), slice(left, left + size)
    shown, truth = np.full((frames, height, width), ground, np.uint8), np.zeros((height, width), bool)
    shown[:, place[0], place[1]] = np.where(sector, clip, ground)
    truth[place] = sector
    return Screen(shown, truth)


def decorate(frames: np.ndarray) -> None:
    """Print on a screen of 600 x 800 what scanners print: name, settings, logo, gray bar, ticks and a running ECG."""
    _, height, width = frames.shape
    for number, frame in enumerate(frames):
        cv2.putText(frame, NAME, (12, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
        cv2.putText(frame, "MI 1.2 TIS 0.4", (width - 190, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 200, 1)
        for line, words in enumerate(("Gen", "Gn 58", "DR 70", "D 14cm", "FR 31")):
            cv2.putText(frame, words, (12, 120 + 22 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 180, 1)
        cv2.rectangle(frame, (width - 110, height - 90), (width - 20, height - 30), 170, -1)
        cv2.circle(frame, (width - 65, height - 60), 22, 90, -1)
        frame[100:356, width - 40 : width - 22] = np.arange(255, -1, -1, np.uint8)[:, None]
        for tick in range(100, 500, 40):
            cv2.line(frame, (width - 60, tick), (width - 54, tick), 255, 1)
        x = np.arange(150, width - 150)
        y = height - 40 - 30 * np.exp(-((((x - 8 * number) % 120 - 60) / 4.0) ** 2)) + 2 * np.sin(x / 9)
        cv2.polylines(frame, [np.stack([x, y], 1).astype(np.int32)], False, 220, 1)


def speckle(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Moving speckle uint8 [T, H, W] that fills its picture, as a linear probe shows it."""
    rng = np.random.default_rng(seed)
    field = rng.normal(size=(frames, 2, height, width)).astype(np.float32)
    blurred = np.stack([[cv2.GaussianBlur(part, (0, 0), 1.5) for part in frame] for frame in field])
    level = 20 * np.log10(np.hypot(blurred[:, 0], blurred[:, 1]) + 1e-3)
    return (160 + 4 * level).clip(8, 250).astype(np.uint8)
