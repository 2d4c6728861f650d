"""A contact sheet: what the network sees of a clip, for each augmentation preset or recipe, as one PNG.

    python -m training.show_views --data cache/lung -o sheet.png
    python -m training.show_views --data cache/lung --recipe uscl simclr --preset ultrasound -o sheet.png

The views are those of the first steps of a run, drawn by the loader itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from training.data.batches.sampling import StepBatches
from training.data.cache import Cache, open_cache
from training.data.errors import CorpusError, short_errors
from training.data.views.augment import PRESETS
from training.methods.simclr import SimCLR
from training.recipes import RECIPES, Recipe
from usbackbones._evenly import evenly
from usbackbones._files import atomic_write
from usbackbones._words import plural

_BACKGROUND, _INK, _FAINT = 44, 255, 160  # gray levels; the background is not black, so that a view's border shows
_TILE, _LABEL, _GAP, _TITLE = 128, 132, 12, 24  # pixels: side of a picture, width of the names, spaces


class SheetError(ValueError):
    """A sheet that cannot be drawn as asked."""


@dataclass(frozen=True)
class Line:
    """One line of the sheet: a name, what it is, and the recipe that draws the views."""

    name: str
    about: str
    recipe: Recipe


def lines_of(recipes: tuple[str, ...], presets: tuple[str, ...]) -> list[Line]:
    """The lines by name; all presets if nothing is named. A preset is shown as two views of one frame.

    Raises:
        SheetError: for a name that does not exist.
    """
    presets = presets or (() if recipes else tuple(PRESETS))
    for kind, names, known in (("recipe", recipes, [*RECIPES]), ("preset", presets, [*PRESETS])):
        for name in names:
            if name not in known:
                raise SheetError(f"there is no {kind} {name!r}: choose from {', '.join(known)}")
    chosen = [Line(name, type(RECIPES[name][1].method).__name__, RECIPES[name][1]) for name in recipes]
    return chosen + [Line(name, "preset", Recipe(method=SimCLR(), augment=PRESETS[name])) for name in presets]


def drawn_views(recipe: Recipe, cache: Cache, clip: int, draws: int) -> list[np.ndarray]:
    """What the network gets of a clip in the first steps: `draws` times uint8 [V, S, S], normalisation undone."""
    data = StepBatches(
        cache,
        np.array([clip]),
        recipe.method,
        recipe.augment,
        batch=1,
        seed=recipe.seed,
        mean=recipe.mean,
        std=recipe.std,
        steps=draws,
    )
    views = [(data[step].views[:, 0, 0] * recipe.std + recipe.mean) * 255 for step in range(draws)]
    return [view.round().clamp(0, 255).byte().numpy() for view in views]


def draw_sheet(cache: Cache, lines: list[Line], clips: int, draws: int) -> Image.Image:
    """The sheet of some clips, evenly spaced in the cache; each is a block of its frames and a line for each recipe.

    A line shows `draws` pairs of views.

    Raises:
        SheetError: if a number is not positive.
    """
    if clips < 1 or draws < 1:
        raise SheetError(f"{clips} clips and {draws} pairs: a sheet needs at least one of each")
    chosen = evenly(len(cache.clips), clips)
    blocks = [[drawn_views(line.recipe, cache, int(clip), draws) for line in lines] for clip in chosen]
    per_draw = max(len(views) for block in blocks for line in block for views in line)
    width = _LABEL + draws * (per_draw * _TILE + _GAP)
    height = _TITLE + (_TILE + _GAP) * (1 + len(lines))  # of a block
    sheet = Image.new("L", (width, height * len(blocks)), _BACKGROUND)
    for number, (clip, block) in enumerate(zip(chosen, blocks, strict=True)):
        top = number * height
        entry, frames = cache.clips[clip], cache.clip(int(clip))
        kept = evenly(len(frames), draws * per_draw)
        seconds = f", {entry.seconds_per_frame:.3g} s apart" if entry.seconds_per_frame else ""
        label = entry.row.label or "unlabelled"
        _write(sheet, 6, top + 5, f"{entry.row.clip}: {label}, {plural(len(frames), 'frame')}{seconds}")
        columns = [frames[kept[first : first + per_draw]] for first in range(0, len(kept), per_draw)]
        _row(sheet, top + _TITLE, "frames", f"{cache.size} px", columns)
        for place, (line, views) in enumerate(zip(lines, block, strict=True), start=1):
            about = f"{line.about}, {line.recipe.augment.size} px"
            _row(sheet, top + _TITLE + place * (_TILE + _GAP), line.name, about, views)
    return sheet


def _row(sheet: Image.Image, top: int, name: str, about: str, groups: list[np.ndarray]) -> None:
    """Paste groups of pictures uint8 [V, S, S] beside their name, with a gap after each group."""
    _write(sheet, 6, top + 2, name)
    _write(sheet, 6, top + 20, about, _FAINT)
    left = _LABEL
    for group in groups:
        for picture in group:
            tile = cv2.resize(picture, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
            sheet.paste(Image.fromarray(tile), (left, top))
            left += _TILE
        left += _GAP


def _write(sheet: Image.Image, x: int, y: int, text: str, ink: int = _INK) -> None:
    ImageDraw.Draw(sheet).text((x, y), text, fill=ink, font=ImageFont.load_default(13))


@short_errors(CorpusError, SheetError)
def main(
    data: Path,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    recipe: tuple[str, ...] = (),
    preset: tuple[str, ...] = (),
    clips: int = 3,
    pairs: int = 4,
) -> None:
    """Draw a contact sheet of views.

    Args:
        data: a folder made by training.data.prepare.run.
        out: the PNG to write.
        recipe: recipes to show, with the pairs of their method; python -m training.pretrain --list names them.
        preset: augmentations to show, as two views of one frame; all of them if neither is named.
        clips: how many clips, evenly spaced in the corpus.
        pairs: how many pairs of views of each.
    """
    lines = lines_of(recipe, preset)
    cache = open_cache(data)
    sheet = draw_sheet(cache, lines, clips, pairs)
    with atomic_write(out) as stream:
        sheet.save(stream, format="PNG")
    shown = f"{min(clips, len(cache.clips))} of {plural(len(cache.clips), 'clip')}, {plural(len(lines), 'line')} each"
    print(f"{out}: {shown}, {sheet.width} x {sheet.height} pixels")  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
