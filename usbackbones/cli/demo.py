"""usbackbones demo: clips of simulated patients, their features, the nearest frames, and an image of them.

The first command that a newcomer runs. Everything is real but the patients: clips are written as mp4 and read back, the
weight is the one that users load.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usbackbones.cli.options import AsJson, Model, Out
from usbackbones.cli.terminal import CommandError, say, say_json, tell

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw

PATIENTS, CLIPS, STRIDE, SIZE = 6, 2, 2, 160
QUERIES, NEIGHBORS = 3, 5
TOO_NEAR = 6
"""Frames less than this away from the query in its own clip are its near copies and no result."""

_SCALE = 2  # drawn this much larger and then reduced, which smooths edges and text
_INK, _GRAY = (25, 25, 25), (120, 120, 120)
# Okabe and Ito's colors, which color-blind eyes tell apart.
_COLORS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233))


def demo_command(out: Out = Path("demo.png"), model: Model = None, as_json: AsJson = False) -> None:
    """Make ultrasound clips, embed them, report the nearest frames and draw them; needs no data and no network.

    Args:
        out: the PNG image; replaced whole if it is there.
        model: the weight, <arch>.<tag>; the default one if none is named.
        as_json: print the image's name as JSON, all else to stderr.
    """
    if out.suffix.lower() != ".png" or out.is_dir():
        raise CommandError(f"{out} is no name for an image; write for example -o demo.png")
    from usbackbones.hub.backbone import full_name

    name = full_name(model)
    show_demo(name, out, tell if as_json else say)
    if as_json:
        say_json({"file": out, "model": name})


@dataclass(frozen=True)
class Frame:
    """One frame, uint8 [H, W], and where it comes from."""

    pixels: np.ndarray
    patient: int
    clip: int
    number: int
    what: str

    def __str__(self) -> str:
        return f"patient {self.patient}, clip {self.clip}, frame {self.number}"


def show_demo(name: str, out: Path, line: Callable[[str], object]) -> None:
    """Make clips, embed their frames, report which frames are nearest to which, and draw it.

    Args:
        name: of the model, see `usbackbones.build_backbone`.
        out: the PNG to write.
        line: gets each line of the report.
    """
    from usbackbones._files import atomic_write
    from usbackbones._run_folder import require_writable
    from usbackbones.features.extract import embed
    from usbackbones.hub.backbone import build_backbone

    require_writable(out.parent)
    model = build_backbone(name, in_chans=None)
    with atomic_write(out) as stream:
        frames = make_frames()
        line(f"{len(frames)} frames of {PATIENTS * CLIPS} clips, {PATIENTS} simulated patients, read back from mp4")
        features = embed(model, [frame.pixels for frame in frames])
        line(f"{name}: features {list(features.shape)}, {features.dtype}")
        similarity = cosine(features)
        queries = [[frame.patient for frame in frames].index(patient) + TOO_NEAR for patient in range(QUERIES)]
        found = {query: nearest(query, frames, similarity[query]) for query in queries}
        for query, neighbors in found.items():
            line(f"nearest to {frames[query]} ({frames[query].what}), one frame of each clip:")
            for index in neighbors:
                line(f"  cos {similarity[query, index]:+.2f}  {frames[index]} ({frames[index].what})")
        draw(name, frames, features, found).save(stream, format="PNG")
    line(f"image: {out}")


def make_frames() -> list[Frame]:
    """Write an archive of phantoms as mp4, read it back, and return every `STRIDE`-th frame."""
    from usbackbones.clips.read import read_clip
    from usbackbones.phantom.simulator import phantom_archive

    frames = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = phantom_archive(folder, PATIENTS, CLIPS, size=SIZE)
        with manifest.open(newline="") as stream:
            for position, row in enumerate(csv.DictReader(stream)):
                patient, clip = divmod(position, CLIPS)
                pixels = read_clip(manifest.parent / row["path"], stride=STRIDE).frames
                what = f"{row['organ']}, {row['label']}"
                frames += [Frame(image, patient, clip, i * STRIDE, what) for i, image in enumerate(pixels)]
    return frames


def cosine(features: np.ndarray) -> np.ndarray:
    """Cosine similarity [N, N] of features [N, D] after their mean is taken off.

    Features that follow a ReLU share one large direction, next to which every cosine would be about 1.
    """
    import numpy as np

    centered = features - features.mean(0)
    unit = centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def nearest(query: int, frames: list[Frame], similarity: np.ndarray) -> list[int]:
    """The `NEIGHBORS` frames most similar to the query, at most one of each clip.

    One only, because a clip's other frames are near copies of it; and none of the query's own moment.
    """
    import numpy as np

    own = frames[query]
    chosen: dict[tuple[int, int], int] = {}
    for index in np.argsort(-similarity, kind="stable"):
        frame = frames[index]
        same_clip = (frame.patient, frame.clip) == (own.patient, own.clip)
        if not (same_clip and abs(frame.number - own.number) < TOO_NEAR):
            chosen.setdefault((frame.patient, frame.clip), int(index))
    return list(chosen.values())[:NEIGHBORS]


def draw(title: str, frames: list[Frame], features: np.ndarray, found: dict[int, list[int]]) -> Image.Image:
    """A row for each query with its neighbours, and beside them all frames in two dimensions."""
    from PIL import Image, ImageDraw

    similarity = cosine(features)
    page = Image.new("RGB", (1530 * _SCALE, 740 * _SCALE), "white")
    pen = ImageDraw.Draw(page)
    _write(pen, 24, 18, title, 20)
    _write(
        pen,
        24,
        46,
        "a frame of a simulated patient, and the nearest frames of other moments and clips, at most one of each clip",
        13,
        _GRAY,
    )
    for row, (query, neighbors) in enumerate(found.items()):
        y = 80 + row * 218
        _thumbnail(page, pen, 24, y, frames[query], "query: " + frames[query].what)
        for column, index in enumerate(neighbors):
            caption = f"{frames[index].what}   cos {similarity[query, index]:+.2f}"
            _thumbnail(page, pen, 220 + column * 172, y, frames[index], caption)
    _write(pen, 1110, 80, "all frames by their first two principal components", 13, _GRAY)
    _scatter(pen, 1110, 106, 390, frames, features, list(found))
    labels = {frame.patient: frame.what for frame in frames}
    for patient, what in labels.items():
        x, y = 1110 + patient % 2 * 200, 540 + patient // 2 * 26
        _dot(pen, x + 6, y + 8, 6, _COLORS[patient])
        _write(pen, x + 20, y, f"patient {patient}: {what}", 13)
    _write(pen, 1110, 626, "disc: clip 0   ring: clip 1   black circle: query", 13, _GRAY)
    return page.reduce(_SCALE)


def _thumbnail(page: Image.Image, pen: ImageDraw.ImageDraw, x: int, y: int, frame: Frame, caption: str) -> None:
    """A frame of 160 x 160 with its patient's color around it and two lines below."""
    from PIL import Image

    box = [edge * _SCALE for edge in (x - 3, y - 3, x + 163, y + 163)]
    pen.rectangle(box, fill=_COLORS[frame.patient])
    image = Image.fromarray(frame.pixels).resize((160 * _SCALE, 160 * _SCALE), Image.Resampling.BICUBIC)
    page.paste(image, (x * _SCALE, y * _SCALE))
    _write(pen, x, y + 167, str(frame), 12)
    _write(pen, x, y + 183, caption, 12, _GRAY)


def _scatter(
    pen: ImageDraw.ImageDraw, x: int, y: int, side: int, frames: list[Frame], features: np.ndarray, queries: list[int]
) -> None:
    """The frames in the plane of largest variance."""
    import numpy as np

    centered = features - features.mean(0)
    left, strength, _ = np.linalg.svd(centered, full_matrices=False)
    plane = left[:, :2] * strength[:2]
    share = strength[:2] ** 2 / max((strength**2).sum(), 1e-12)
    low, high = plane.min(0), plane.max(0)
    place = (plane - (low + high) / 2) / max((high - low).max(), 1e-12) * (side - 40) * [1, -1] + [
        x + side / 2,
        y + side / 2,
    ]
    pen.rectangle([edge * _SCALE for edge in (x, y, x + side, y + side)], outline=(200, 200, 200), width=_SCALE)
    for frame, (u, v) in zip(frames, place, strict=True):
        _dot(pen, u, v, 4, _COLORS[frame.patient], filled=frame.clip == 0)
    for query in queries:
        _dot(pen, place[query][0], place[query][1], 8, _INK, filled=False)
    _write(pen, x, y + side + 6, f"{share[0]:.0%} and {share[1]:.0%} of the variance", 13, _GRAY)


def _dot(
    pen: ImageDraw.ImageDraw, x: float, y: float, radius: int, color: tuple[int, int, int], filled: bool = True
) -> None:
    box = [edge * _SCALE for edge in (x - radius, y - radius, x + radius, y + radius)]
    pen.ellipse(box, fill=color if filled else None, outline=color, width=2 * _SCALE)


def _write(pen: ImageDraw.ImageDraw, x: int, y: int, text: str, size: int, color: tuple[int, int, int] = _INK) -> None:
    from PIL import ImageFont

    pen.text((x * _SCALE, y * _SCALE), text, color, ImageFont.load_default(size * _SCALE))
