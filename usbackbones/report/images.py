"""Frames inside the file, as small JPEGs, and what the network looked at laid over them."""

from base64 import b64encode
from io import BytesIO

import numpy as np

from usbackbones.report.markup import Markup, element

LONGEST = 192
"""Longest side in pixels: enough to know a frame by, and a gallery of a hundred stays under a megabyte."""


def figure(caption: str, frame: np.ndarray, class_: str = "") -> Markup:
    """A frame, uint8 [H, W] or [H, W, 3], with its caption."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((LONGEST, LONGEST))
    stream = BytesIO()
    image.save(stream, "JPEG", quality=80)
    address = f"data:image/jpeg;base64,{b64encode(stream.getvalue()).decode()}"
    picture = element("img", src=address, alt=caption, width=image.width, height=image.height)
    return element("figure", picture, element("figcaption", caption), class_=class_ or None)


def overlay(frame: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A frame with heat over it: the hotter, the more orange; what is cold stays as gray as it is.

    Args:
        frame: uint8 [H, W].
        heat: float [h, w], not negative; stretched over the frame. Its 99th percentile is as hot as it gets, so that
            one pixel cannot make all others look cold.

    Returns:
        uint8 [H, W, 3].
    """
    from PIL import Image

    height, width = frame.shape
    top = float(np.quantile(heat, 0.99)) or 1.0
    level = Image.fromarray(np.clip(heat / top, 0, 1).astype(np.float32))
    share = 0.65 * np.asarray(level.resize((width, height), Image.Resampling.BILINEAR))[..., None]
    gray = np.repeat(frame[..., None], 3, axis=2).astype(np.float32)
    return (gray * (1 - share) + np.array([255, 110, 0], np.float32) * share).round().astype(np.uint8)
