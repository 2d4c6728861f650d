"""Volumes, stacks and cine clips as images and masks: frame by frame, of one orientation, or refused by name."""

import re

import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.dicom.dicom_files import region, write_dicom
from tests.hub.data.trees import noise
from usbackbones.cli import main as cli
from usbackbones.clips.stored import stored_frames
from usbackbones.data.item import DataError
from usbackbones.segmentation.dataset import read_masked
from usbackbones.segmentation.masked import frame_of, mask_of

SHAPE = (24, 28)
LABEL = ("{}", "{}_gt", "{}_mask", "{}-label")


def stack(seed, frames):
    """Images uint8 [T, H, W] and masks bool [T, H, W], each its own; the first mask is empty."""
    images = np.stack([noise(100 * seed + number, SHAPE) for number in range(frames)])
    rows, columns = np.indices(SHAPE)
    masks = np.stack([(rows - 8 - n) ** 2 + (columns - 9 - seed) ** 2 < 20 + n for n in range(frames)])
    masks[0] = False
    return images, masks


def save(file, frames):
    """Frames [T, H, W] as a file of the format of its ending; the mask's 1 is stored as it is."""
    name, frames = file.name, frames.astype(np.uint8)
    if name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(frames.transpose(2, 1, 0), np.eye(4)), file)
    elif name.endswith((".tif", ".gif")):
        first, *others = (Image.fromarray(frame * (255 if frames.max() == 1 else 1)) for frame in frames)
        first.save(file, save_all=True, append_images=others)
    elif name.endswith(".dcm"):
        write_dicom(file, frames, PatientID=re.split("[_.-]", name)[0])
    elif name.endswith(".npy"):
        np.save(file, frames)
    else:
        count = f"NDims = 3\nDimSize = {frames.shape[2]} {frames.shape[1]} {frames.shape[0]}\nElementType = MET_UCHAR\n"
        local = name.endswith(".mha")
        data = "LOCAL" if local else file.with_suffix(".raw").name
        head = f"ObjectType = Image\n{count}ElementDataFile = {data}\n".encode()
        file.write_bytes(head + frames.tobytes() * local)
        if not local:
            file.with_suffix(".raw").write_bytes(frames.tobytes())
    return file


IMAGES = (".nii.gz", ".nii", ".tif", ".gif", ".dcm", ".mha", ".mhd", ".npy")


def build(folder, image, mask, called, flat, count=7):
    """Files of one to four frames with their masks, in images/ and masks/ or beside each other."""
    truth = {}
    for number in range(count):
        images, masks = stack(number, 1 + number % 4)
        place = folder / ("" if flat else "images")
        place.mkdir(parents=True, exist_ok=True)
        (folder / ("" if flat else "masks")).mkdir(exist_ok=True)
        file = save(place / f"v{number}{image}", images)
        save(folder / ("" if flat else "masks") / (called.format(f"v{number}") + mask), masks)
        truth[file] = images, masks
    return truth


@pytest.mark.parametrize("mask", [".nii.gz", ".tif", ".gif", ".mha", ".mhd", ".dcm", ".npy"])
@pytest.mark.parametrize("image", IMAGES)
def test_every_frame_has_its_own_mask(tmp_path, image, mask, monkeypatch):
    """Each format of image with each format of mask, in both layouts; label maps are no images, .raw is no stray."""
    monkeypatch.setenv("USBACKBONES_SALT", "drawn by chance")
    for flat in (False, True):
        data = tmp_path / str(flat)
        called = LABEL[(IMAGES.index(image) + flat) % 4] if not flat else "{}_gt"
        truth, notes = build(data, image, mask, called, flat), []
        items = read_masked(data, note=notes.append)
        assert "16 frames of 7 files" in notes and not any("passed over" in note for note in notes)
        assert len(items) == 16 and {item.path for item in items} == set(truth)
        for item in items:
            images, masks = truth[item.path]
            np.testing.assert_array_equal(frame_of(item), images[item.frame])
            np.testing.assert_array_equal(mask_of(item, SHAPE), masks[item.frame])
            assert item.group == next(other.group for other in items if other.path == item.path)


@pytest.mark.parametrize("image", [".nii.gz", ".tif", ".dcm", ".mha"])
def test_frames_without_a_mask_of_their_own_are_refused_by_name(tmp_path, image):
    build(tmp_path, image, ".tif", "{}", flat=False)
    save(tmp_path / "masks" / "v3.tif", stack(3, 2)[1])
    save(tmp_path / "masks" / "v1.tif", stack(1, 1)[1])
    with pytest.raises(DataError) as refusal:
        read_masked(tmp_path)
    told = f"2 masks without one frame for each of their image: v1{image} has 2, v1.tif 1; v3{image} has 4, v3.tif 2"
    assert told in str(refusal.value)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
def test_images_and_masks_are_turned_alike(tmp_path, orientation, bits):
    """TIFF pages of 8 and 16 bits, plain and compressed, PNG, JPEG and WebP, with orientation as viewers follow it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown, (_, masks) = Image.fromarray(noise(5, SHAPE)), stack(1, 3)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    pages = [Image.fromarray(mask.astype(np.uint8 if bits == 8 else np.uint16) * 200) for mask in masks[1:]]
    for number, compression in enumerate((None, "tiff_lzw")):
        more = {"tiffinfo": {274: orientation}, "compression": compression}
        pages[0].save(tmp_path / "masks" / f"a{number}.tif", save_all=True, append_images=pages[1:], **more)
        shown.save(tmp_path / "images" / f"a{number}.tif", save_all=True, append_images=[shown.rotate(180)], **more)
    for number, ending in enumerate((".png", ".webp")):
        pages[0].convert("L").save(tmp_path / "masks" / f"b{number}.png", exif=exif)
        shown.save(tmp_path / "images" / f"b{number}{ending}", exif=exif)
    turn = {
        1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: np.transpose,
        6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).T, 8: np.rot90,
    }[orientation]  # fmt: skip
    items = read_masked(tmp_path)
    assert len(items) == 6
    for item in items:
        wanted = turn(masks[1 + item.frame])
        assert frame_of(item).shape == wanted.shape
        np.testing.assert_array_equal(mask_of(item, wanted.shape), wanted)


def test_a_mask_of_the_screen_is_cut_to_the_region_of_every_frame(tmp_path, monkeypatch):
    """A cine with a B-mode region, masks of the screen as a stack and as DICOM, and one mask of the region alone."""
    monkeypatch.setenv("USBACKBONES_SALT", "drawn by chance")
    box, rows = (4, 6, 19, 25), ["image,mask"]
    for number in range(6):
        images, masks = stack(number, 3)
        cine = tmp_path / f"i{number}.dcm"
        write_dicom(cine, images, PatientID=f"P{number}", SequenceOfUltrasoundRegions=[region(box)])
        ending = (".tif", ".dcm", ".nii")[number % 3]
        cut = masks[:, 4:20, 6:26] if number == 5 else masks
        save(tmp_path / f"m{number}{ending}", cut.astype(np.uint8) * 255)
        rows.append(f"{cine.name},m{number}{ending}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    notes = []
    items = read_masked(tmp_path / "t.csv", note=notes.append)
    assert "18 frames of 6 files" in notes and "6 patients, by the DICOM header" in notes
    for item in items:
        images, masks = stack(int(item.path.stem[1:]), 3)
        np.testing.assert_array_equal(frame_of(item), images[item.frame, 4:20, 6:26])
        np.testing.assert_array_equal(mask_of(item, (16, 20)), masks[item.frame, 4:20, 6:26])


def test_the_command_counts_frames_and_keeps_a_volume_on_one_side(tmp_path, capsys):
    build(tmp_path / "data", ".nii.gz", ".nii.gz", "{}_mask", flat=True, count=9)
    out = tmp_path / "out"
    cli.main(["segment", str(tmp_path / "data"), "-o", str(out), "--epochs", "1", "--size", "32", "--model",
              "random:test_resnet"])  # fmt: skip
    told = capsys.readouterr()
    assert (
        "note: 21 frames of 9 files" in told.err and "every file counts as a patient of its own (9 files)" in told.err
    )
    counts = [int(n) for n in re.findall(r"^(?:train|validation|test): (\d+) images?$", told.out, re.M)]
    assert sum(counts) == 21 and "patient" not in told.out.replace("taken for a patient of its own", "")
    tested = {row.split(",")[0] for row in (out / "predictions.csv").read_text().splitlines()[1:]}
    frames = sum(row.split(",")[0] in tested for row in (out / "predictions.csv").read_text().splitlines()[1:])
    assert counts[2] == frames == sum(1 + int(path.rsplit("v", 1)[1][0]) % 4 for path in tested)


def test_labels_of_a_dicom_mask_are_kept(tmp_path):
    """Numbers and not gray levels, also where they have 16 bits or one."""
    labels = np.repeat(np.uint8([[0, 1, 2, 3]]), 8, 0)[None].repeat(2, 1)
    for stored in (labels, labels.astype(np.uint16)):
        write_dicom(tmp_path / "m.dcm", stored)
        (frame,) = stored_frames(tmp_path / "m.dcm")
        np.testing.assert_array_equal(frame.values, labels[0])


def volumes(folder, image, mask, ending, count=4):
    """Volumes with masks whose axes run as the diagonals say; None writes none. Files of `ending`."""
    for number in range(count):
        for place, frames, axes in zip(("images", "masks"), stack(number, 3), (image, mask), strict=True):
            (folder / place).mkdir(parents=True, exist_ok=True)
            file = save(folder / place / f"v{number}{ending}", frames)
            if ending == ".nii":
                affine = None if axes is None else np.diag([*(0.3 * np.array(axes)), 1])
                nibabel.save(nibabel.Nifti1Image(frames.astype(np.uint8).transpose(2, 1, 0), affine), file)
            elif axes is not None:
                matrix = " ".join(f"{value:g}" for value in np.diag(axes).ravel())
                head, data = file.read_bytes().split(b"ElementDataFile", 1)
                file.write_bytes(head + f"TransformMatrix = {matrix}\nElementDataFile".encode() + data)
    return folder


@pytest.mark.parametrize("ending", [".nii", ".mha"])
def test_a_mask_whose_axes_run_another_way_is_refused(tmp_path, ending):
    """By SimpleITK too the two arrays are of different places, and of the same where nothing is refused."""
    sitk = pytest.importorskip("SimpleITK")
    turned = volumes(tmp_path / "turned", (-1, -1, 1), (1, -1, 1), ending)
    directions = [sitk.ReadImage(str(turned / place / f"v0{ending}")).GetDirection() for place in ("images", "masks")]
    assert directions[0] != directions[1]
    with pytest.raises(DataError, match=rf"4 masks whose axes run another way .*: v0{ending} of v0{ending}; .*affine"):
        read_masked(turned)
    for name, image, mask in (("alike", (-1, -1, 1), (-1, -1, 1)), ("untold", (-1, -1, 1), None)):
        assert len(read_masked(volumes(tmp_path / name, image, mask, ending))) == 12
