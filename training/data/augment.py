"""One frame -> one random view, on uint8 gray images.

On gray frames the saturation and hue of the usual colour jitter do nothing, so a view is a crop, a flip and an
intensity curve. The curve is one look-up table of 256 entries: brightness and contrast cost the same as either alone.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Augment:
    """Random resized crop, flip, brightness, contrast, gamma and blur.

    Attributes:
        size: side of the view, pixels.
        area: share of the frame's area that is cropped, drawn uniformly from this range.
        aspect: width / height of the crop, drawn log-uniformly from this range.
        flip: probability of a mirror image.
        brightness: factor drawn from U(1 - b, 1 + b).
        contrast: factor about the view's mean, drawn from U(1 - c, 1 + c).
        jitter: probability that brightness and contrast are changed at all; their order is random.
        gamma: exponent drawn log-uniformly from (1 / (1 + g), 1 + g); 0 switches it off.
        blur: largest sigma of a Gaussian blur in pixels, drawn from U(0.1, blur) half of the time; 0 is off.
    """

    size: int = 96
    area: tuple[float, float] = (0.8, 1.0)
    aspect: tuple[float, float] = (0.8, 1.25)
    flip: float = 0.5
    brightness: float = 0.8
    contrast: float = 0.8
    jitter: float = 1.0
    gamma: float = 0.0
    blur: float = 0.0

    def __call__(self, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A view uint8 [size, size] of a frame uint8 [H, W]."""
        top, left, height, width = self.crop_box(frame.shape[0], frame.shape[1], rng)
        crop = frame[top : top + height, left : left + width]
        # INTER_LINEAR aliases speckle when it shrinks; INTER_AREA is plain linear when it enlarges.
        view = cv2.resize(crop, (self.size, self.size), interpolation=cv2.INTER_AREA)
        if rng.random() < self.flip:
            view = cv2.flip(view, 1)
        if self.blur and rng.random() < 0.5:
            view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.1, self.blur))
        return cv2.LUT(view, self.intensity_curve(view, rng))

    def crop_box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a crop; the whole frame if ten draws do not fit (torchvision's rule)."""
        for _ in range(10):
            area = height * width * rng.uniform(*self.area)
            aspect = np.exp(rng.uniform(*np.log(self.aspect)))
            w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
        return 0, 0, height, width

    def intensity_curve(self, view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 [256]: the gray level that each gray level of this view becomes."""
        curve = np.arange(256, dtype=np.float64)
        if rng.random() < self.jitter:
            brightness = rng.uniform(max(0, 1 - self.brightness), 1 + self.brightness)
            contrast = rng.uniform(max(0, 1 - self.contrast), 1 + self.contrast)
            histogram = np.bincount(view.ravel(), minlength=256) / view.size
            for brighten in (True, False) if rng.random() < 0.5 else (False, True):
                changed = brightness * curve if brighten else contrast * curve + (1 - contrast) * (histogram @ curve)
                curve = changed.clip(0, 255)
        if self.gamma:
            curve = 255 * (curve / 255) ** np.exp(rng.uniform(-1, 1) * np.log1p(self.gamma))
        return curve.round().astype(np.uint8)
