"""Files of random sizes, bits and storage are read as what was written, by the definitions of their formats."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hub.clips.dicom.dicom_files import LOSSLESS, NATIVE, write_dicom
from tests.hub.clips.formats.stills_files import pack, write_bmp, write_png, write_tiff
from tests.hub.clips.formats.table import luma
from tests.hub.clips.formats.volume_cells import shown
from tests.hub.clips.test_volume import write_meta, write_nifti
from usbackbones.clips import read_clip

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 24), st.integers(1, 24))
SEEDS = st.integers(0, 2**32 - 1)
TYPES = ("u1", "i1", "u2", "i2", "i4", "f4", "f8")


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")


def often(strategy, quick=40):
    """A test over many drawn files, quickly, and over 2,000 with -m slow."""

    def twice(test):
        def run(examples):
            checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
            body = given(strategy)(lambda drawn: test(drawn))
            settings(max_examples=examples, deadline=None, suppress_health_check=checks, derandomize=examples < 100)(
                body
            )()

        return pytest.mark.parametrize("examples", [quick, pytest.param(2000, marks=pytest.mark.slow)])(run)

    return twice


def read(write):
    """The frames of what is written into a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return read_clip(write(Path(folder))).frames


@st.composite
def dicoms(draw):
    """How samples are kept: (size, seed, syntax, bits, shift, signed, color, planes)."""
    syntax = draw(st.sampled_from(LOSSLESS))
    size, allocated = draw(SIZES), draw(st.sampled_from([8, 16]))
    color = draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2", "RGB"]))
    if syntax not in (*NATIVE, "rle"):  # which the encoders of JPEG-LS and JPEG 2000 do not take smaller
        size, allocated = (size[0], 33 + size[1], 33 + size[2]), 8 if color == "RGB" else allocated
    whole = color == "RGB" or syntax not in NATIVE
    stored = allocated if whole else draw(st.integers(1, allocated))
    shift = 0 if whole else draw(st.integers(0, allocated - stored))
    signed = color != "RGB" and syntax in NATIVE and draw(st.booleans())
    return size, draw(SEEDS), syntax, (allocated, stored, shift), signed, color, color == "RGB" and draw(st.booleans())


@often(dicoms())
def test_dicom(drawn):
    size, seed, syntax, (allocated, stored, shift), signed, color, planes = drawn
    rng = np.random.default_rng(seed)
    shape = (*size, 3) if color == "RGB" else size
    values = rng.integers(0, 1 << stored, shape)  # the bits that count
    kept = values << shift | rng.integers(0, 1 << allocated, shape) & ~(((1 << stored) - 1) << shift)
    kept = kept.astype(f"u{allocated // 8}").view(f"{'i' if signed else 'u'}{allocated // 8}")
    numbers = np.where(values >= 1 << (stored - 1), values - (1 << stored), values) if signed else values
    share = (numbers - (-(1 << (stored - 1)) if signed else 0)) / max((1 << stored) - 1, 1)
    gray = np.round(share * 255) if stored <= 8 else np.minimum(np.floor(share * 256), 255)
    if color == "RGB":
        gray = luma(values >> max(stored - 8, 0))
    elements = {"BitsStored": stored, "HighBit": shift + stored - 1, **({"PlanarConfiguration": 1} if planes else {})}
    frames = read(lambda folder: write_dicom(folder / "a.dcm", kept, color, syntax, **elements))
    assert np.abs(frames - (255 - gray if color == "MONOCHROME1" else gray)).max() <= 0.51


VOLUMES = st.tuples(SIZES, SEEDS, st.sampled_from(TYPES), st.booleans(), st.booleans(), st.sampled_from([0, 5, -1]))


@often(VOLUMES)
def test_metaimage_nifti_and_numpy(drawn):
    size, seed, code, big, packed, skip = drawn
    rng, dtype = np.random.default_rng(seed), np.dtype(code)
    scale = float(rng.choice([1, 100, 1000])) if dtype.kind == "f" else 1
    values = (rng.random(size) * scale - scale * rng.integers(2)).astype(dtype)
    if dtype.kind != "f":
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, size, dtype, True)
    low, high = values.min(), values.max()
    expected = shown(values) if low < high or (low >= 0 and high <= 255) else np.zeros(size)

    def mhd(folder):
        fields = {"HeaderSize": skip} if skip and not packed else {}
        path = write_meta(folder / "a.mhd", values, data="a.raw", compress=packed, big=big, **fields)
        if fields:
            (folder / "a.raw").write_bytes(bytes(5) + (folder / "a.raw").read_bytes())
        return path

    def npy(folder):
        np.save(folder / "a.npy", values.astype(dtype.newbyteorder(">" if big else "<")))
        return folder / "a.npy"

    suffix = "nii.gz" if packed else "nii"
    for write in (mhd, npy, lambda folder: write_nifti(folder / f"a.{suffix}", values, 2 if big else 1)):
        if write is npy and size[2] <= 4:  # channels as the last axis
            continue
        assert np.abs(read(write) - expected).max() <= 0.51, write


STILLS = st.tuples(SIZES, SEEDS, st.sampled_from([1, 2, 4, 8, 16]), st.booleans(), st.booleans())


@often(STILLS)
def test_png_tiff_and_bmp(drawn):
    (count, height, width), seed, bits, big, inverted = drawn
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 1 << bits, (count, height, width, 1))
    gray = samples[..., 0] * (255 / ((1 << bits) - 1))
    png = read(lambda folder: write_png(folder / "a.png", samples[0], 0, bits))
    assert np.abs(png - gray[:1]).max() <= (1 if bits == 16 else 0.51)
    tags = {256: [width], 257: [height], 258: [bits], 259: [1], 262: [0 if inverted else 1], 277: [1], 278: [height]}
    big = big and not (inverted and bits == 16)  # which Pillow does not open
    rows = [
        page.astype(">u2" if big else "<u2").tobytes() if bits == 16 else pack(page[..., 0], bits) for page in samples
    ]
    pages = [(content, {tag: ("H", value) for tag, value in tags.items()}) for content in rows]
    tiff = read(lambda folder: write_tiff(folder / "a.tif", pages, big_endian=big))
    assert np.abs(tiff - (255 - gray if inverted else gray)).max() <= (1 if bits == 16 else 0.51)
    if bits in (1, 4, 8):
        palette = rng.integers(0, 256, (1 << bits, 3))
        packed = [pack(row[None, :, 0], bits) for row in samples[0]]
        write = lambda folder: write_bmp(folder / "a.bmp", packed, width, bits, palette=palette, top_down=big)  # noqa: E731
        assert np.abs(read(write) - luma(palette[samples[:1, ..., 0]])).max() <= 0.51
