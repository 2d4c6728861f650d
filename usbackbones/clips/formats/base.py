"""Interface of all readers: the request, the reading, and the errors of a clip."""

import re
import struct
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from usbackbones._errors import Refused
from usbackbones._words import plural

Warn = Callable[[str], object]
Frames = Generator[tuple[np.ndarray, float | None], None, None]
"""Gray frames uint8 [H, W], each with its time in seconds where the file tells it."""

GIVE = (
    "give a DICOM file, an mp4, mov, avi, mpeg, webm or gif video, a PNG, JPEG, BMP, TIFF or WebP image, "
    "NIfTI, MetaImage or NumPy frames, or a folder or zip of images"
)
MAX_PIXELS = 1 << 27  # of one frame: a header that promises more is a lie, and believing it costs the memory

# All that Pillow's decoders raise on damaged files; they have no common base.
PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, MemoryError, struct.error),
    Image.DecompressionBombError,
)
# The same for pydicom, nibabel and the codecs below them, which fail on damaged headers in every way there is.
PARSER_ERRORS = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, ArithmeticError, AssertionError),
    *(RuntimeError, MemoryError, SyntaxError, struct.error, zlib.error),
)


class ClipError(Refused):
    """A clip of which nothing can be read; one line that names the path, the fault and the remedy."""


@dataclass(frozen=True)
class Request:
    """What a reader is asked for.

    Attributes:
        path: file or folder.
        stride: every `stride`-th frame, from the first on.
        crop: whether the frames are cut to the B-mode region, where the file names one.
        identify: whether the pseudonyms of patient and study are wanted.
        salt: what they are made with; None for the user's own, see `usbackbones.clips.dicom.identity`.
        stored: volumes give their numbers float64 [H, W] as they are, gray DICOM its integers: labels, and no gray.
        warn: gets each warning as one line.
    """

    path: Path
    stride: int
    warn: Warn
    crop: bool = True
    identify: bool = False
    salt: str | None = None
    stored: bool = False


@dataclass
class Facts:
    """What a file tells besides its frames; the fields mean what those of `usbackbones.clips.read.Clip` do.

    They are filled in by the time of the first frame; only `color` and `name` may change with each that is taken.

    Attributes:
        patient_form: as `patient`, but the same for all ways of writing an id, see `usbackbones._same_name`.
        axes: directions in space of a volume's axes, as its file writes them; empty where it tells none.
        name: of the file that the frame taken last was read from, in a folder or zip of stills; else "".
    """

    spacing_mm: tuple[float, float] | None = None
    patient: str | None = None
    patient_form: str | None = None
    study: str | None = None
    id_source: str | None = None
    color: bool = False
    axes: tuple[float, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Reading:
    """An opened clip: its frames, decoded as they are asked for, and its facts."""

    frames: Frames
    facts: Facts = field(default_factory=Facts)


def luma(image: Image.Image) -> np.ndarray:
    """Gray uint8 [H, W] of an 8-bit picture, full range ITU-R BT.601."""
    return np.array(image.convert("L"))


def natural(name: str) -> list[str | int]:
    """A sort key in which runs of digits count as numbers: frame2 before frame10."""
    parts = re.split(r"([0-9]+)", name.casefold())  # every second part is a number
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def by_parts(path: Path) -> list[tuple[list[str | int], str]]:
    """A sort key by the natural order of every part of a path: frame2 before frame10."""
    return [(natural(Path(part).stem), part) for part in path.parts]


def shortened(names: list[str], show: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:show]) + (f" and {len(names) - show} more" if len(names) > show else "")


def passed_over(files: list[Path], below: Path, why: str) -> str:
    """A line that counts and names files that are not used, from `below`, and says why; "" where there are none."""
    if not files:
        return ""
    names = [file.relative_to(below).as_posix() if file.is_relative_to(below) else str(file) for file in files]
    return f"passed over {plural(len(files), 'file')} {why}: {shortened(names)}"
