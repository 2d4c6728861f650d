"""DICOM samples of every number of bits, with and without sign; windows, tables and palettes, with pydicom as judge."""

import warnings

import numpy as np

from tests.hub.clips.dicom.dicom_files import SYNTAXES, palette, write_dicom
from tests.hub.clips.formats.table import Cell, luma
from usbackbones.clips.dicom.pixels import ALLOCATED

_COMPRESSED = ("jpeg-ls", "jpeg2000", "rle")
WINDOWS = {
    "LINEAR": {"VOILUTFunction": "LINEAR"},
    "no function": {},
    "LINEAR_EXACT": {"VOILUTFunction": "LINEAR_EXACT"},
    "SIGMOID": {"VOILUTFunction": "SIGMOID"},
    "of two the first": {"WindowCenter": [1000, 7], "WindowWidth": [900, 5]},
    "of width 1": {"WindowWidth": 1},
    "with rescale": {"RescaleSlope": 2, "RescaleIntercept": -500},
    "with negative slope": {"RescaleSlope": -1, "RescaleIntercept": 2500},
}
RESCALES = {"slope 2": (2, -500), "slope -1": (-1, 4095), "slope 0.01": (0.01, 5)}
PALETTES = (
    "8 bits in bytes",
    "8 bits in words",
    "16 bits",
    "fewer colors",
    "first value above 0",
    "segmented",
    "signed, from -128",
)


def layouts():
    """Bits of samples in every syntax that keeps them; planes; windows, rescaling, tables; palettes."""
    for syntax in SYNTAXES:
        if syntax != "jpeg":
            for allocated in ALLOCATED:
                yield from ((f"{allocated} bits allocated", f"{syntax}, {sign}") for sign in ("unsigned", "signed"))
            yield from (("3 samples", f"{syntax}, {kept}") for kept in ("by pixel", "in planes", "16 bits"))
    yield from (("other bits", f"{bits} allocated") for bits in (1, 32, 64))
    yield from (("window", f"{name}, {color}") for name in WINDOWS for color in ("MONOCHROME2", "MONOCHROME1"))
    yield from (("rescale without window", name) for name in RESCALES)
    yield from (("lookup table", name) for name in ("VOI", "modality"))
    yield from (("palette", name) for name in PALETTES)


def cells(row, column):
    """The files of a layout."""
    if row.endswith("bits allocated"):
        syntax, _, sign = column.partition(", ")
        yield from _bits(int(row.split()[0]), syntax, sign == "signed")
    elif row == "3 samples":
        yield _colors(*column.split(", "))
    elif row == "other bits":
        bits = int(column.split()[0])
        stored = np.zeros((2, 8, 16), np.uint8)
        write = _write(stored, BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1)
        yield Cell(write, lambda path: stored)
    elif row == "window":
        name, _, color = column.partition(", ")
        elements = {"WindowCenter": 1000, "WindowWidth": 900} | WINDOWS[name]
        write = _write(deep(np.uint16, 12), color, BitsStored=12, **elements)
        yield Cell(write, by_pydicom, 1)
    elif row == "rescale without window":
        slope, intercept = RESCALES[column]
        write = _write(deep(np.uint16, 12), BitsStored=12, RescaleSlope=slope, RescaleIntercept=intercept)
        yield Cell(write, by_rescale, 1)
        yield Cell(_write(deep(np.uint8, 8), RescaleSlope=slope, RescaleIntercept=intercept), by_rescale, 0)
    elif row == "lookup table":
        stored = deep(np.uint16, 12)
        yield Cell(_write(stored, BitsStored=12, **_table(column)), lambda path: np.sqrt(stored / 4095) * 255, 1)
    elif row == "palette":
        yield Cell(*_palette(column))
    else:
        raise KeyError(row)


def deep(dtype, bits, size=(2, 35, 33)):
    """Smooth samples over the whole range of the bits."""
    count = int(np.prod(size))
    values = (np.arange(count) * 7919 % count * (1 << bits) // count).reshape(size)
    low = 1 << (bits - 1) if np.dtype(dtype).kind == "i" else 0
    return (values - low).astype(dtype)


def _write(stored, color="MONOCHROME2", syntax="explicit", **elements):
    return lambda folder: write_dicom(folder / "a.dcm", stored, color, syntax, **elements)


def _bits(allocated, syntax, signed):
    compressed = syntax in _COMPRESSED
    for bits in (8, 10, 12, 16) if compressed else range(1, 17):
        if allocated // 2 * (compressed or allocated == 16) < bits <= allocated or (allocated == 8 and bits <= 8):
            stored = deep(f"{'i' if signed else 'u'}{allocated // 8}", bits)
            share = (stored - stored.min().astype(float)) / ((1 << bits) - 1)
            gray = np.round(share * 255) if bits <= 8 else np.minimum(np.floor(share * 256), 255)
            if signed and bits < 8 * stored.itemsize and syntax != "rle":  # the sign is that of the bits that count
                stored = stored & np.array((1 << bits) - 1, stored.dtype) if not compressed else stored
            yield Cell(_write(stored, syntax=syntax, BitsStored=bits, HighBit=bits - 1), lambda path, gray=gray: gray)


def _colors(syntax, kept):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (2, 35, 33, 3), dtype=np.uint8)
    stored = rgb.astype(np.uint16) * 257 if kept == "16 bits" else rgb
    elements = {"PlanarConfiguration": 1} if kept == "in planes" else {}
    return Cell(_write(stored, "RGB", syntax, **elements), lambda path: luma(rgb))


def _table(kind):
    from pydicom.dataset import Dataset

    item, name = Dataset(), {"VOI": "VOILUTSequence", "modality": "ModalityLUTSequence"}[kind]
    item.LUTDescriptor, item.ModalityLUTType = [4096, 0, 16], "US"
    item.LUTData = (np.sqrt(np.arange(4096) / 4095) * 65535).astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    if kind == "VOI":
        del item.ModalityLUTType
    return {name: [item]}


def by_pydicom(path):
    """Gray by pydicom's rescaling and windows, over the range that they give."""
    import pydicom
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

    with warnings.catch_warnings(action="ignore"):
        dataset = pydicom.dcmread(path)
        stored = pixel_array(dataset)
        values = apply_modality_lut(stored, dataset)
        shown = apply_voi_lut(values, dataset).astype(float)
    # pydicom maps a window to what the least and the greatest stored value are after rescaling.
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    low, high = intercept, ((1 << dataset.BitsStored) - 1) * slope + intercept
    share = np.clip((shown - low) / (high - low), 0, 1) * 255
    return 255 - share if dataset.PhotometricInterpretation == "MONOCHROME1" else share


def by_rescale(path):
    """Gray of the rescaled values over the whole range that they can have."""
    import pydicom

    dataset = pydicom.dcmread(path)
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    ends = np.array([0, (1 << dataset.BitsStored) - 1]) * slope + intercept
    return (dataset.pixel_array * slope + intercept - ends.min()) / (ends.max() - ends.min()) * 255


def _palette(name):
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (100 if name in ("fewer colors", "first value above 0") else 256, 3), dtype=np.uint8)
    elements, first = palette(colors), 30 if name == "first value above 0" else 0
    shown = colors
    for index, part in enumerate(("Red", "Green", "Blue")):
        descriptor, data = f"{part}PaletteColorLookupTableDescriptor", f"{part}PaletteColorLookupTableData"
        elements[descriptor] = [len(colors), 0, 8 if name.startswith("8 bits") else 16]
        if name.startswith("8 bits"):
            elements[data] = colors[:, index].astype(np.uint8 if "bytes" in name else "<u2").tobytes()
        if name == "segmented":  # one discrete piece of 1, then a line to the last
            del elements[data]
            ends = np.array([0, 1, 0, 1, 255, 60000 + index * 1000], "<u2")
            elements[f"Segmented{data}"] = ends.tobytes()
            line = np.linspace(0, 60000 + index * 1000, 256)
            shown = np.concatenate([shown[:, :index], (line / 256).astype(np.uint8)[:, None], shown[:, index + 1 :]], 1)
    stored, first = (deep(np.int8, 8), -128) if name.startswith("signed") else (deep(np.uint8, 8), first)
    for part in ("Red", "Green", "Blue"):
        elements[f"{part}PaletteColorLookupTableDescriptor"][1] = first
    places = np.clip(stored.astype(int) - first, 0, len(colors) - 1)
    return _write(stored, "PALETTE COLOR", **elements), lambda path: luma(shown[places]), int(name == "segmented")
