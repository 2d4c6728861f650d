"""Volumes: NIfTI, MetaImage and NumPy arrays, their axes, gray levels, spacing and faults."""

import gzip
import io
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.hub.clips.dicom.dicom_files import LUMA, doppler, speckle
from usbackbones.clips import ClipError, find_clips, iter_frames, read_clip

REPOSITORY = Path(__file__).resolve().parents[3]


def write_nifti(path, frames, version=1, slope=None, units=("mm", "sec"), zooms=None):
    """Frames [T, H, W] as ITK and nibabel keep them: columns are the first axis, rows the second."""
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    image = kind(frames.transpose(2, 1, 0), np.eye(4))
    image.header.set_xyzt_units(*units)
    image.header.set_zooms(zooms or (0.3, 0.2, 1.0))
    if slope:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


def write_meta(path, frames, *, data=None, compress=False, big=False, channels=1, **fields):
    """Frames as .mha, or as .mhd with its data in the file `data`."""
    types = {"u1": "UCHAR", "i1": "CHAR", "i2": "SHORT", "u2": "USHORT", "i4": "INT", "f4": "FLOAT", "f8": "DOUBLE"}
    sizes = frames.shape[:3][::-1]
    content = frames.astype(frames.dtype.newbyteorder(">" if big else "<")).tobytes()
    content = zlib.compress(content) if compress else content
    lines = {
        "ObjectType": "Image",
        "NDims": len(sizes),
        "BinaryDataByteOrderMSB": big,
        "CompressedData": compress,
        "ElementSpacing": "0.3 0.2 1",
        "DimSize": " ".join(map(str, sizes)),
        "ElementType": f"MET_{types[frames.dtype.str[1:]]}",
        **({"ElementNumberOfChannels": channels} if channels > 1 else {}),
        **fields,
        "ElementDataFile": data or "LOCAL",
    }
    header = "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()
    path.write_bytes(header if data else header + content)
    if data:
        (path.parent / data).write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
def test_nifti(tmp_path, version, suffix):
    clip = read_clip(write_nifti(tmp_path / f"a.{suffix}", speckle(), version))
    assert np.array_equal(clip.frames, speckle())
    assert clip.spacing_mm == pytest.approx((0.2, 0.3))
    assert clip.seconds_per_frame is None
    assert clip.warnings == ()


def test_nifti_with_a_time_axis(tmp_path):
    image = nibabel.Nifti1Image(speckle().transpose(2, 1, 0)[:, :, None], np.eye(4))
    image.header.set_xyzt_units("micron", "msec")
    image.header.set_zooms((300, 200, 1, 40))
    nibabel.save(image, tmp_path / "a.nii")
    clip = read_clip(tmp_path / "a.nii", stride=2)
    assert np.array_equal(clip.frames, speckle()[::2])
    assert clip.spacing_mm == pytest.approx((0.2, 0.3))
    assert clip.seconds_per_frame == pytest.approx(0.08)


def test_nifti_in_color(tmp_path):
    rgb = doppler().transpose(2, 1, 0, 3)
    packed = np.ascontiguousarray(rgb).view(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))[..., 0]
    nibabel.save(nibabel.Nifti1Image(packed, np.eye(4)), tmp_path / "a.nii")
    assert np.abs(read_clip(tmp_path / "a.nii").frames - doppler() @ LUMA).max() <= 0.51


@pytest.mark.parametrize(("compress", "big", "data"), [(0, 0, None), (1, 0, None), (0, 1, "a.raw"), (1, 0, "a.zraw")])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_metaimage(tmp_path, dtype, compress, big, data):
    frames = speckle().astype(dtype)
    path = write_meta(tmp_path / "a.mhd", frames, compress=bool(compress), big=bool(big), data=data)
    clip = read_clip(path)
    assert np.array_equal(clip.frames, speckle())
    assert clip.spacing_mm == (0.2, 0.3)
    assert clip.warnings == ()
    assert np.array_equal(read_clip(path, stride=2, max_frames=2).frames, speckle()[:4:2])


def test_metaimage_with_a_header_in_its_data_and_in_color(tmp_path):
    path = write_meta(tmp_path / "a.mhd", doppler(), data="a.raw", channels=3, HeaderSize=-1)
    (tmp_path / "a.raw").write_bytes(b"some header" + (tmp_path / "a.raw").read_bytes())
    assert np.abs(read_clip(path).frames - doppler() @ LUMA).max() <= 0.51


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.raw", "LIST", "a%03d.raw 1 5 1", "absent.raw"])
def test_metaimage_reads_no_other_file(tmp_path, name):
    path = write_meta(tmp_path / "a.mha", speckle())
    path.write_bytes(path.read_bytes().replace(b"LOCAL", name.encode()))
    with pytest.raises(ClipError, match=r"refused|missing"):
        read_clip(path)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_numpy(tmp_path, suffix):
    def written(array, **more):
        path = tmp_path / f"a.{suffix}"
        if suffix == "npy":
            np.save(path, array)
        else:
            np.savez_compressed(path, **({"frames": array} | more if more else {"any": array}))
        return path

    assert np.array_equal(read_clip(written(speckle())).frames, speckle())
    assert np.array_equal(read_clip(written(speckle(), label=np.arange(3))).frames, speckle())
    assert np.array_equal(read_clip(written(speckle()[0])).frames, speckle()[:1])
    assert np.array_equal(read_clip(written(speckle()[..., None])).frames, speckle())
    assert np.abs(read_clip(written(doppler())).frames - doppler() @ LUMA).max() <= 0.51
    assert np.abs(read_clip(written(doppler()[0])).frames - doppler()[:1] @ LUMA).max() <= 0.51


def expected_gray(values):
    """The rule, the slow way: as they are within 0..255, floats within 0..1 times 255, else stretched."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0, 1
    elif low >= 0 and high <= 255:
        low, high = 0, 255
    return np.round(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    "values",
    [
        speckle() / np.float32(255),
        speckle().astype(np.float64),
        speckle().astype(np.int16) - 100,
        speckle().astype(np.uint16) * 16,
        speckle().astype(np.float32) * -0.1,
        speckle().astype(np.int32) * 100_000,
    ],
)
def test_gray_levels_of_other_types(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    for path in (tmp_path / "a.npy", write_nifti(tmp_path / "a.nii.gz", values)):
        clip = read_clip(path)
        assert np.array_equal(clip.frames, expected_gray(values))
        assert np.array_equal(read_clip(path, max_frames=1).frames, clip.frames[:1])


def test_slope_and_intercept_count(tmp_path):
    path = write_nifti(tmp_path / "a.nii", speckle(), slope=(0.5, 3))
    stored = np.asarray(nibabel.load(path).dataobj)
    assert np.array_equal(read_clip(path).frames, expected_gray(stored.transpose(2, 1, 0)))


def test_values_that_are_no_numbers_are_told(tmp_path):
    values = speckle() / np.float32(255)
    values[0, 0, 0], values[1, 1, 1] = np.nan, np.inf
    np.save(tmp_path / "a.npy", values)
    clip = read_clip(tmp_path / "a.npy")
    assert clip.frames[0, 0, 0] == 0
    assert clip.frames[1, 1, 1] == 255
    assert "no finite numbers" in clip.warnings[0]


def refused(path, *parts):
    with pytest.raises(ClipError) as error:
        read_clip(path)
    assert "\n" not in str(error.value)
    for part in (str(path), ";", *parts):
        assert part in str(error.value)


def test_arrays_that_are_no_clip(tmp_path):
    path = tmp_path / "a.npy"
    for array, told in (
        (np.zeros(5), "an array of 5 is no clip"),
        (np.zeros((2, 3, 4, 5)), "is no clip"),
        (np.zeros((0, 4, 4)), "is no clip"),
        (np.zeros((9, 7, 4)), "9 x 7 x 4 could be one image with 4 channels or 9 frames of 4 columns"),
        (np.zeros((1, 7, 1)), "1 x 7 x 1 could be one image with 1 channel or 1 frame of 1 column; save gray as"),
        (np.zeros((3, 4, 5), complex), "complex128 are no gray levels"),
        (np.zeros((3, 4, 5), "U3"), "are no gray levels"),
        (np.asfortranarray(np.zeros((3, 4, 5))), "np.ascontiguousarray"),
    ):
        np.save(path, array)
        refused(path, told)
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    refused(path)
    np.savez(tmp_path / "a.npz", features=np.zeros((3, 4)), label=np.zeros(3))
    refused(tmp_path / "a.npz", "none of its 2 arrays (features, label) is called frames")
    np.save(path, np.full((2, 4, 5), np.nan))
    refused(path, "hold no numbers")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 3, 5), np.uint8), np.eye(4)), tmp_path / "a.nii")
    refused(tmp_path / "a.nii", "4 x 4 x 3 x 5 is no clip")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "z.mha", "a.npy", "a.npz"])
def test_truncation(tmp_path, name):
    path, frames = tmp_path / name, speckle(12)
    if "nii" in name:
        write_nifti(path, frames)
    elif "mha" in name:
        write_meta(path, frames, compress=name == "z.mha")
    else:
        (np.save if name == "a.npy" else np.savez_compressed)(path, frames)
    content, counts = path.read_bytes(), []
    for cut in np.linspace(1, len(content) - 1, 50).astype(int):
        path.write_bytes(content[:cut])
        try:
            clip = read_clip(path)
        except ClipError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            counts.append(0)
            continue
        counts.append(len(clip.frames))
        assert np.array_equal(clip.frames, frames[: len(clip.frames)])
        assert len(clip.frames) == 12 or any("cut short" in warning for warning in clip.warnings)
    assert counts == sorted(counts)
    assert counts[0] == 0
    if name != "a.npz":  # a zip keeps its list of files at the end
        assert len(set(counts)) > 5


def test_a_header_that_promises_gigabytes_is_refused(tmp_path):
    refused(write_meta(tmp_path / "a.mha", speckle(), DimSize="100000 100000 5"), "cannot be")
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (9**9, 9, 9)})
    (tmp_path / "a.npy").write_bytes(stream.getvalue())
    refused(tmp_path / "a.npy", "end before the first frame")


def test_volumes_are_found_by_content_but_arrays_are_not(tmp_path):
    np.save(tmp_path / "labels.npy", np.zeros((3, 4)))
    (tmp_path / "log.gz").write_bytes(gzip.compress(b"no volume"))
    nifti = write_nifti(tmp_path / "b.nii.gz", speckle(2))
    meta = write_meta(tmp_path / "a.mhd", speckle(2), data="a.raw")
    assert find_clips(tmp_path) == [meta, nifti]
    assert len(list(iter_frames(nifti))) == 2
    assert find_clips(tmp_path / "labels.npy") == [tmp_path / "labels.npy"]


def test_without_nibabel_the_error_says_how_to_install_it(tmp_path):
    path = write_nifti(tmp_path / "a.nii", speckle(1))
    code = f"""
import sys, types
sys.modules["usbackbones"] = package = types.ModuleType("usbackbones")
package.__path__ = [{str(REPOSITORY / "usbackbones")!r}]
sys.modules["nibabel"] = None
from usbackbones.clips.read import read_clip
read_clip({str(path)!r})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "nibabel is not installed; pip install" in run.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("length", [1 << 16, 1 << 20])
def test_the_long_header_of_a_tracked_sweep(tmp_path, length):
    lines = {f"Seq_Frame{i:04d}_ProbeToTrackerTransform": "1 0 0 0 " * 80 for i in range(length // 640)}
    clip = read_clip(write_meta(tmp_path / "a.mha", speckle(), compress=True, **lines))
    assert (tmp_path / "a.mha").stat().st_size > length
    assert np.array_equal(clip.frames, speckle()) and clip.warnings == ()


def test_a_spacing_that_only_a_writer_filled_in_is_unknown(tmp_path):
    assert read_clip(write_meta(tmp_path / "a.mha", speckle(), ElementSpacing="1 1 1")).spacing_mm is None
    assert read_clip(write_meta(tmp_path / "b.mha", speckle(), ElementSpacing="1 0.5 1")).spacing_mm == (0.5, 1)
    plain = write_nifti(tmp_path / "a.nii", speckle(), units=(0, 0), zooms=(1, 1, 1))
    assert read_clip(plain).spacing_mm is None
    told = write_nifti(tmp_path / "b.nii", speckle(), units=("mm", "sec"), zooms=(1, 1, 1))
    assert read_clip(told).spacing_mm == (1, 1)


@pytest.mark.parametrize(
    "word",
    ["MFA", "UFA", "UNA", "MNA", "FMA", "FUA", "NUA", "NMA"],
)
def test_sweeps_of_plus_stand_upright_the_marked_side_right_and_far_down(tmp_path, word):
    """Stored so that columns go where the first letter says and rows where the second does."""
    upright = speckle(2)  # columns go to the marked side, rows go far
    sideways = word[0] in "FN"
    stored = upright.transpose(0, 2, 1) if sideways else upright
    stored = stored[:, :, ::-1] if word[0] in "UN" else stored
    stored = stored[:, ::-1] if word[1] in "UN" else stored
    clip = read_clip(write_meta(tmp_path / "a.mha", stored, UltrasoundImageOrientation=word))
    assert np.array_equal(clip.frames, upright)
    assert clip.spacing_mm == ((0.3, 0.2) if sideways else (0.2, 0.3))
    with pytest.raises(ClipError, match="UltrasoundImageOrientation = QQ is not known"):
        read_clip(write_meta(tmp_path / "b.mha", stored, UltrasoundImageOrientation="QQ"))
