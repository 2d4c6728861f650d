"""NumPy arrays of every type, order, file and shape, with `numpy.load` as judge; folders and zips of stills."""

import zipfile

import numpy as np
from PIL import Image

from tests.hub.clips.formats.stills_cells import by_opencv, draw, smooth
from tests.hub.clips.formats.table import Cell, luma
from tests.hub.clips.formats.volume_cells import shown, values

FILES = ("npy", "npy, big-endian", "npy, Fortran order", "npz", "npz, deflated", "npz, one of several")
SHAPES = {
    "rows x columns": (6, 9),
    "frames x rows x columns": (2, 6, 9),
    "frames x rows x columns x 1": (2, 6, 9, 1),
    "frames x 1 x rows x columns": (2, 1, 6, 9),
    "rows x columns x 3": (6, 9, 3),
    "frames x rows x columns x 3": (2, 6, 9, 3),
    "1 x 3 x rows x columns": (1, 3, 6, 9),
    "frames x 3 x rows x columns": (2, 3, 6, 9),
    "frames x rows x columns x 4": (2, 6, 9, 4),
    "numbers": (9,),
    "five axes": (2, 2, 2, 6, 9),
    "no frame": (0, 6, 9),
}


def layouts():
    """Every type that NumPy has, in every file; shapes."""
    for code in dict.fromkeys(np.dtype(code).str[1:] for code in np.typecodes["All"]):
        kind = np.dtype(code).kind
        name = {"S": "bytes", "U": "str", "V": "void", "O": "object"}.get(kind) or np.dtype(code).name
        yield from ((name, file) for file in FILES) if kind in "buif" else [("other types", name)]
    yield from (("shape", shape) for shape in SHAPES)
    yield from (("color", f"3 of {name}") for name in ("uint8", "uint16", "float32"))


def cells(row, column):
    """The files of a layout."""
    if row == "shape":
        yield Cell(_writer(draw(*SHAPES[column]).astype(np.uint8), "npy"), by_numpy)
    elif row == "color":
        yield Cell(_writer(values(column.removeprefix("3 of "), 3), "npy"), by_numpy)
    elif row == "other types":
        dtype = np.dtype({"bytes": "S3", "str": "U3", "void": [("a", "u1")]}.get(column, column))
        yield Cell(_writer(np.zeros((2, 6, 9), dtype), "npy"), by_numpy)
    else:
        yield Cell(_writer(values(row), column), by_numpy)


def _writer(array, file):
    def write(folder):
        path = folder / f"a.{file[:3]}"
        if file == "npz":
            np.savez(path, array)
        elif file == "npz, deflated":
            np.savez_compressed(path, array)
        elif file == "npz, one of several":
            np.savez(path, labels=np.zeros(3), frames=array)
        else:
            kept = np.asfortranarray(array) if "Fortran" in file else array
            kept = kept.astype(kept.dtype.newbyteorder(">")) if "big" in file else kept
            np.save(path, kept, allow_pickle=True)
        return path

    return write


def by_numpy(path):
    """Frames as NumPy loads them, in gray."""
    array = np.load(path)
    if path.suffix == ".npz":
        array = array["frames" if len(array.files) > 1 else array.files[0]]
    if array.shape[-1] == 3:
        return shown(array.reshape(-1, *array.shape[-3:]))
    array = array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array
    return shown(array.reshape(-1, *array.shape[-2:]))


INSIDE = {"PNG": {}, "JPEG": {"quality": 95}, "BMP": {}, "TIFF": {}, "WEBP": {"quality": 90}}
ORDER = ("a2", "a10", "b1")


def folder_layouts():
    """Every format of stills, in a folder, a zip, a deflated zip and a zip of one folder."""
    places = ("folder", "zip", "zip, deflated", "zip of a folder", "zip with litter")
    yield from ((form, place) for form in (*INSIDE, "GIF") for place in places)


def folder_cells(form, place):
    """Three stills, whose names count in natural order, and a text file beside them."""
    options = {**INSIDE, "GIF": {}}[form]

    def write(folder):
        inner = folder / "clip"
        inner.mkdir()
        for index, name in enumerate(ORDER):
            turned = smooth().rotate(90 * index, expand=False)
            turned.save(inner / f"{name}.{form.lower()}", form, **options)
        (inner / "notes.txt").write_text("not a frame")
        if place == "folder":
            return inner
        kind = zipfile.ZIP_DEFLATED if "deflated" in place else zipfile.ZIP_STORED
        with zipfile.ZipFile(folder / "clip.zip", "w", kind) as archive:
            for file in reversed(sorted(inner.iterdir())):
                archive.write(file, f"clip/{file.name}" if "folder" in place else file.name)
            if "litter" in place:
                archive.writestr("__MACOSX/._a2.png", b"\x89PNG\r\n\x1a\n")
                archive.writestr(".DS_Store", b"")
        return folder / "clip.zip"

    yield Cell(write, lambda path: _one_by_one(path, form), 2 * (form in ("JPEG", "WEBP")))


def _one_by_one(path, form):
    files = [path.parent / "clip" / f"{name}.{form.lower()}" for name in ORDER]
    if form in ("TIFF", "WEBP"):
        return np.concatenate([by_opencv(file) for file in files])
    return np.stack([luma(np.asarray(Image.open(file).convert("RGB"))) for file in files])
