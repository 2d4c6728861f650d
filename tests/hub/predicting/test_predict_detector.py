"""A Mask R-CNN folder in predict and evaluate: the mask of its surest detection, beside torchvision's own answer."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from tests import pages
from usbackbones.exporting.export import ExportError
from usbackbones.exporting.subject import subject_of
from usbackbones.predicting.evaluate import evaluate
from usbackbones.predicting.run import predict
from usbackbones.segmentation.run import load_segmenter


def test_the_mask_is_that_of_the_surest_detection(detector, tmp_path):
    pages.masked(tmp_path / "data", 4)
    wide = Image.open(tmp_path / "data" / "images" / "p0.png").resize((96, 64))
    wide.save(tmp_path / "data" / "images" / "p0.png")
    Image.open(tmp_path / "data" / "masks" / "p0.png").resize(wide.size, 0).save(tmp_path / "data" / "masks" / "p0.png")
    model, drawn = load_segmenter(detector), {}
    for number in range(4):
        frame = Image.open(tmp_path / "data" / "images" / f"p{number}.png")
        small = torch.from_numpy(np.array(frame.resize((64, 64), Image.Resampling.BILINEAR)))[None].float() / 255
        with torch.inference_mode():
            (found,) = model([small])
        mask = found["masks"][found["scores"].argmax(), 0].numpy()
        drawn[f"p{number}.png"] = np.asarray(Image.fromarray(mask).resize(frame.size, Image.Resampling.BILINEAR)) > 0.5
    assert all(0 < mask.mean() < 1 for mask in drawn.values())  # a network that draws nothing proves nothing
    done = predict(detector, tmp_path / "data" / "images", tmp_path / "out", batch=3, progress=False)
    with done.frames.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 and done.errors == 0
    for row in rows:
        wanted = drawn[row["file"].rsplit("/", 1)[1]]
        found = np.asarray(Image.open(tmp_path / "out" / row["mask"])) > 0
        assert (found == wanted).mean() > 0.999 and float(row["area_pixels"]) == found.sum()
    evaluated = evaluate(detector, tmp_path / "data", tmp_path / "evaluation", progress=False)
    truths = {name: np.asarray(Image.open(tmp_path / "data" / "masks" / name)) > 0 for name in drawn}
    dice = [2 * (drawn[name] & truths[name]).sum() / (drawn[name].sum() + truths[name].sum()) for name in drawn]
    assert evaluated.metrics["image"]["dice"]["value"] == pytest.approx(np.mean(dice), abs=0.002)


def test_export_says_why_not(detector):
    with pytest.raises(ExportError, match="is a Mask R-CNN, whose number of findings no fixed program has"):
        subject_of(f"local-dir:{detector}")
