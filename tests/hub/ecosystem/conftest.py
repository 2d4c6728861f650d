"""Simulated stills in the layout that image classifiers are trained on: a folder a part, in it a folder a class."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.phantoms import phantom_clip

CLASSES = ("heart", "lung")
SIZE = 64


@dataclass(frozen=True)
class Stills:
    """Stills uint8 [N, S, S] of two organs, the class and the patient of each, and the folder that they lie in."""

    folder: Path
    frames: np.ndarray
    label: np.ndarray
    patient: np.ndarray


@pytest.fixture(scope="session")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Stills:
    """Twelve patients with four frames each; the last four patients are in `val`, the others in `train`."""
    folder = tmp_path_factory.mktemp("stills")
    frames, label, patients = [], [], []
    for patient in range(12):
        kind = 1 - patient % 2
        place = folder / ("train" if patient < 8 else "val") / CLASSES[kind]
        place.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(phantom_clip(patient, frames=4, size=SIZE, kind=CLASSES[kind])):
            Image.fromarray(frame).save(place / f"p{patient:02d}_{number}.png")
            frames.append(frame)
            label.append(kind)
            patients.append(patient)
    return Stills(folder, np.stack(frames), np.array(label), np.array(patients))
