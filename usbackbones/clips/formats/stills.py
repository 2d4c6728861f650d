"""Images, animated and multi-page ones, and folders of stills, through Pillow."""

from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from usbackbones._words import plural
from usbackbones.clips.formats.base import (
    GIVE,
    PILLOW_ERRORS,
    ClipError,
    Facts,
    Frames,
    Reading,
    Request,
    luma,
    natural,
    shortened,
)
from usbackbones.clips.formats.kinds import Kind, file_kind
from usbackbones.clips.formats.layouts import LAYOUTS, layout_of, sixteen_bits
from usbackbones.clips.formats.names import is_litter, label_maps, real
from usbackbones.clips.formats.upright import exif_orientation, upright
from usbackbones.clips.formats.watch import Watch

_GRAY = ("1", "L", "LA")  # Pillow's modes without color


def open_image(request: Request, format_name: str) -> Reading:
    """Open an image; `format_name` is Pillow's name of its format."""
    facts = Facts()
    watch = Watch(request, facts)
    return Reading(image_frames(request.path, str(request.path), format_name, request.stride, watch), facts)


def open_folder(request: Request) -> Reading:
    """Open a folder of stills as one clip."""
    facts = Facts()
    return Reading(_folder_frames(request, Watch(request, facts)), facts)


def image_frames(file: Path | BinaryIO, name: str, format_name: str, stride: int, watch: Watch) -> Frames:
    """Decode a still, or every page of an animated GIF, PNG or WebP or of a TIFF stack.

    Args:
        file: where the bytes are.
        name: what errors and warnings call it.
        format_name: Pillow's name of the format.
        stride: every `stride`-th page.
        watch: of the clip that the image is, or is a frame of.
    """
    good, seconds = 0, 0.0
    if not LAYOUTS[format_name]:
        raise ClipError(f"{name}: an image of HEIC or AVIF, not read here; save it as PNG or JPEG")
    try:
        # Never by its path: Pillow 13 maps a plain TIFF into memory and shows one that is stored on its side as noise.
        with (
            file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream,
            Image.open(stream, formats=[format_name]) as image,
        ):
            # The further pictures of a JPEG are a camera's thumbnails and depth maps, not frames.
            for page in range(1) if format_name == "JPEG" else count():
                try:
                    image.seek(page)
                except EOFError:  # Pillow's way to say that there was no further page
                    break
                if page == 0 and _is_substitute(image):
                    continue
                layout, duration = layout_of(image, format_name, name), image.info.get("duration")
                pixels = _gray(image, layout)
                if good % stride == 0:
                    _look(image, layout, name, watch)
                    # After the pixels were loaded: newer Pillows turn a TIFF then, and take its tag away.
                    pixels = upright(pixels, exif_orientation(image, name, watch.warn))
                    yield pixels, seconds if duration else None
                good, seconds = good + 1, seconds + (duration or 0) / 1000
            if not good:
                raise ClipError(f"{name}: {format_name} image without a picture; copy or export it again")
    except ClipError:
        raise
    except UnidentifiedImageError:
        raise ClipError(
            f"{name}: a {format_name} header that is damaged, or of a layout that is not read here; copy it again, or "
            "save it as 8-bit PNG"
        ) from None
    except PILLOW_ERRORS as error:
        reason = " ".join(str(error).split())
        if not good:
            raise ClipError(f"{name}: broken {format_name} image ({reason}); copy or export it again") from error
        watch.warn(f"{name}: damaged or cut short, {plural(good, 'frame')} read ({reason})")


def entries(folder: Path) -> list[Path]:
    """What a folder holds, litter left out, in natural order: frame2 before frame10."""
    try:
        found = [entry for entry in folder.iterdir() if not is_litter(entry.name)]
    except OSError as error:
        raise ClipError(f"{folder}: cannot be listed ({error.strerror}); check the path and its rights") from error
    return sorted(found, key=lambda entry: (natural(entry.stem), entry.name))


def is_still(kind: Kind | None) -> bool:
    """True for an image, but not for a GIF, which counts as a video."""
    family, format_name = kind or ("", "")
    return family == "image" and format_name != "GIF"


def _folder_frames(request: Request, watch: Watch) -> Frames:
    """The stills of a folder in natural order; whatever else lies there is named in a warning."""
    folder, warn = request.path, request.warn
    kinds = {entry: file_kind(entry) for entry in _once(entries(folder)) if entry.is_file()}
    masks = label_maps(kinds)
    stills = [(file, kind[1]) for file, kind in kinds.items() if kind and is_still(kind) and file not in masks]
    others = [file.name for file, kind in kinds.items() if not is_still(kind) and file not in masks]
    read = 0
    for still, format_name in stills[:: request.stride]:
        try:
            watch.facts.name = still.name
            for pixels, _ in image_frames(still, str(still), format_name, 1, watch):
                yield pixels, None
                read += 1
        except ClipError as error:
            warn(f"left out {error}")
    if not read:
        held = f"{len(stills)} broken ones" if stills else (shortened(others) if others else "nothing")
        raise ClipError(f"{folder}: a folder without readable images, it holds {held}; {GIVE}")
    if others:
        warn(f"{folder}: left out {plural(len(others), 'file')}, not of stills: {shortened(others)}")
    if masks:
        names = [file.name for file in kinds if file in masks]
        warn(f"{folder}: left out {plural(len(masks), 'mask')} beside their images: {shortened(names)}")


def _once(files: list[Path]) -> list[Path]:
    """The entries of a folder without the links that lead to another one of them."""
    links = {file for file in files if file.is_symlink()}
    seen = {real(file) for file in files if file not in links} if links else set()
    kept = []
    for file in files:
        if file in links:
            target = real(file)
            if target in seen:
                continue
            seen.add(target)
        kept.append(file)
    return kept


def _is_substitute(image: Image.Image) -> bool:
    """Whether the page that is open is no frame of an animated PNG, but stands in where animations are unknown."""
    return bool(getattr(image, "is_animated", False) and image.info.get("default_image"))


def _look(image: Image.Image, layout: str, name: str, watch: Watch) -> None:
    """Show a picture to the watch of its clip, unless there is no more to it than 8-bit gray."""
    if image.mode.startswith("I;16"):
        watch.measure(sixteen_bits(image, layout), name)
    elif image.mode not in _GRAY and not watch.facts.color:
        watch.look(np.asarray(_whole(image).convert("RGB")))
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        watch.tell_transparency(name)


def _gray(image: Image.Image, layout: str) -> np.ndarray:
    """Luma uint8 [H, W]; 16-bit pixels are scaled 65535 -> 255, where Pillow's own conversion would clip them."""
    if image.mode.startswith("I;16"):
        return (sixteen_bits(image, layout) >> 8).astype(np.uint8)
    return luma(_whole(image))


def _whole(image: Image.Image) -> Image.Image:
    """The image; one whose palette has transparency as RGBA, which Pillow wants before it takes any other mode."""
    return image.convert("RGBA") if image.mode == "P" and image.has_transparency_data else image
