"""Warnings that the gray frames of a clip would hide: color Doppler, pixels of too few bits, transparency."""

import numpy as np

from usbackbones.clips.formats.base import Facts, Request

_VIVID = 80  # gray levels between the strongest and weakest of R, G, B: above that of tinted B-mode and JPEG's noise
_SHARE = 0.005  # of the pixels; less is a marker or a cursor
_NARROW = 65536 // 8


def is_vivid(picture: np.ndarray) -> bool:
    """Whether pixels of uint8 [H, W, 3], RGB, are vivid as those of color Doppler are; B-mode in a tint is not."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    # Not max(-1) and min(-1), which take five times as long over an axis of three.
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return bool((spread > _VIVID).mean() >= _SHARE)


class Watch:
    """Looks at the frames of one clip as they go by.

    Attributes:
        warn: gets each warning as one line.
        facts: of the clip; whether it holds color is written there.
    """

    def __init__(self, request: Request, facts: Facts) -> None:
        self.warn, self.facts, self._path = request.warn, facts, request.path
        self._narrow = self._see_through = False

    def look(self, picture: np.ndarray) -> None:
        """Look for color Doppler in a frame uint8 [H, W, 3], RGB; every second row and column suffices."""
        if not self.facts.color and is_vivid(picture[::2, ::2]):
            self.tell_color("color Doppler, or other color on the screen (its pixels are vivid)")

    def tell_color(self, what: str) -> None:
        """Note that the clip holds color, and what it is."""
        self.facts.color = True
        self.warn(f"{self._path}: holds {what}; only its brightness is kept")

    def measure(self, values: np.ndarray, name: str) -> None:
        """Look whether 16-bit values uint16 [H, W] leave most of their range unused, as 12 bits of a scanner do."""
        most = int(values.max(initial=0))
        if 0 < most < _NARROW and not self._narrow:
            self._narrow = True
            self.warn(
                f"{name}: its 16-bit pixels reach only {most} of 65535, so that it comes out dark; if they hold fewer "
                "bits, multiply them (12 bits by 16) and save it again"
            )

    def measure_guess(self, values: np.ndarray, low: int, high: int, shown: np.ndarray) -> None:
        """Look whether values [H, W] leave most of the range low..high unused that was taken where no window is told.

        Args:
            values: whole numbers.
            low: the least that their bits can hold.
            high: the greatest.
            shown: the gray levels that were made of them.
        """
        least, most = int(values.min()), int(values.max())
        if least < most and (most - least) * 8 < high - low and not self._narrow:
            self._narrow = True
            self.warn(
                f"{self._path}: no window in its header, and values reach only from {least} to {most} of {low} to "
                f"{high}, so that they come out as gray {shown.min()} to {shown.max()} of 255; export it with Window "
                "Center and Window Width, or in 8 bits"
            )

    def tell_transparency(self, name: str) -> None:
        """Note that pixels are see-through, which viewers show as what lies behind the image."""
        if not self._see_through:
            self._see_through = True
            self.warn(f"{name}: some of its pixels are transparent; the color that is stored below is what was read")
