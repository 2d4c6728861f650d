"""Data sets made up for the tests: speckle in a fan, of patients who differ, with planted faults."""

import csv

import numpy as np
from PIL import Image

from usbackbones.clips.formats.stills import natural

SIDE = 96
PATIENTS, STILLS = 24, 2


def still(patient, number=0, seed=0):
    """Speckle in a fan on black, uint8 [SIDE, SIDE]; the stills of a patient share their texture's strength."""
    own = np.random.default_rng([seed, patient])
    level, scale = own.uniform(100, 140), own.uniform(15, 25)
    rng = np.random.default_rng([seed, patient, number])
    field = np.fft.rfft2(rng.normal(size=(SIDE, SIDE)))
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    field = np.fft.irfft2(field * np.exp(-60 * (fx**2 + fy**2)), (SIDE, SIDE))
    y, x = np.mgrid[:SIDE, :SIDE]
    radius, angle = np.hypot(x - SIDE / 2, y + 20), np.arctan2(x - SIDE / 2, y + 20)
    fan = (radius > 28) & (radius < 108) & (np.abs(angle) < 0.5)
    return np.where(fan, np.clip(level + scale * field / field.std(), 30, 250), 0).astype(np.uint8)


def with_bar(frame):
    """A scanner's gray bar outside of the tissue."""
    frame = frame.copy()
    frame[8:60, 3:9] = 200
    return frame


def with_calipers(frame):
    """Two measuring crosses over the tissue."""
    frame = frame.copy()
    for y, x in ((50, 40), (60, 62)):
        frame[y - 4 : y + 5, x - 4 : x + 5] = np.minimum(frame[y - 4 : y + 5, x - 4 : x + 5], 90)
        frame[y, x - 4 : x + 5] = frame[y - 4 : y + 5, x] = 255
    return frame


def write_set(folder, label_of, change=lambda frame, label: frame, suffix=lambda label: "png", seed=0):
    """Write PATIENTS patients of STILLS stills and return the rows of their table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in range(PATIENTS):
        for number in range(STILLS):
            label = label_of(patient)
            file = folder / f"{patient:02}_{number}.{suffix(label)}"
            Image.fromarray(change(still(patient, number, seed), label)).save(file)
            rows.append({"path": file.name, "label": label, "patient": f"p{patient:02}"})
    return rows


def write_table(file, rows):
    """Write rows as a CSV and return its path."""
    columns = sorted({name for row in rows for name in row}, key=natural)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return file
