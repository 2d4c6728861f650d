"""DICOM of every transfer syntax and color, written by pydicom, gdcm and Pillow, with pydicom and gdcm as judges."""

import base64
import io
import warnings

import numpy as np
from PIL import Image

from tests.hub.clips.dicom.dicom_files import SYNTAXES, jpeg, palette, speckle, to_ybr, write_dicom
from tests.hub.clips.formats.high_throughput import CODESTREAMS
from tests.hub.clips.formats.table import Cell, luma
from usbackbones.clips.dicom.pixels import COLOR, GRAY, THINNED, UNREAD_COLOR
from usbackbones.clips.dicom.syntaxes import COMPRESSED, NATIVE, UNREAD

SIZE = (2, 7, 9)
ROOT = "1.2.840.10008.1.2"
_WRITTEN = {uid: name for name, uid in SYNTAXES.items()}
_BASE = "1.2.840.10008.1.2.4."
_JPEG = tuple(f"{_BASE}{number}" for number in range(50, 57))
_BY_GDCM = tuple(f"{_BASE}{number}" for number in (57, 58, 70, 80, 81, 90, 91))
_LOSSY = (*_JPEG, f"{_BASE}81", f"{_BASE}91")


def layouts():
    """Every transfer syntax in every color; those that are refused once."""
    for uid, name in (*NATIVE.items(), *COMPRESSED.items()):
        yield from ((named(uid, name), color) for color in (*GRAY, *COLOR) if _is_legal(uid, color))
    yield from (("not read", named(uid)) for uid in UNREAD)
    yield from (("not read", color) for color in UNREAD_COLOR)


def named(uid, name=""):
    """A transfer syntax as the page names it; the root that most of them share is left out."""
    short = f"…{uid.removeprefix(ROOT)}" if f"{uid}.".startswith(f"{ROOT}.") else uid
    return f"{name} {short}".strip()


def _is_legal(uid, color):
    """Whether the standard allows a color with a transfer syntax; those of JPEG 2000 are tried uncompressed as well."""
    if color in ("YBR_ICT", "YBR_RCT"):
        return uid in NATIVE or uid.startswith((f"{_BASE}9", f"{_BASE}20"))
    if color in ("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420"):
        return uid in NATIVE or uid in _JPEG
    return color != "PALETTE COLOR" or uid not in _LOSSY


def cells(row, column):
    """The files of a layout: frames of odd and even width."""
    if row == "not read":
        color, uid = (column, "") if column in UNREAD_COLOR else ("RGB", column.replace("…", ROOT))
        yield Cell(lambda folder: _renamed(folder, _frames(color, SIZE), color, uid), by_pydicom)
        return
    uid = row.rpartition(" ")[2].replace("…", ROOT) if row != NATIVE[""] else ""
    if uid in NATIVE:
        yield from _native(uid, column)
    elif uid in _JPEG:
        yield from _of_jpeg(uid, column)
    elif uid.startswith(f"{_BASE}20"):
        yield from _of_ht(uid, column)
    elif uid in _BY_GDCM or uid == SYNTAXES["rle"]:
        yield from (_by_gdcm(uid, column, width) for width in (33, 40))
        if uid in _LOSSY and column in ("MONOCHROME2", "RGB", "YBR_ICT"):
            yield _lossy(uid, column)
    else:
        raise KeyError(uid)


def _frames(color, size):
    """Stored samples of a color: smooth, and red in a corner."""
    gray = speckle(*size)
    if color in GRAY:
        return gray
    rgb = np.repeat(gray[..., None], 3, -1)
    rgb[:, :4, :4] = (220, 40, 20)
    return to_ybr(rgb) if color.startswith(("YBR_FULL", "YBR_PARTIAL")) else rgb


def _elements(color):
    return (
        palette(np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)) if color == "PALETTE COLOR" else {}
    )


def _native(uid, color):
    for width in (9, 12):
        stored = _frames(color, (2, 7, width))
        judge = by_pydicom
        if color.startswith("YBR_PARTIAL"):
            judge = _fixed(np.clip((stored[..., 0] - 16.0) * 255 / 219, 0, 255))  # 16..235 over the full range
        elif color in THINNED and width % 2:  # which pydicom does not know
            judge = _fixed(stored[..., 0])
        elif color in ("YBR_ICT", "YBR_RCT"):
            judge = _fixed(luma(stored))
        for planes in (0, 1) if color in COLOR and color not in THINNED else (0,):

            def write(folder, stored=stored, planes=planes):
                elements = {"PlanarConfiguration": planes} if stored.ndim == 4 else {}
                kept, size = stored, {"Columns": stored.shape[2]}
                if color in THINNED and stored.shape[2] % 2:  # a column is added
                    kept = np.concatenate([stored, stored[:, :, -1:]], 2)
                syntax = _WRITTEN[uid or SYNTAXES["implicit"]]
                path = folder / "a.dcm"
                return write_dicom(path, kept, color, syntax, meta=bool(uid), **elements, **size, **_elements(color))

            yield Cell(write, judge, int(color == "YBR_FULL_422"))


def _fixed(gray):
    return lambda path: gray


def _of_jpeg(uid, color):
    for width in (9, 12):
        stored = _frames("RGB" if color in COLOR else color, (2, 16, width))
        options = {"keep_rgb": True} if color == "RGB" else {"subsampling": "4:2:2"} if color in THINNED else {}
        options |= {"progressive": True} if uid.endswith(("55", "53")) else {}

        def write(folder, stored=stored, options=options):
            fragments = [jpeg(frame, **options) for frame in stored]
            path = write_dicom(folder / "a.dcm", stored, color, "jpeg", fragments=fragments, **_elements(color))
            return _with_uid(path, SYNTAXES["jpeg"], uid)

        yield Cell(write, by_opencv, 2)


def by_opencv(path):
    """The JPEG streams of a DICOM file by OpenCV, which follows their own word for their colors."""
    import cv2
    import pydicom
    from pydicom.encaps import generate_frames

    dataset = pydicom.dcmread(path)
    frames = generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames)
    read = [luma(cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]) for frame in frames]
    return 255 - np.stack(read) if dataset.PhotometricInterpretation == "MONOCHROME1" else np.stack(read)


def _of_ht(uid, color):
    stream = base64.b85decode(CODESTREAMS[3 if color in COLOR else 1])
    y, x = np.mgrid[0:7, 0:9]
    gray = (x * 20 + y * 10 + np.random.default_rng(0).integers(0, 6, (7, 9))).astype(np.uint8)
    stored = (gray if color not in COLOR else np.stack([gray, 255 - gray, gray // 2], -1))[None]

    def write(folder):
        fragments = [stream + b"\0" * (len(stream) % 2)]
        path = write_dicom(folder / "a.dcm", stored, color, "jpeg2000", fragments=fragments, **_elements(color))
        return _with_uid(path, SYNTAXES["jpeg2000"], uid)

    def judge(path):
        if color == "PALETTE COLOR":
            return luma(np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)[stored])
        return luma(stored) if color in COLOR else 255 - stored if color == "MONOCHROME1" else stored

    yield Cell(write, judge)


def _by_gdcm(uid, color, width):
    def write(folder):
        kept = "RGB" if color in ("YBR_ICT", "YBR_RCT") else color
        plain = write_dicom(folder / "plain.dcm", _frames(kept, (2, 35, width)), kept, **_elements(color))
        known = uid.replace("4.58", "4.57")  # of process 15 only its number differs
        path = _with_uid(recoded(plain, folder / "a.dcm", known), known, uid)
        if kept != color:
            import pydicom

            dataset = pydicom.dcmread(path)
            dataset.PhotometricInterpretation = color
            dataset.save_as(path)
        return path

    return Cell(write, by_pydicom, int(color == "YBR_FULL"))


def _lossy(uid, color):
    """With loss, as gdcm does not write it: pydicom's encoder for JPEG-LS, Pillow's for JPEG 2000."""
    stored = _frames("RGB" if color == "YBR_ICT" else color, (2, 35, 33))

    def write(folder):
        import pydicom

        path = write_dicom(folder / "a.dcm", stored, color)
        if uid == f"{_BASE}81":
            dataset = pydicom.dcmread(path)
            dataset.compress(uid, jls_error=3, encoding_plugin="pyjpegls")
            dataset.save_as(path)
            return path
        fragments = []
        for frame in stored:
            stream, mct = io.BytesIO(), int(color == "YBR_ICT")
            Image.fromarray(frame).save(stream, "JPEG2000", no_jp2=True, irreversible=True, mct=mct)
            fragments.append(stream.getvalue())
        write_dicom(path, stored, color, "jpeg2000", fragments=fragments)
        return _with_uid(path, SYNTAXES["jpeg2000"], uid)

    return Cell(write, by_pydicom, 1)


def recoded(source, path, uid):
    """A file as gdcm writes it in another transfer syntax."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(uid)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


def by_pydicom(path):
    """Gray frames as pydicom shows them, compressed ones decoded by gdcm; palettes and inverted gray undone."""
    import pydicom
    from pydicom.pixels import apply_color_lut, pixel_array

    with warnings.catch_warnings(action="ignore"):
        dataset = pydicom.dcmread(path, force=True)
        syntax = dataset.file_meta.TransferSyntaxUID if "TransferSyntaxUID" in dataset.file_meta else None
        if syntax == f"{_BASE}58":  # which pydicom does not know; its frames are those of 57
            dataset.file_meta.TransferSyntaxUID = syntax = pydicom.uid.UID(f"{_BASE}57")
        if syntax is None:
            dataset.file_meta.TransferSyntaxUID = SYNTAXES["implicit"]
        plugin = "gdcm" if syntax is not None and syntax.is_compressed and str(syntax).startswith(_BASE) else ""
        pixels = pixel_array(dataset, decoding_plugin=plugin)
    pixels = pixels.reshape(dataset.NumberOfFrames, dataset.Rows, dataset.Columns, -1)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return luma(apply_color_lut(pixels[..., 0], dataset) >> 8)
    if dataset.SamplesPerPixel == 3:
        return luma(pixels)
    return 255.0 - pixels[..., 0] if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels[..., 0]


def _with_uid(path, old, new):
    """The file with another transfer syntax in its header, of any length."""
    content, place = path.read_bytes(), path.read_bytes().index(b"\x02\0\x10\0UI") + 6
    length = int.from_bytes(content[place : place + 2], "little")
    value = new.encode() + b"\0" * (len(new) % 2)
    group = 140  # the place behind the length of the meta group
    grown = int.from_bytes(content[group : group + 4], "little") + len(value) - length
    content = content[:place] + len(value).to_bytes(2, "little") + value + content[place + 2 + length :]
    path.write_bytes(content[:group] + grown.to_bytes(4, "little") + content[group + 4 :])
    return path


def _renamed(folder, stored, color, uid):
    syntax = "implicit" if uid in ("1.2.840.10008.1.20", "1.2.840.113619.5.2") else "explicit"
    path = write_dicom(folder / "a.dcm", stored, color, syntax)
    return _with_uid(path, SYNTAXES[syntax], uid) if uid else path
