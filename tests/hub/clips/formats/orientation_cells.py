"""Stills that name their orientation in EXIF or XMP, alone, of several pages, in a folder and in a zip."""

import io
import zipfile

import numpy as np
from PIL import Image, ImageOps

from tests.hub.clips.formats.table import Cell, luma
from usbackbones.clips.formats.layouts import LAYOUTS
from usbackbones.clips.formats.upright import TURNS

_WITHOUT = ("GIF", "BMP", "HEIF")  # of these the first two know no orientation, and the last is refused
PLACES = ("alone", "several pages", "in a folder", "in a zip", "XMP alone")
_XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:\
Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/></rdf:RDF></x:xmpmeta>'


def layouts():
    """Every format that knows an orientation, in every place that it is read from."""
    for form in LAYOUTS:
        if form not in _WITHOUT:
            yield from ((form, place) for place in PLACES if (form, place) != ("JPEG", "several pages"))


def cells(form, place):
    """A file for each of the eight orientations."""
    options = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}[form]
    return [Cell(_writer(form, place, number, options), by_pillow) for number in TURNS]


def _writer(form, place, orientation, options):
    def write(folder):
        noise = np.random.default_rng(orientation).integers(0, 256, (2, 6, 9), dtype=np.uint8)
        frames = [Image.fromarray(frame) for frame in noise]
        told = {"exif": _exif(orientation)}
        if place == "XMP alone":
            told = {"xmp": _XMP.format(orientation).encode()}
        if form == "PNG" and place == "XMP alone":
            from PIL.PngImagePlugin import PngInfo

            told = {"pnginfo": PngInfo()}
            told["pnginfo"].add_itxt("XML:com.adobe.xmp", _XMP.format(orientation))
        if form == "TIFF" and place == "XMP alone":
            told = {"tiffinfo": {700: told["xmp"]}}
        pages = {"save_all": True, "append_images": frames[1:]} if place == "several pages" else {}
        if pages and form == "TIFF":  # the tags of a page are its own
            for frame in frames:
                frame.encoderinfo = {"exif": _exif(orientation)}
        stream = io.BytesIO()
        frames[0].save(stream, form, **options, **told, **pages)
        inner = folder / "stills"
        inner.mkdir()
        path = inner / f"a.{form.lower()}"
        path.write_bytes(stream.getvalue())
        if place == "in a zip":
            with zipfile.ZipFile(folder / "a.zip", "w") as archive:
                archive.write(path, path.name)
            return folder / "a.zip"
        return inner if place == "in a folder" else path

    return write


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def by_pillow(path):
    """Every page of the still that the path is or holds, turned by Pillow."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            content = archive.read(archive.namelist()[0])
    else:
        content = (next(path.iterdir()) if path.is_dir() else path).read_bytes()
    pages = []
    with Image.open(io.BytesIO(content)) as image:  # not by its path: Pillow 13 shows a TIFF on its side as noise
        for page in range(getattr(image, "n_frames", 1)):
            image.seek(page)
            pages.append(luma(np.asarray(ImageOps.exif_transpose(image).convert("RGB"))))
    return np.stack(pages)
