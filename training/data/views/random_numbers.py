"""The random numbers of one view, drawn before any pixel is touched, so that a CPU and a GPU can make the same view."""

from dataclasses import dataclass

import cv2
import numpy as np

from training.data.views.ultrasound import LIFT


@dataclass(frozen=True)
class Tone:
    """Brightness, contrast and gamma of a view; by default nothing is changed.

    Attributes:
        jittered: whether brightness or contrast is changed at all.
        brightness: factor on gray levels.
        contrast: factor on distances from the view's mean gray level.
        brightness_first: which of the two comes first.
        gamma: exponent on gray levels of the 0..1 scale, the last of the three.
    """

    jittered: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    brightness_first: bool = True
    gamma: float = 1.0

    def curve(self, view: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """uint8 [256]: the gray level that each gray level of this view, where mask is not 0, becomes.

        With a mask, black is the lack of an echo and stays black: nothing becomes more than `LIFT` times as bright.
        """
        curve = np.arange(256, dtype=np.float64)
        if self.jittered:
            histogram = cv2.calcHist([view], [0], mask, [256], [0, 256]).ravel().astype(np.float64)
            histogram /= max(histogram.sum(), 1)  # a crop beside the beam has no pixel inside
            for brighten in (True, False) if self.brightness_first else (False, True):
                if brighten:
                    curve = (self.brightness * curve).clip(0, 255)
                else:
                    curve = (self.contrast * curve + (1 - self.contrast) * (histogram @ curve)).clip(0, 255)
        if self.gamma != 1:
            curve = 255 * (curve / 255) ** self.gamma
        if mask is not None:
            curve = np.minimum(curve, LIFT * np.arange(256))
        return curve.round().astype(np.uint8)


@dataclass(frozen=True)
class Speckle:
    """See `training.data.views.ultrasound.add_speckle`: its strength and its noise."""

    strength: float
    noise: np.ndarray


@dataclass(frozen=True)
class Drawn:
    """What `training.data.views.augment.Augment` does to one frame; None is an operator left out.

    Attributes:
        zoom: of the depth.
        box: (top, left, height, width) of the crop, pixels.
        mirrored: left for right.
        speckle: its strength and noise.
        smooth: deviation of the bilateral filter, gray levels.
        clahe: clip limit of the local contrast.
        blur: sigma of the Gaussian blur, pixels.
        tone: brightness, contrast and gamma.
    """

    zoom: float | None
    box: tuple[int, int, int, int]
    mirrored: bool
    speckle: Speckle | None
    smooth: float | None
    clahe: float | None
    blur: float | None
    tone: Tone
