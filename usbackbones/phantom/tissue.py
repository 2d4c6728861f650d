"""The patients of the simulator: scatterers, the organs that are drawn with them, and how each is scanned.

Lengths are fractions of the imaging depth, angles radians, levels decibels over speckle of unit power; x is lateral,
z points into the body, and (rho, theta) are depth below the curved probe and angle across the sector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["abdomen", "lung", "heart"]
SCATTERERS = 60_000
REACH = ((-0.08, 1.08), (-1.4, 1.4))  # of the scatterers in rho and in theta / half angle: more than the sector


@dataclass(frozen=True)
class Scanner:
    """How a patient was scanned: the sector, the pulse (sigma in samples and lines) and the knobs (dB)."""

    radius: float
    half_angle: float
    axial: float
    lateral: float
    gain: float
    depth_gain: float
    dynamic_range: float


SCANNERS = ((0.2, 0.45, 1.7, 1.4, -4, -8, 50), (0.5, 0.65, 2.6, 2.3, 5, 2, 62))  # the least and the most of each


class Tissue:
    """The scatterers of one patient at rest: where they lie, how they echo, how they absorb [SCATTERERS]."""

    def __init__(self, scanner: Scanner, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rho = rng.uniform(*REACH[0], SCATTERERS)
        self.theta = rng.uniform(*REACH[1], SCATTERERS) * scanner.half_angle
        self.x = (scanner.radius + self.rho) * np.sin(self.theta)
        self.z = (scanner.radius + self.rho) * np.cos(self.theta) - scanner.radius
        self.phase = rng.uniform(0, 2 * np.pi, SCATTERERS)
        self.level = 2 * self.bumps(3) + 2 * self.bumps(10)
        self.uneven = 3 * self.bumps(14)  # of reflectors
        self.absorption = np.zeros(SCATTERERS)  # dB per imaging depth, beyond what the scanner makes up for

    def bumps(self, frequency: float, waves: int = 8) -> np.ndarray:
        """A smooth random field of about unit variance."""
        kx, kz = self.rng.normal(0, frequency, (2, waves, 1))
        shift = self.rng.uniform(0, 2 * np.pi, (waves, 1))
        return np.sin(kx * self.x + kz * self.z + shift).sum(0) * np.sqrt(2 / waves)

    def fill(self, where: np.ndarray, level: float, absorption: float = 0.0) -> None:
        """Give a region, a mask over the scatterers, another mean level; it keeps some of its texture."""
        self.level[where] = level + 0.5 * self.level[where].clip(-6, 6)
        self.absorption[where] = absorption

    def line(self, distance: np.ndarray, level: float, width: float = 0.004, facing: float | np.ndarray = 1) -> None:
        """Draw a smooth reflector where `distance` is near 0: its echoes are in phase and add up.

        `facing` is the cosine between its normal and the beam: it shines where it faces the probe and fades
        where it slopes away.
        """
        near = np.abs(distance) < width
        shine = level + self.uneven - 22 * (1 - facing)
        self.level[near] = np.maximum(shine, self.level)[near]
        self.phase[near & (shine > self.level - 12)] = 0.0

    def ellipse(
        self, x: float, z: float, a: float, b: float, tilt: float, fill: float, rim: float, absorption: float = 0.0
    ) -> None:
        """A filled ellipse at (x, z) with half axes a and b and a reflecting rim."""
        cos, sin = np.cos(tilt), np.sin(tilt)
        u = (self.x - x) * cos + (self.z - z) * sin
        v = (self.z - z) * cos - (self.x - x) * sin
        radius, slope = np.hypot(u / a, v / b), np.hypot(u / a**2, v / b**2)
        normal = (u * cos / a**2 - v * sin / b**2) / slope, (u * sin / a**2 + v * cos / b**2) / slope
        self.fill(radius < 1, fill, absorption)
        facing = np.abs(normal[0] * np.sin(self.theta) + normal[1] * np.cos(self.theta))
        self.line((radius - 1) * radius / slope, rim, 0.004, facing)

    def wall(self, thickness: float) -> np.ndarray:
        """Skin, fat and muscle under the probe. Returns the depth below the last of them, negative inside."""
        edges = np.append(np.sort(self.rng.uniform(0.02, 0.9 * thickness, 4)), thickness)
        wave = 0.05 * self.bumps(4)
        for edge in edges[::-1]:
            depth = self.rho - edge * (1 + wave)
            self.fill(depth < 0, self.rng.uniform(-10, 2))
            self.line(depth, self.rng.uniform(-4, 5), 0.003)
        self.fill(self.rho < 0.01, 9)
        return self.rho - thickness * (1 + wave)


def _abdomen(tissue: Tissue, lesion: bool) -> np.ndarray:
    """Parenchyma with vessels before a diaphragm; the lesion is a stone with its shadow in a dark bladder."""
    draw = tissue.rng.uniform
    tissue.ellipse(draw(-0.4, 0.4), draw(0.1, 0.3), 1.1, draw(0.5, 0.65), draw(-0.3, 0.3), draw(-6, 0), 9)
    for _ in range(tissue.rng.integers(4, 9)):
        size = draw(0.012, 0.035)
        tissue.ellipse(draw(-0.5, 0.5), draw(0.3, 0.85), size * draw(1, 5), size, draw(-1, 1), -30, draw(-6, 3), -9)
    if lesion:
        x, z, size = draw(-0.15, 0.15), draw(0.35, 0.5), draw(0.09, 0.14)
        tissue.ellipse(x, z, 1.6 * size, size, draw(-0.5, 0.5), -34, 2, -15)
        tissue.ellipse(x, z + 0.6 * size, 0.3 * size, 0.22 * size, 0, 8, 12, 900)
    return tissue.wall(draw(0.1, 0.22))


def _lung(tissue: Tissue, lesion: bool) -> np.ndarray:
    """Ribs, the pleural line and below it A-lines; the lesion is B-lines in their place."""
    draw, depth = tissue.rng.uniform, tissue.rng.uniform(0.16, 0.27)
    below = tissue.wall(depth)
    tissue.fill(below > 0, draw(-16, -9), 14)
    for order in range(2, 6):
        tissue.line(tissue.rho - order * (tissue.rho - below), (-14 if lesion else 4) - 5 * order)
    if lesion:
        for middle in draw(-0.75, 0.75, tissue.rng.integers(3, 6)) * tissue.theta.max() / REACH[1][1]:
            width = draw(0.02, 0.05) * np.exp(0.15 * tissue.uneven)
            tissue.fill((below > 0) & (np.abs(tissue.theta - middle) < width), draw(0, 5), 4)
    for side in (-1, 1):
        tissue.ellipse(side * draw(0.22, 0.4), 0.6 * depth, 0.07, 0.03, 0, 0, 10, 1200)
    tissue.line(below, 8, 0.005)
    return below


def _heart(tissue: Tissue, lesion: bool) -> np.ndarray:
    """Two chambers in a muscle; the lesion is fluid in the sac around it."""
    draw = tissue.rng.uniform
    x, z, tilt, a, b = draw(-0.08, 0.08), draw(0.5, 0.58), draw(-0.6, 0.6), draw(0.17, 0.22), draw(0.22, 0.28)
    tissue.level += draw(-9, -3)
    tissue.ellipse(x, z, a + 0.12, b + 0.12, tilt, -36 if lesion else -7, 9, -10)
    tissue.ellipse(x, z, a + 0.06, b + 0.06, tilt, draw(-4, 1), -1)
    for side in (-0.5, 0.5):
        place = x + side * a * np.cos(tilt), z + side * a * np.sin(tilt)
        tissue.ellipse(*place, a * draw(0.42, 0.54), b * draw(0.8, 1.0), tilt, -34, 0, -6)
    return tissue.wall(draw(0.08, 0.16))


ORGANS: dict[Kind, Callable[[Tissue, bool], np.ndarray]] = {"abdomen": _abdomen, "lung": _lung, "heart": _heart}
