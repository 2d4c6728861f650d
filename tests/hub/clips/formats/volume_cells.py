"""MetaImage and NIfTI of every type and storage, with SimpleITK and nibabel as judges."""

import itertools
import zlib

import numpy as np

from tests.hub.clips.formats.table import Cell, luma
from usbackbones.clips.formats.metaimage import ELEMENT_TYPES
from usbackbones.clips.formats.nifti import DATATYPES

FRAMES, HEIGHT, WIDTH = 2, 6, 9
STORAGE = ("in one file", "in a file beside it", "behind HeaderSize bytes", "at its end (HeaderSize -1)")
REFUSED = ("as text", "in a list of slices", "in numbered slices")
FORMS = ("little-endian", "big-endian", "zlib")


def values(dtype, *more):
    """Random voxels [T, H, W] over the whole range of small integers, and less of others."""
    dtype, rng = np.dtype(dtype), np.random.default_rng(0)
    shape = (FRAMES, HEIGHT, WIDTH, *more)
    if dtype.kind == "f":
        return (rng.random(shape) * 3000 - 1000).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, -(2**40)), min(info.max, 2**40), shape, dtype.newbyteorder("="), True)


def shown(stored):
    """The rule for gray, the slow way: as they are within 0..255, floats within 0..1 times 255, else stretched."""
    if stored.ndim == 4:
        return luma(stored)
    share, stored = stored.dtype.kind in "bf", stored.astype(np.float64)
    low, high = stored.min(), stored.max()
    if low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if share and high <= 1 else 255.0
    return np.round((stored - low) / (high - low) * 255)


def by_simpleitk(path):
    """Frames [T, H, W] or [T, H, W, 3] as ITK reads them, in gray."""
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(image)
    color = 3 if image.GetNumberOfComponentsPerPixel() > 1 else 2
    return shown(array.reshape(-1, *array.shape[-color:]))


def by_nibabel(path):
    """Frames [T, H, W] as nibabel reads them, in gray."""
    import nibabel

    array = np.asarray(nibabel.load(path).dataobj)
    if array.dtype.names:
        array = np.stack([array[name] for name in "RGB"], -1)
        return shown(array.transpose(2, 1, 0, 3))
    return shown(array.reshape(*array.shape[:2], -1).transpose(2, 1, 0))


def metaimage_layouts():
    """Every ElementType, in every form and storage that MetaIO knows; channels."""
    for kind, code in ELEMENT_TYPES.items():
        yield from ((kind, form) for form in FORMS) if code else [("other types", kind)]
    yield from (("storage", storage) for storage in (*STORAGE, *REFUSED))
    yield from (("channels", f"{count} of {kind}") for count, kind in itertools.product((2, 3, 4), ("UCHAR", "USHORT")))
    yield from (("axes", axes) for axes in ("2", "3", "4", "4, two of them frames", "5"))
    yield from (("UltrasoundImageType", kind) for kind in ("BRIGHTNESS", "RF_REAL"))


def metaimage_cells(row, column):
    """The files of a layout of MetaImage."""
    if row == "other types":
        yield _meta(values("u1"), column, "little-endian", "in one file")
    elif row in ELEMENT_TYPES:
        yield from (_meta(values(ELEMENT_TYPES[row]), row, column, "in one file", flag) for flag in (True, "T", 1))
    elif row == "storage":
        forms = FORMS if column in STORAGE else ("little-endian",)
        yield from (_meta(values("i2"), "MET_SHORT", form, column) for form in forms)
    elif row == "channels":
        count, _, kind = column.partition(" of ")
        frames = values({"UCHAR": "u1", "USHORT": "u2"}[kind], int(count))
        yield _meta(frames, f"MET_{kind}", "little-endian", "in one file", ElementNumberOfChannels=count)
    elif row == "axes":
        sizes = {"2": "9 12", "3": "9 6 2", "4": "9 6 1 2", "4, two of them frames": "9 6 2 1", "5": "9 3 2 2 1"}[
            column
        ]
        yield _meta(values("u1"), "MET_UCHAR", "little-endian", "in one file", DimSize=sizes, NDims=len(sizes.split()))
    elif row == "UltrasoundImageType":
        yield _meta(values("u1"), "MET_UCHAR", "little-endian", "in one file", UltrasoundImageType=column)
    else:
        raise KeyError(row)


def _meta(frames, kind, form, storage, flag=True, **more):
    big, zipped = form == "big-endian", form == "zlib"
    content = frames.astype(frames.dtype.newbyteorder(">" if big else "<")).tobytes()
    slices = [part.astype(frames.dtype.newbyteorder(">" if big else "<")).tobytes() for part in frames]
    content = zlib.compress(content) if zipped else content
    if storage == "as text":
        content = " ".join(map(str, frames.ravel())).encode()
    fields = {"ObjectType": "Image", "NDims": 3, "BinaryData": flag if storage != "as text" else False}
    fields |= {"BinaryDataByteOrderMSB": flag if big else False, "CompressedData": flag if zipped else False}
    fields |= {"CompressedDataSize": len(content)} if zipped else {}
    fields |= {"DimSize": " ".join(map(str, frames.shape[2::-1])), "ElementType": kind, **more}
    beside = storage in STORAGE[1:]
    skipped = 0 if "HeaderSize" not in storage or zipped else 5
    if skipped:
        fields["HeaderSize"] = 5 if "bytes" in storage else -1
    sliced = {"in a list of slices": "LIST\na0.raw\na1.raw", "in numbered slices": "a%d.raw 0 1 1"}
    name = "a.raw" if beside else sliced.get(storage, "LOCAL")

    def write(folder):
        header = "".join(f"{key} = {value}\n" for key, value in fields.items()) + f"ElementDataFile = {name}\n"
        (folder / "a.mhd").write_bytes(header.encode() + (content if name == "LOCAL" else b""))
        if beside:
            (folder / "a.raw").write_bytes(bytes(range(skipped)) + content)
        for index, part in enumerate(slices):
            (folder / f"a{index}.raw").write_bytes(part)
        return folder / "a.mhd"

    return Cell(write, by_simpleitk)


NIFTI_FORMS = ("little-endian", "big-endian", "NIfTI-2", "gzip", "pair")


def nifti_layouts():
    """Every datatype that nibabel knows, in every form; axes, scaling, and affines that flip."""
    import nibabel

    codes = nibabel.nifti1.data_type_codes
    for code in sorted(
        {*DATATYPES, *(code for code in codes.value_set() if codes.label[code] not in ("none", "unknown"))}
    ):
        name = codes.label[code]
        yield from ((name, form) for form in NIFTI_FORMS) if code in DATATYPES else [("other types", name)]
    yield from (("axes", axes) for axes in ("2", "3", "4 (time)", "4 (volumes over time)"))
    yield from (("scaling", scaling) for scaling in ("slope and intercept", "negative slope", "slope 0"))
    yield from (("affine", affine) for affine in ("flipped", "rotated"))


def nifti_cells(row, column):
    """The files of a layout of NIfTI, each before both judges; ITK reads no NIfTI-2, and a slope of 0 as one."""
    judges = (by_nibabel,) if column in ("NIfTI-2", "slope 0") else (by_nibabel, by_simpleitk)
    if row == "axes":
        shape = {"2": (9, 12), "3": (9, 6, 2), "4 (time)": (9, 6, 1, 2), "4 (volumes over time)": (9, 3, 2, 2)}[column]
        yield from (Cell(_nifti(2, shape=shape), judge) for judge in judges)
    elif row == "scaling":
        slope = {"slope and intercept": (0.5, 3.0), "negative slope": (-2.0, 100.0), "slope 0": (0.0, 7.0)}[column]
        yield from (Cell(_nifti(2, slope=slope), judge) for judge in judges)
    elif row == "affine":
        affine = {"flipped": np.diag([-1, -1, 1, 1]), "rotated": np.eye(4)[[1, 0, 2, 3]]}[column]
        yield from (Cell(_nifti(2, affine=affine), judge) for judge in judges)
    else:
        import nibabel

        name, form = (column, "little-endian") if row == "other types" else (row, column)
        code = nibabel.nifti1.data_type_codes.code[name]
        yield from (Cell(_nifti(code, form), judge) for judge in judges)


def _nifti(code, form="little-endian", shape=(WIDTH, HEIGHT, FRAMES), slope=None, affine=None):
    import nibabel

    dtype = nibabel.nifti1.data_type_codes.dtype[code]
    order = ">" if form == "big-endian" else "<"
    count = int(np.prod(shape))
    if np.dtype(dtype).kind in "buif" and code in DATATYPES:
        array = values(dtype).astype(np.dtype(dtype).newbyteorder(order))
    else:
        array = np.frombuffer(np.random.default_rng(0).bytes(count * max(np.dtype(dtype).itemsize, 1)), np.uint8)
    version = 2 if form == "NIfTI-2" else 1
    header = (nibabel.Nifti2Header if version == 2 else nibabel.Nifti1Header)(endianness=order)
    header.set_data_shape(shape)
    header["datatype"], header["bitpix"] = code, 8 * np.dtype(dtype).itemsize
    header["vox_offset"], header["magic"] = (544, header["magic"]) if version == 2 else (352, b"n+1")
    header["sform_code"], header["pixdim"][:5] = 1, (1, 0.3, 0.2, 1, 1)
    matrix = np.eye(4) if affine is None else affine
    header["srow_x"], header["srow_y"], header["srow_z"] = matrix[:3]
    if slope:
        header["scl_slope"], header["scl_inter"] = slope
    if form == "pair":
        header["magic"], header["vox_offset"] = b"ni1", 0

    def write(folder):
        import gzip

        content = header.binaryblock + (b"" if form == "pair" else bytes(4)) + array.tobytes()
        path = folder / {"gzip": "a.nii.gz", "pair": "a.hdr"}.get(form, "a.nii")
        path.write_bytes(gzip.compress(content) if form == "gzip" else content)
        return path

    return write
