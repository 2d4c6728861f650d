"""Masks of a segmenter of several structures: labels, legend, overlays and areas, at the size of each frame."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.hub.clips.dicom.dicom_files import write_dicom
from tests.hub.predicting.conftest import structures
from usbackbones.predicting.areas import area_columns, areas
from usbackbones.predicting.masks import outlined
from usbackbones.predicting.run import predict
from usbackbones.predicting.trained import PredictError
from usbackbones.segmentation.losses import network_input
from usbackbones.segmentation.report import COLORS, color_of, mask_image
from usbackbones.segmentation.run import load_segmenter


def rows_of(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_labels_areas_and_legend_of_several_structures(segmenter, tmp_path):
    images = structures(tmp_path / "new", first=20, count=2)
    shutil.rmtree(images / "masks")
    frame = np.asarray(Image.open(images / "images" / "s20.png"))
    write_dicom(images / "a.dcm", frame[None], PixelSpacing=[0.5, 0.25])
    done = predict(segmenter, images, tmp_path / "out", progress=False)
    model, rows = load_segmenter(segmenter), {row["file"].rsplit("/", 1)[1]: row for row in rows_of(done.frames)}
    assert len(rows) == 3 and rows_of(done.frames) and done.errors == 0
    # The slow form: the whole way by hand, class by class.
    small = Image.fromarray(frame).resize((32, 32), Image.Resampling.BILINEAR)
    with torch.inference_mode():
        p = model(network_input(model, torch.from_numpy(np.array(small))[None])).double().softmax(1)[0].float()
    height, width = frame.shape
    scaled = [np.asarray(Image.fromarray(c.numpy()).resize((width, height), Image.Resampling.BILINEAR)) for c in p]
    wanted = np.stack(scaled).argmax(0)
    assert {1, 2} <= set(np.unique(wanted))  # a network that draws nothing proves nothing
    for name, size in (("s20.png", None), ("a.dcm", 0.125)):
        found = np.asarray(Image.open(tmp_path / "out" / rows[name]["mask"]))
        assert (found == wanted).mean() > 0.999
        for number, structure in ((1, "nerve"), (2, "artery")):
            pixels = int((found == number).sum())
            assert float(rows[name][f"area_pixels_{structure}"]) == pixels
            told = rows[name][f"area_mm2_{structure}"]
            assert told == "" if size is None else float(told) == pytest.approx(pixels * size, rel=1e-5)
    legend = rows_of(tmp_path / "out" / "legend.csv")
    assert [(row["value"], row["class"]) for row in legend] == [("0", "background"), ("1", "nerve"), ("2", "artery")]
    shown = np.asarray(Image.open(tmp_path / "out" / rows["s20.png"]["overlay"]))
    assert shown.shape == (height, width, 3)
    for number in (1, 2):
        edge = (shown == color_of(number)).all(-1)
        assert edge.any() and (found[edge] == number).all()
        assert legend[number]["color"] == "#{:02x}{:02x}{:02x}".format(*color_of(number))
    masks = set((tmp_path / "out" / "masks").iterdir())
    (tmp_path / "out" / "masks" / "of_an_earlier_run.png").write_bytes(b"old")
    assert predict(segmenter, images, tmp_path / "out", progress=False).was_finished
    (images / "images" / "s21.png").unlink()
    fewer = predict(segmenter, images, tmp_path / "out", overwrite=True, progress=False)
    left = set((tmp_path / "out" / "masks").iterdir())
    assert left < masks and len(left) == fewer.predicted == 2
    about = json.loads(done.about.read_text())
    assert about["classes"] == ["nerve", "artery"] and "none (random initialization)" in about["weights_license"]
    with pytest.raises(PredictError, match="writes masks; give a folder"):
        predict(segmenter, images, tmp_path / "x.csv", progress=False)


def test_files_of_one_name_keep_their_masks(segmenter, tmp_path):
    images = structures(tmp_path / "new", first=20, count=2) / "images"
    for folder, name in (("a", "s20.png"), ("b", "s21.png")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        shutil.copy(images / name, tmp_path / "in" / folder / f"{'long' * 50}.png")
    done = predict(segmenter, tmp_path / "in", tmp_path / "in" / "out", progress=False)
    masks = {row["mask"] for row in rows_of(done.frames)}
    assert len(masks) == 2 and all((tmp_path / "in" / "out" / mask).is_file() for mask in masks)
    again = predict(segmenter, tmp_path / "in", tmp_path / "in" / "again", progress=False)
    assert again.frames.read_bytes() == done.frames.read_bytes()  # the masks of the first run are no input


def test_a_single_structure_keeps_its_short_columns():
    mask = np.array([[True, True], [False, True]])
    assert area_columns(["lesion"]) == ["area_pixels", "area_mm2"]
    np.testing.assert_array_equal(areas(mask, 1, (2.0, 0.5)), [3, 3])
    np.testing.assert_array_equal(areas(mask.astype(np.uint8) * 2, 2, None), [0, np.nan, 3, np.nan])


def test_outlines_are_the_pixels_at_the_edge_of_their_structure():
    """The slow form: a pixel with a neighbor, of four, of another class or outside the frame."""
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 4, (5, 6)), np.ones((4, 3))).astype(np.uint8)
    shown, padded = np.asarray(outlined(np.full(mask.shape, 99, np.uint8), mask)), np.pad(mask.astype(int), 1) - 0
    padded[[0, -1]], padded[:, [0, -1]] = -1, -1
    for (row, column), own in np.ndenumerate(mask):
        near = [padded[row + 1 + dy, column + 1 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        edge = own > 0 and any(other != own for other in near)
        assert tuple(shown[row, column]) == (color_of(own) if edge else (99, 99, 99))


def test_every_class_of_a_mask_is_visible():
    labels = np.arange(256, dtype=np.uint8)[None]
    colors = np.asarray(mask_image(labels).convert("RGB"))[0]
    assert tuple(colors[0]) == (0, 0, 0) and (colors[1:].max(1) > 100).all()
    assert tuple(colors[len(COLORS) + 1]) == COLORS[0]
