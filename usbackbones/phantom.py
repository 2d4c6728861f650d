"""A seeded ultrasound simulator: moving B-mode clips of made-up patients, for the demo and the tests.

Point scatterers fill a sector in front of a convex probe. Each echoes with a random phase and the strength of
the tissue that it lies in; their sum, blurred by the pulse, is complex, and its magnitude is speckle (Wagner et
al., IEEE Trans. Sonics Ultrason. 30(3), 1983). Shadows, noise, log compression and scan conversion follow. The
scatterers belong to the patient and move with the tissue, so speckle travels as it does in a real clip.

A phantom has the looks, the groups, the labels and the motion of ultrasound, but no anatomy worth learning.
Lengths are fractions of the imaging depth, angles radians, levels decibels; x is lateral, z points into the body.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import av
import numpy as np
from PIL import Image

from usbackbones.files import atomic_write

Kind = Literal["abdomen", "lung", "heart"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LABELS = ("plain", "lesion")
FRAMES_PER_SECOND = 20

_SAMPLES, _LINES = 320, 128  # the polar grid: samples along a line of sight, lines of sight across the sector
_MARGIN = 24  # grid cells on every side, where the blur may wrap around
_SCATTERERS = 60_000
_RNG = np.random.Generator


@dataclass(frozen=True)
class _Scanner:
    """How one patient was scanned: the sector, the pulse and the knobs."""

    radius: float  # of the convex probe
    half_angle: float  # of the sector
    axial: float  # width of the pulse (sigma), in samples
    lateral: float  # width of the beam (sigma), in lines
    gain: float
    dynamic_range: float
    depth_gain: float  # added from top to bottom

    @classmethod
    def of(cls, rng: _RNG) -> "_Scanner":
        return cls(
            radius=rng.uniform(0.22, 0.5),
            half_angle=np.radians(rng.uniform(26, 38)),
            axial=rng.uniform(1.5, 2.4),
            lateral=rng.uniform(1.1, 1.8),
            gain=rng.uniform(-5, 5),
            dynamic_range=rng.uniform(48, 60),
            depth_gain=rng.uniform(-10, -2),
        )


class _Tissue:
    """The scatterers of one patient at rest: where they lie, how they echo and how they absorb.

    `rho` (depth below the probe's face) and `theta` are polar, `x` and `z` the same places in Cartesian form.
    """

    def __init__(self, scanner: _Scanner, rng: _RNG) -> None:
        # Wider than the sector, so that tissue can move in from the sides.
        self.rho = rng.uniform(-0.08, 1.08, _SCATTERERS)
        self.theta = rng.uniform(-1.4, 1.4, _SCATTERERS) * scanner.half_angle
        self.x = (scanner.radius + self.rho) * np.sin(self.theta)
        self.z = (scanner.radius + self.rho) * np.cos(self.theta) - scanner.radius
        self.level = 2.5 * _bumps(self.x, self.z, 3.0, rng) + 2.0 * _bumps(self.x, self.z, 9.0, rng)
        self.absorption = np.zeros(_SCATTERERS)  # beyond what the depth gain makes up for, dB per imaging depth
        self.phase = rng.uniform(0, 2 * np.pi, _SCATTERERS)

    def set(self, where: np.ndarray, level: float, absorption: float = 0.0) -> None:
        """Make a region, a mask over the scatterers, of another level, keeping some of its texture."""
        self.level[where] = level + 0.5 * self.level[where].clip(-6, 6)
        self.absorption[where] = absorption

    def line(self, distance: np.ndarray, level: float, width: float = 0.004) -> None:
        """Draw a smooth reflector where the distance is near 0: its echoes are in phase and add up."""
        near = np.abs(distance) < width
        self.level[near] = level
        self.phase[near] = 0.0


def _bumps(x: np.ndarray, z: np.ndarray, frequency: float, rng: _RNG, waves: int = 6) -> np.ndarray:
    """A smooth random field of about unit variance."""
    kx, kz = rng.normal(0, frequency, (2, waves, 1))
    return np.sin(kx * x + kz * z + rng.uniform(0, 2 * np.pi, (waves, 1))).sum(0) * np.sqrt(2 / waves)


def _ellipse(tissue: _Tissue, x: float, z: float, a: float, b: float, tilt: float = 0.0) -> np.ndarray:
    """Signed distance from an ellipse's edge, roughly, in units of depth; negative inside."""
    u = (tissue.x - x) * np.cos(tilt) + (tissue.z - z) * np.sin(tilt)
    v = (tissue.z - z) * np.cos(tilt) - (tissue.x - x) * np.sin(tilt)
    return (np.hypot(u / a, v / b) - 1) * min(a, b)


def _wall(tissue: _Tissue, rng: _RNG, thickness: float) -> np.ndarray:
    """Skin, fat and muscle under the probe; returns the depth below the wall's last fascia."""
    edges = np.sort(rng.uniform(0.03, thickness, 3))
    edges[-1] = thickness
    bend, below = rng.uniform(-0.15, 0.15), tissue.rho
    for edge in edges[::-1]:
        wave = 0.012 * np.sin(rng.uniform(4, 12) * tissue.x + rng.uniform(0, 6))
        depth = tissue.rho - edge * (1 + bend * tissue.x) - wave
        below = depth if edge == thickness else below
        tissue.set(depth < 0, rng.uniform(-12, 3))
        tissue.line(depth, rng.uniform(2, 9), 0.003)
    tissue.set(tissue.rho < 0.012, 10)
    return below


def _abdomen(tissue: _Tissue, rng: _RNG, lesion: bool) -> np.ndarray:
    """Parenchyma with vessels before a diaphragm; the lesion is a stone with its shadow in a dark bladder."""
    tissue.level += rng.uniform(-6, 0)
    for _ in range(rng.integers(3, 7)):
        size = rng.uniform(0.015, 0.04)
        place = rng.uniform(-0.4, 0.4), rng.uniform(0.3, 0.8)
        edge = _ellipse(tissue, *place, size * rng.uniform(1, 4), size, rng.uniform(-1, 1))
        tissue.line(edge, rng.uniform(0, 5))
        tissue.set(edge < 0, -32, -20)
    dome = _ellipse(tissue, rng.uniform(-0.3, 0.3), rng.uniform(0.1, 0.3), 0.9, rng.uniform(0.55, 0.7))
    tissue.set(dome > 0.015, -14)
    tissue.line(dome, 10, 0.008)
    if lesion:
        x, z, size = rng.uniform(-0.2, 0.2), rng.uniform(0.35, 0.5), rng.uniform(0.09, 0.14)
        bladder = _ellipse(tissue, x, z, size * 1.5, size, rng.uniform(-0.5, 0.5))
        tissue.line(bladder, 4, 0.006)
        tissue.set(bladder < 0, -36, -25)
        stone = _ellipse(tissue, x, z + 0.6 * size, 0.3 * size, 0.2 * size)
        tissue.set(stone < 0, 14, 900)
    return _wall(tissue, rng, rng.uniform(0.1, 0.22))


def _lung(tissue: _Tissue, rng: _RNG, lesion: bool) -> np.ndarray:
    """Ribs, the pleural line and below it A-lines; the lesion makes B-lines out of them."""
    depth = rng.uniform(0.16, 0.28)
    pleura = tissue.rho - depth * (1 + rng.uniform(-0.1, 0.1) * np.sin(5 * tissue.x + rng.uniform(0, 6)))
    tissue.set(pleura > 0, rng.uniform(-20, -14), 12)
    for order in range(2, 6):
        tissue.line(tissue.rho - order * (tissue.rho - pleura), (-16 if lesion else 0) - 5 * order)
    if lesion:
        for theta in rng.uniform(-0.8, 0.8, rng.integers(3, 6)) * tissue.theta.max() / 1.4:
            comet = (pleura > 0) & (np.abs(tissue.theta - theta) < rng.uniform(0.01, 0.03))
            tissue.set(comet, rng.uniform(-3, 4), 5)
    wall = _wall(tissue, rng, depth)
    for side in (-1, 1):
        rib = _ellipse(tissue, side * rng.uniform(0.2, 0.38), 0.62 * depth, 0.08, 0.035)
        tissue.set(rib < 0, 8, 400)
    tissue.line(pleura, 14, 0.006)
    return wall


def _heart(tissue: _Tissue, rng: _RNG, lesion: bool) -> np.ndarray:
    """Two chambers in a muscle; the lesion is fluid around it."""
    x, z, tilt = rng.uniform(-0.08, 0.08), rng.uniform(0.5, 0.58), rng.uniform(-0.6, 0.6)
    a, b = rng.uniform(0.17, 0.23), rng.uniform(0.24, 0.3)
    tissue.level -= 4
    sac = _ellipse(tissue, x, z, a + 0.13, b + 0.13, tilt)
    tissue.line(sac, 10, 0.008)
    tissue.set(sac < 0, -38 if lesion else -8, -10)
    muscle = _ellipse(tissue, x, z, a + 0.07, b + 0.07, tilt)
    tissue.line(muscle, 4)
    tissue.set(muscle < 0, -3)
    for side in (-1, 1):
        width = a * rng.uniform(0.35, 0.5)
        center = x + side * 0.5 * a * np.cos(tilt), z + side * 0.5 * a * np.sin(tilt)
        chamber = _ellipse(tissue, *center, width, b * rng.uniform(0.75, 0.95), tilt)
        tissue.line(chamber, 3)
        tissue.set(chamber < 0, -36, -8)
    return _wall(tissue, rng, rng.uniform(0.08, 0.16))


_ORGANS = {"abdomen": _abdomen, "lung": _lung, "heart": _heart}


def phantom_clip(
    patient: int,
    *,
    clip: int = 0,
    frames: int = 24,
    size: int = 160,
    seed: int = 0,
    kind: Kind | None = None,
) -> np.ndarray:
    """One clip of one patient, gray uint8 [frames, size, size], dark outside the sector.

    Args:
        patient: the same number is the same tissue under the same scanner; odd patients have a lesion.
        clip: another one moves the probe a little and starts elsewhere in the breath.
        frames: at FRAMES_PER_SECOND.
        size: side of the square picture in pixels.
        seed: another seed makes other patients.
        kind: what is imaged; by default the patients take turns.

    The same arguments give the same bytes.
    """
    kind = kind or kind_of(patient)
    rng = np.random.default_rng([seed, patient])
    scanner = _Scanner.of(rng)
    tissue = _Tissue(scanner, rng)
    below = _ORGANS[kind](tissue, rng, label_of(patient) == "lesion")
    moving = (below / 0.06).clip(0, 1)  # the wall stays under the probe, what lies below it slides
    breath, beat, slide = rng.uniform(2.5, 4.5), rng.uniform(0.7, 1.1), rng.uniform(0.07, 0.12)

    view = np.random.default_rng([seed, patient, clip, 1])
    tilt, press, start = view.uniform(-0.12, 0.12), view.uniform(-0.02, 0.02), view.uniform(0, 1)
    echo = 10 ** (tissue.level / 20) * np.exp(1j * tissue.phase)
    scan = _scan_converter(scanner, size)
    blur = _blur(scanner)
    clip_frames = []
    for frame in range(frames):
        time = frame / FRAMES_PER_SECOND
        inhaled = np.sin(2 * np.pi * (time / breath + start))
        theta = tissue.theta + tilt + moving * slide * inhaled
        rho = tissue.rho + press + moving * 0.02 * inhaled * (kind != "lung")
        if kind == "heart":
            squeezed = 0.22 * np.sin(np.pi * (time / beat + start)) ** 2
            pull = squeezed * np.exp(-(((rho - 0.54) / 0.3) ** 2) - (theta / 0.35) ** 2)
            rho, theta = rho - pull * (rho - 0.54), theta * (1 - pull)
        polar = _image(rho, theta, echo, tissue.absorption, scanner, blur, view)
        clip_frames.append(scan(polar))
    return np.stack(clip_frames)


def _blur(scanner: _Scanner) -> np.ndarray:
    """The pulse's transfer function, a Gaussian over the frequencies of the padded polar grid."""
    fz = np.fft.fftfreq(_SAMPLES + 2 * _MARGIN)[:, None] * scanner.axial
    fx = np.fft.fftfreq(_LINES + 2 * _MARGIN)[None] * scanner.lateral
    return np.exp(-2 * np.pi**2 * (fz**2 + fx**2))


def _image(rho, theta, echo, absorption, scanner, blur, rng) -> np.ndarray:
    shape = blur.shape
    row = rho * (_SAMPLES - 1) + _MARGIN
    column = (theta / scanner.half_angle + 1) / 2 * (_LINES - 1) + _MARGIN
    inside = (row >= 0) & (row < shape[0] - 1) & (column >= 0) & (column < shape[1] - 1)
    row, column, echo, absorption = row[inside], column[inside], echo[inside], absorption[inside]
    r, c = row.astype(int), column.astype(int)
    v, u = row - r, column - c
    field = np.zeros(shape, complex).ravel()
    place = r * shape[1] + c
    for step, weight in ((0, (1 - v) * (1 - u)), (1, (1 - v) * u), (shape[1], v * (1 - u)), (shape[1] + 1, v * u)):
        part = weight * echo
        field.real += np.bincount(place + step, part.real, field.size)
        field.imag += np.bincount(place + step, part.imag, field.size)
    field = np.fft.ifft2(np.fft.fft2(field.reshape(shape)) * blur)
    # shadows: absorption summed along each line of sight
    coarse = (shape[0] // 8, shape[1] // 4)
    place = np.minimum(r // 8, coarse[0] - 1) * coarse[1] + np.minimum(c // 4, coarse[1] - 1)
    n = coarse[0] * coarse[1]
    mean = np.bincount(place, absorption, n) / np.maximum(np.bincount(place, minlength=n), 1)
    lost = np.cumsum(mean.reshape(coarse), 0) * 8 / _SAMPLES
    lost = np.repeat(np.repeat(lost, 8, 0), 4, 1)
    full = np.zeros(shape)
    full[: lost.shape[0], : lost.shape[1]] = lost
    field *= 10 ** (-full.clip(-6, 60) / 20)
    field = field[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    depth = np.linspace(0, 1, _SAMPLES)[:, None]
    noise = rng.normal(0, 1, (2, *field.shape)) * 10 ** ((-34 + 8 * depth) / 20)
    level = 20 * np.log10(np.abs(field / np.sqrt((np.abs(echo) > 0).mean()) + noise[0] + 1j * noise[1]) + 1e-9)
    level += scanner.gain + scanner.depth_gain * depth
    return (255 * (0.6 + level / scanner.dynamic_range)).clip(0, 255)


def _scan_converter(scanner, size):
    half = scanner.half_angle
    bottom = scanner.radius + 1
    top = scanner.radius * np.cos(half)
    scale = max(bottom - top, 2 * bottom * np.sin(half)) / (size - 2)
    y, x = np.mgrid[:size, :size]
    z = top + (y - 1) * scale
    x = (x - (size - 1) / 2) * scale
    r, t = np.hypot(x, z) - scanner.radius, np.arctan2(x, z)
    inside = (r >= 0) & (r <= 1) & (np.abs(t) <= half)
    row = r[inside] * (_SAMPLES - 1)
    col = (t[inside] / half + 1) / 2 * (_LINES - 1)
    i, j = np.minimum(row.astype(int), _SAMPLES - 2), np.minimum(col.astype(int), _LINES - 2)
    v, u = row - i, col - j

    def scan(polar):
        out = np.zeros((size, size), np.uint8)
        p = polar
        out[inside] = np.rint((1 - v) * ((1 - u) * p[i, j] + u * p[i, j + 1]) + v * ((1 - u) * p[i + 1, j] + u * p[i + 1, j + 1]))
        return out

    return scan


def kind_of(patient: int) -> Kind:
    return KINDS[patient % len(KINDS)]


def label_of(patient: int) -> str:
    return LABELS[patient % 2]
