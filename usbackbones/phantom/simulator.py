"""A seeded ultrasound simulator: moving B-mode clips of made-up patients, for the demo and the tests.

Point scatterers fill a sector in front of a convex probe. Each echoes with a random phase and the strength of
the tissue that it lies in; their sum, blurred by the pulse, is complex, and its magnitude is speckle (Wagner et
al., IEEE Trans. Sonics Ultrason. 30(3), 1983). Shadows, noise, log compression and scan conversion follow. The
scatterers belong to the patient and move with the tissue, so speckle travels as it does in a real clip.

A phantom has the looks, the groups, the labels and the motion of ultrasound, but no anatomy worth learning.
"""

import io
from pathlib import Path
from typing import Literal, get_args

import av
import numpy as np
from PIL import Image

from usbackbones._files import atomic_write, write_csv, write_png
from usbackbones.phantom.tissue import ORGANS, REACH, SCANNERS, SCATTERERS, Kind, Scanner, Tissue

KINDS: tuple[Kind, ...] = get_args(Kind)
LABELS = ("plain", "lesion")
FRAMES_PER_SECOND = 20

_SAMPLES, _LINES = 320, 128  # the polar grid: samples along a line of sight, lines of sight across the sector
_PAD = 24  # grid cells on every side, where the blur may wrap around
_GRID = (_SAMPLES + 2 * _PAD, _LINES + 2 * _PAD)


def kind_of(patient: int) -> Kind:
    """What is imaged in a patient unless a kind is asked for: the kinds take turns."""
    return KINDS[patient % len(KINDS)]


def label_of(patient: int) -> str:
    """Every other patient has a lesion."""
    return LABELS[patient % 2]


def phantom_clip(
    patient: int, *, clip: int = 0, frames: int = 24, size: int = 160, seed: int = 0, kind: Kind | None = None
) -> np.ndarray:
    """One clip of one patient, gray uint8 [frames, size, size], black outside the sector.

    Args:
        patient: 0 or more; the same number is the same tissue under the same scanner.
        clip: another one tilts the probe a little and begins elsewhere in the breath.
        frames: how many, at FRAMES_PER_SECOND.
        size: side of the picture in pixels.
        seed: another seed makes other patients.
        kind: what is imaged; by default `kind_of(patient)`.

    Returns:
        The same bytes for the same arguments.
    """
    kind = kind or kind_of(patient)
    scanner = Scanner(*np.random.default_rng([seed, patient]).uniform(*SCANNERS))
    tissue = Tissue(scanner, np.random.default_rng([seed, patient, 1]))
    below = ORGANS[kind](tissue, label_of(patient) == "lesion")
    rng = np.random.default_rng([seed, patient, 2, clip])
    tilt, press, start = rng.uniform((-0.1, -0.02, 0), (0.1, 0.02, 1))
    loose = (below / 0.06).clip(0, 1)  # the wall stays under the probe, what lies below it slides
    sector = _Sector(scanner, size)
    picture = np.zeros((frames, size, size), np.uint8)
    for frame in range(frames):
        time = frame / FRAMES_PER_SECOND + 4 * start
        breath = np.sin(2 * np.pi * time / 3.7) * loose
        rho = tissue.rho + press + breath * (0 if kind == "lung" else 0.02)
        theta = tissue.theta + tilt + breath * (0.03 if kind == "heart" else 0.09)
        if kind == "heart":
            squeeze = 0.25 * np.sin(np.pi * time / 0.8) ** 2
            pull = squeeze * np.exp(-(((tissue.rho - 0.54) / 0.3) ** 2) - (tissue.theta / 0.35) ** 2)
            rho, theta = rho - pull * (tissue.rho - 0.54), theta - pull * tissue.theta
        picture[frame] = sector.scan(_echoes(tissue, rho, theta, scanner, rng))
    return picture


def phantom_archive(
    folder: Path | str,
    patients: int = 6,
    clips_per_patient: int = 2,
    *,
    frames: int = 24,
    size: int = 160,
    seed: int = 0,
    kind: Kind | None = None,
    form: Literal["mp4", "png"] = "mp4",
) -> Path:
    """Write an archive as a hospital would have it: clips of several patients and a table of them.

    Args:
        folder: gets `patient00_clip0.mp4`, or a folder of PNG frames of that name, and `manifest.csv`.
        patients: how many, numbered from 0; each is a group.
        clips_per_patient: how many clips of each.
        frames: of every clip.
        size: side of the picture; even for mp4.
        seed: as for `phantom_clip`.
        kind: as for `phantom_clip`.
        form: "mp4" loses a little to the codec, "png" keeps the frames exactly.

    Returns:
        The manifest: the columns path (relative to it), clip, group, label, organ, licence, source.
    """
    folder, rows = Path(folder), []
    for patient in range(patients):
        for clip in range(clips_per_patient):
            name = f"patient{patient:02d}_clip{clip}"
            pictures = phantom_clip(patient, clip=clip, frames=frames, size=size, seed=seed, kind=kind)
            if form == "mp4":
                _write_mp4(pictures, folder / f"{name}.mp4")
            else:
                for number, picture in enumerate(pictures):
                    write_png(folder / name / f"frame{number:03d}.png", Image.fromarray(picture))
            path = f"{name}.mp4" if form == "mp4" else name
            organ, label = kind or kind_of(patient), label_of(patient)
            rows.append((path, name, f"patient{patient:02d}", label, organ, "CC0-1.0", "phantom"))
    manifest = folder / "manifest.csv"
    write_csv(manifest, ("path", "clip", "group", "label", "organ", "licence", "source"), rows)
    return manifest


def _write_mp4(pictures: np.ndarray, file: Path) -> None:
    """Write uint8 [T, H, W] as H.264 of a quality at which speckle survives; H and W must be even."""
    encoded = io.BytesIO()  # since PyAV hides what a disk refuses
    with av.open(encoded, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"crf": "16"})
        video.height, video.width = pictures.shape[1:]
        video.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(video.encode())
    with atomic_write(file) as stream:
        stream.write(encoded.getvalue())


def _echoes(
    tissue: Tissue, rho: np.ndarray, theta: np.ndarray, scanner: Scanner, rng: np.random.Generator
) -> np.ndarray:
    """The log-compressed lines of sight, 0..255 [_SAMPLES, _LINES], with the scatterers at (rho, theta)."""
    row = rho * (_SAMPLES - 1) + _PAD
    column = (theta / scanner.half_angle + 1) / 2 * (_LINES - 1) + _PAD
    seen = (row >= 0) & (row < _GRID[0] - 1) & (column >= 0) & (column < _GRID[1] - 1)
    row, column = row[seen], column[seen]
    top, left = row.astype(int), column.astype(int)
    down, right = row - top, column - left
    echo = 10 ** (tissue.level[seen] / 20) * np.exp(1j * tissue.phase[seen])
    field = np.zeros(_GRID[0] * _GRID[1], complex)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = echo * np.abs(1 - i - down) * np.abs(1 - j - right)
        cell = (top + i) * _GRID[1] + left + j
        field.real += np.bincount(cell, share.real, field.size)
        field.imag += np.bincount(cell, share.imag, field.size)
    field = np.fft.ifft2(np.fft.fft2(field.reshape(_GRID)) * _pulse(scanner))
    # Absorption adds up along each line of sight; blocks of 8 x 4 cells hold enough scatterers for a mean.
    blocks = (_GRID[0] // 8, _GRID[1] // 4)
    block = (top // 8) * blocks[1] + left // 4
    count = np.bincount(block, minlength=blocks[0] * blocks[1])
    mean = np.bincount(block, tissue.absorption[seen], blocks[0] * blocks[1]) / np.maximum(count, 1)
    lost = np.cumsum(mean.reshape(blocks), 0) * 8 / _SAMPLES
    lost = lost.repeat(8, 0).repeat(4, 1)[_PAD:-_PAD, _PAD:-_PAD].clip(-8, 60)
    depth = np.linspace(0, 1, _SAMPLES)[:, None]
    noise = rng.normal(0, 1, (2, _SAMPLES, _LINES)) * 10 ** ((-36 + 10 * depth) / 20)
    field = field[_PAD:-_PAD, _PAD:-_PAD] * 10 ** (-lost / 20) + noise[0] + 1j * noise[1]
    level = 20 * np.log10(np.abs(field) + 1e-9) + scanner.gain + scanner.depth_gain * depth
    return (255 * (0.58 + level / scanner.dynamic_range)).clip(0, 255)


def _pulse(scanner: Scanner) -> np.ndarray:
    """The Gaussian pulse over the grid's frequencies, scaled so that scatterers of level 0 give unit power."""
    frequency = np.fft.fftfreq(_GRID[0])[:, None] * scanner.axial, np.fft.fftfreq(_GRID[1]) * scanner.lateral
    (shallow, deep), (first, last) = REACH
    density = SCATTERERS / ((deep - shallow) * _SAMPLES * (last - first) / 2 * _LINES)
    power = density / (4 * np.pi * scanner.axial * scanner.lateral)
    return np.exp(-2 * np.pi**2 * (frequency[0] ** 2 + frequency[1] ** 2)) / np.sqrt(power)


class _Sector:
    """Scan conversion: where each pixel of the picture lies among the lines of sight."""

    def __init__(self, scanner: Scanner, size: int) -> None:
        top, bottom = scanner.radius * np.cos(scanner.half_angle), scanner.radius + 1
        pixel = max(bottom - top, 2 * bottom * np.sin(scanner.half_angle)) / (size - 2)
        y, x = np.mgrid[:size, :size]
        x, z = (x - (size - 1) / 2) * pixel, top + (y - 1) * pixel
        row = (np.hypot(x, z) - scanner.radius) * (_SAMPLES - 1)
        column = (np.arctan2(x, z) / scanner.half_angle + 1) / 2 * (_LINES - 1)
        self.inside = (row >= 0) & (row <= _SAMPLES - 1) & (column >= 0) & (column <= _LINES - 1)
        row, column = row[self.inside], column[self.inside]
        self.top = np.minimum(row.astype(int), _SAMPLES - 2)
        self.left = np.minimum(column.astype(int), _LINES - 2)
        self.down, self.right = row - self.top, column - self.left

    def scan(self, lines: np.ndarray) -> np.ndarray:
        """Lines of sight [_SAMPLES, _LINES] to a picture uint8 [size, size], by bilinear interpolation."""
        upper, lower = (
            lines[self.top + i, self.left] * (1 - self.right) + lines[self.top + i, self.left + 1] * self.right
            for i in (0, 1)
        )
        picture = np.zeros(self.inside.shape, np.uint8)
        picture[self.inside] = np.rint(upper * (1 - self.down) + lower * self.down)
        return picture
