"""One frame -> one random view, on uint8 gray images; and the settings of the papers by name.

On gray frames the saturation and hue of the usual color jitter do nothing, so a view is a crop, a flip and an
intensity curve. The curve is one look-up table of 256 entries: brightness and contrast cost the same as either alone.
What only ultrasound has (depth, speckle, the beam) comes from `training.data.views.ultrasound` and is off by default.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from training.data.views.random_numbers import Drawn, Speckle, Tone
from training.data.views.ultrasound import add_speckle, change_depth, equalise, find_beam, smooth, speckle_noise


@dataclass(frozen=True)
class Augment:
    """Random depth, resized crop, flip, speckle, smoothing, local contrast, blur, brightness, contrast and gamma.

    They are applied in this order, each with parameters of its own for every view.

    Attributes:
        size: side of the view, pixels.
        area: share of the frame's area that is kept, drawn uniformly from this range within 0..1; 1 1 is no crop.
        aspect: width / height of the crop in pixels of the frame, drawn log-uniformly from this range.
        flip: probability of a mirror image, left for right, 0..1.
        brightness: b of the factor on gray levels, drawn from U(1 - b, 1 + b); 0 is off.
        contrast: c of the factor on distances from the view's mean gray level, drawn from U(1 - c, 1 + c); 0 is off.
        jitter: probability, 0..1, that brightness and contrast are changed at all; their order is random.
        jitter_apart: draw that chance for brightness and for contrast apart, not once for both.
        gamma: g of the exponent on gray levels, drawn log-uniformly from (1 / (1 + g), 1 + g); 0 is off.
        blur: largest sigma of a Gaussian blur in pixels, drawn from U(0.1, blur); 0 is off.
        blur_chance: probability of the blur, 0..1.
        blur_kernel: side of its kernel in pixels, odd; 0 makes it as wide as sigma asks.
        beam: find the beam of each frame: depth and speckle then follow its lines of sight, contrast is about the
            mean inside, and what is black or lies outside stays black. A frame without a black surround is all beam.
        depth: zoom about the transducer's face (without `beam`, about the middle of the frame's top), drawn
            log-uniformly from (1 / (1 + d), 1 + d); 0 is off.
        depth_chance: probability of the zoom, 0..1.
        speckle: largest strength of speckle noise in square roots of gray levels, drawn from U(0, s); 0 is off.
        speckle_chance: probability of the speckle, 0..1.
        smooth: largest deviation in gray levels of a bilateral filter, drawn from U(0, s); 0 is off.
        smooth_chance: probability of the filter, 0..1.
        clahe: largest clip limit of local contrast equalisation, drawn from U(1, c); 0 is off.
        clahe_chance: probability of the equalisation, 0..1.
    """

    size: int = 96
    area: tuple[float, float] = (0.8, 1.0)
    aspect: tuple[float, float] = (0.8, 1.25)
    flip: float = 0.5
    brightness: float = 0.8
    contrast: float = 0.8
    jitter: float = 1.0
    jitter_apart: bool = False
    gamma: float = 0.0
    blur: float = 0.0
    blur_chance: float = 0.5
    blur_kernel: int = 0
    beam: bool = False
    depth: float = 0.0
    depth_chance: float = 0.5
    speckle: float = 0.0
    speckle_chance: float = 0.5
    smooth: float = 0.0
    smooth_chance: float = 0.5
    clahe: float = 0.0
    clahe_chance: float = 0.5

    def __call__(self, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A view uint8 [size, size] of a frame uint8 [H, W]."""
        return self.apply(frame, self.draw(frame.shape[0], frame.shape[1], rng))

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Drawn:
        """All random numbers of a view of a frame [height, width]."""

        def chosen(strength: float, chance: float) -> bool:
            return bool(strength and rng.random() < chance)

        return Drawn(  # its arguments are evaluated, hence drawn, in this order
            zoom=log_uniform(self.depth, rng) if chosen(self.depth, self.depth_chance) else None,
            box=self.crop_box(height, width, rng),
            mirrored=rng.random() < self.flip,
            speckle=Speckle(rng.uniform(0, self.speckle), speckle_noise(rng))
            if chosen(self.speckle, self.speckle_chance)
            else None,
            smooth=rng.uniform(0, self.smooth) if chosen(self.smooth, self.smooth_chance) else None,
            clahe=rng.uniform(1, self.clahe) if chosen(self.clahe, self.clahe_chance) else None,
            blur=rng.uniform(0.1, self.blur) if chosen(self.blur, self.blur_chance) else None,
            tone=self.draw_tone(rng),
        )

    def apply(self, frame: np.ndarray, drawn: Drawn) -> np.ndarray:
        """The view uint8 [size, size] of a frame uint8 [H, W] with random numbers that were drawn for its shape."""
        beam = find_beam(frame) if self.beam else None
        if drawn.zoom is not None:
            frame = change_depth(frame, drawn.zoom, beam.face if beam else ((frame.shape[1] - 1) / 2, 0.0))
            beam = beam and beam.zoomed(drawn.zoom)
        top, left, height, width = drawn.box
        crop = frame[top : top + height, left : left + width]
        # INTER_LINEAR aliases speckle when it shrinks; INTER_AREA takes each pixel's share of the area.
        view = cv2.resize(crop, (self.size, self.size), interpolation=cv2.INTER_AREA)
        if drawn.mirrored:
            view = cv2.flip(view, 1)
        beam = beam and beam.viewed(drawn.box, self.size, drawn.mirrored)
        if drawn.speckle is not None:
            view = add_speckle(view, drawn.speckle.strength, drawn.speckle.noise, beam.apex if beam else None)
        if drawn.smooth is not None:
            view = smooth(view, drawn.smooth)
        if drawn.clahe is not None:
            view = equalise(view, drawn.clahe)
        if drawn.blur is not None:
            view = cv2.GaussianBlur(view, (self.blur_kernel, self.blur_kernel), drawn.blur)
        if not beam:
            return cv2.LUT(view, drawn.tone.curve(view))
        return cv2.bitwise_and(cv2.LUT(view, drawn.tone.curve(view, beam.mask)), beam.mask)

    def crop_box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a crop; the whole frame if ten draws do not fit (torchvision's rule)."""
        for _ in range(10):
            area = height * width * rng.uniform(*self.area)
            aspect = np.exp(rng.uniform(*np.log(self.aspect)))
            w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
        return 0, 0, height, width

    def draw_tone(self, rng: np.random.Generator) -> Tone:
        """The random numbers of the intensity curve."""
        brighter, harder = (rng.random(1 + self.jitter_apart) < self.jitter)[[0, -1]]
        tone = Tone()
        if brighter or harder:
            tone = Tone(
                jittered=True,
                brightness=rng.uniform(max(0, 1 - self.brightness), 1 + self.brightness) if brighter else 1.0,
                contrast=rng.uniform(max(0, 1 - self.contrast), 1 + self.contrast) if harder else 1.0,
                brightness_first=rng.random() < 0.5,
            )
        return replace(tone, gamma=log_uniform(self.gamma, rng)) if self.gamma else tone


def log_uniform(largest: float, rng: np.random.Generator) -> float:
    """A factor drawn log-uniformly from (1 / (1 + largest), 1 + largest)."""
    return float(np.exp(rng.uniform(-1, 1) * np.log1p(largest)))


# What the released codes do; on their gray frames saturation, hue and grayscale conversion change nothing.
USCL = Augment(size=224)
META_USCL = Augment(size=64, area=(0.7, 1.0), brightness=0.64, contrast=0.64)
AWCL = Augment(size=227, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), brightness=0.4, contrast=0.4, jitter=0.8)
# Its aspect is not stated; this is torchvision's.
IVPP = Augment(
    size=224,
    area=(0.4, 1.0),
    aspect=(3 / 4, 4 / 3),
    brightness=0.25,
    contrast=0.25,
    jitter=0.5,
    jitter_apart=True,
    blur=2.0,
    blur_chance=0.25,
    blur_kernel=5,
)
# Ours: nothing that changes what is seen. No crop, since global context is part of the meaning; set `area` where a
# task is local. The strengths are the largest at which real lung clips still looked as if a scanner had made them.
ULTRASOUND = Augment(
    size=224,
    area=(1.0, 1.0),
    aspect=(1.0, 1.0),
    brightness=0.25,
    contrast=0.25,
    gamma=0.35,
    beam=True,
    depth=0.25,
    speckle=0.8,
    speckle_chance=1 / 3,
    smooth=60.0,
    smooth_chance=1 / 3,
    clahe=2.0,
    clahe_chance=0.2,
)
PRESETS = {"uscl": USCL, "meta_uscl": META_USCL, "awcl": AWCL, "ivpp": IVPP, "ultrasound": ULTRASOUND}
