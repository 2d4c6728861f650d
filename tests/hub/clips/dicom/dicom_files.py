"""DICOM files as scanners write them, made by the tests: every photometric interpretation and transfer syntax."""

import io
import struct

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "jpeg": "1.2.840.10008.1.2.4.50",
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "rle": "1.2.840.10008.1.2.5",
}
NATIVE = ("implicit", "explicit", "big", "deflated")
LOSSLESS = (*NATIVE, "jpeg-ls", "jpeg2000", "rle")
LUMA = np.array([0.299, 0.587, 0.114])


def speckle(frames=5, height=64, width=80, seed=0):
    """A smooth gray texture that drifts, uint8 [T, H, W], brighter to the right so that nothing can be flipped."""
    rng = np.random.default_rng(seed)
    field = np.fft.rfft2(rng.normal(size=(height, width)))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    field = np.fft.irfft2(field * np.exp(-200 * (fx**2 + fy**2)), (height, width))
    still = 100 + 30 * field / field.std() + np.linspace(-60, 60, width)
    return np.stack([np.clip(np.roll(still, i, 0), 0, 255) for i in range(frames)]).astype(np.uint8)


def doppler(frames=5, height=64, width=80):
    """Speckle with a red and a blue patch of flow, RGB uint8 [T, H, W, 3]."""
    rgb = np.repeat(speckle(frames, height, width)[..., None], 3, -1)
    rgb[:, 16:32, 16:40] = (220, 40, 20)
    rgb[:, 32:48, 40:64] = (20, 60, 230)
    return rgb


def to_ybr(rgb):
    """Full-range BT.601 of RGB [..., 3], rounded as a scanner stores it."""
    matrix = np.array([LUMA, [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.clip(np.round(rgb @ matrix.T + [0, 128, 128]), 0, 255).astype(np.uint8)


def to_422(ybr):
    """Luma, luma, and the chroma of every first of two pixels: uint8 [T, H, W * 2]."""
    first = ybr[:, :, ::2]
    quads = np.stack([first[..., 0], ybr[:, :, 1::2, 0], first[..., 1], first[..., 2]], -1)
    return quads.reshape(*ybr.shape[:2], -1)


def jpeg(frame, **options):
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def region(box=None, spatial=1, data=1, delta=(0.02, 0.03), units=3):
    """An item of the Sequence of Ultrasound Regions; box is (top, left, bottom, right), inclusive; delta (y, x), cm."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = spatial, data, 0
    top, left, bottom, right = box or (0, 0, 63, 79)
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaY, item.PhysicalDeltaX = delta
    return item


def write_dicom(path, stored, photometric="MONOCHROME2", syntax="explicit", *, fragments=None, meta=True, **elements):
    """Write stored samples, [T, H, W] or [T, H, W, 3], as they are; YBR_FULL_422 is thinned out here.

    Args:
        path: where to.
        stored: uint8, uint16 or int16.
        photometric: what the header says.
        syntax: a key of SYNTAXES.
        fragments: bytes of the compressed frames, in the place of encoding `stored`.
        meta: False for a file without the preamble and the meta group.
        elements: by keyword; they replace those made here, and None removes one.

    Returns:
        The path.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.Modality = "US"
    dataset.Rows, dataset.Columns = stored.shape[1:3]
    dataset.SamplesPerPixel = 3 if stored.ndim == 4 else 1
    if stored.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated, dataset.BitsStored = 8 * stored.itemsize, elements.get("BitsStored") or 8 * stored.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.NumberOfFrames = len(stored)
    extra = {keyword: value for keyword, value in elements.items() if value is not None}
    if syntax in NATIVE:
        _native(dataset, stored, photometric, syntax, extra.get("PlanarConfiguration") == 1)
    elif syntax == "jpeg" or fragments is not None:
        dataset.PixelData = encapsulate(fragments or [jpeg(frame) for frame in stored])
    else:
        # The encoders know no YBR_FULL_422; what the header calls the samples is put right below.
        dataset.PhotometricInterpretation = "RGB" if stored.ndim == 4 else "MONOCHROME2"
        if stored.ndim == 4 and photometric.startswith("YBR"):
            dataset.PhotometricInterpretation = "YBR_FULL"
        dataset.PixelData = stored.tobytes()
        dataset.file_meta.TransferSyntaxUID = SYNTAXES["explicit"]
        plugin = "pyjpegls" if syntax == "jpeg-ls" else "pylibjpeg"
        dataset.compress(SYNTAXES[syntax], generate_instance_uid=False, encoding_plugin=plugin)
        dataset.PhotometricInterpretation = photometric
    for keyword, value in extra.items():
        setattr(dataset, keyword, value)
    for keyword in elements.keys() - extra.keys():
        delattr(dataset, keyword)
    if not meta:
        del dataset.file_meta
        dataset.save_as(path, implicit_vr=syntax == "implicit", little_endian=True)
    elif syntax in NATIVE:
        dataset.save_as(path, implicit_vr=syntax == "implicit", little_endian=syntax != "big", enforce_file_format=True)
    else:
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path, enforce_file_format=True)
    return path


def _native(dataset, stored, photometric, syntax, planes):
    if photometric in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        stored = to_422(stored)
    elif planes:
        stored = stored.transpose(0, 3, 1, 2)
    content = np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder(">" if syntax == "big" else "<")).tobytes()
    vr = "OW" if stored.itemsize == 2 or syntax in ("implicit", "big") else "OB"
    content += b"\0" * (len(content) % 2)
    if vr == "OW" and stored.itemsize == 1 and syntax == "big":
        content = np.frombuffer(content, np.uint16).byteswap().tobytes()
    dataset.add_new("PixelData", vr, content)


def palette(colors):
    """The elements of a palette of RGB uint8 [N, 3], kept as 16-bit words, the usual way."""
    elements = {}
    for name, column in zip(("Red", "Green", "Blue"), colors.T, strict=True):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [len(colors) % 65536, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = (column.astype("<u2") * 257).tobytes()
    return elements


def pixel_data_at(content):
    """Where the value of the pixel data begins in an explicit little-endian file."""
    return content.index(struct.pack("<HH", 0x7FE0, 0x0010)) + 12
