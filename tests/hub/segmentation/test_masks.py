"""What the values of masks mean: two are a mask, more are a question, and the whole set decides."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from usbackbones.cli import main as cli
from usbackbones.clips.files import stills_in
from usbackbones.clips.read import read_clip
from usbackbones.clips.stored import stored_frames
from usbackbones.data.item import DataError
from usbackbones.segmentation.config import Segment
from usbackbones.segmentation.dataset import read_masked
from usbackbones.segmentation.look import Answers
from usbackbones.segmentation.losses import (
    dice_and_cross_entropy,
    dice_and_cross_entropy_of_classes,
    foreground,
)
from usbackbones.segmentation.mask_values import Meaning, Seen, only_alpha, values_of
from usbackbones.segmentation.masked import labels_of, mask_of
from usbackbones.segmentation.run import load_segmenter

SHAPE = (60, 80)
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[10:30, 10:40], LABELS[35:55, 40:70] = 1, 2
DISC = np.hypot(*(np.indices(SHAPE) - np.array([30, 40])[:, None, None])) < 15


def save(folder, masks):
    """images/ and masks/, one file a mask; arrays and Pillow images alike."""
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    for number, mask in enumerate(masks):
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        noise = np.random.default_rng(number).integers(0, 255, (image.height, image.width), np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"a{number}.png")
        image.save(folder / "masks" / f"a{number}.png")
    return folder


def read(folder, **answers):
    notes = []
    return read_masked(folder, Answers(**answers), note=notes.append), notes


def pixels(items):
    return [int(mask_of(item, SHAPE).sum()) for item in items]


def rgba(color, alpha):
    return np.dstack([np.broadcast_to(np.uint8(color), (*alpha.shape, 3)), alpha])


TWO = {
    "0 and 255": DISC.astype(np.uint8) * 255,
    "0 and 1": DISC.astype(np.uint8),
    "one bit": DISC,
    "16 bits": DISC.astype(np.uint16) * 1000,
    "red on black": np.dstack([DISC.astype(np.uint8) * 255, np.zeros((*SHAPE, 2), np.uint8)]),
    "a palette of one label": Image.fromarray(DISC.astype(np.uint8) * 3, "P"),
    "black, and transparent outside": rgba((0, 0, 0), DISC.astype(np.uint8) * 255),
    "white, and transparent outside": rgba((255, 255, 255), DISC.astype(np.uint8) * 255),
    "red on transparent": rgba((255, 0, 0), DISC.astype(np.uint8) * 255) * DISC[..., None].astype(np.uint8),
    "gray and transparency": Image.merge("LA", [Image.new("L", SHAPE[::-1], 255), Image.fromarray(DISC).convert("L")]),
}
TWO["a palette of one label"].putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])


@pytest.mark.parametrize("name", TWO)
def test_two_values_are_a_mask(tmp_path, name):
    items, notes = read(save(tmp_path, [TWO[name], TWO[name]]))
    assert pixels(items) == [DISC.sum()] * 2
    assert any(note.startswith("masks: ") and "is foreground" in note for note in notes)


def test_empty_and_full_masks_are_what_the_set_says(tmp_path):
    masks = [DISC.astype(np.uint8) * 255, np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)]
    assert pixels(read(save(tmp_path, masks))[0]) == [DISC.sum(), 0, DISC.size]
    clear, opaque = (rgba((0, 0, 0), np.full(SHAPE, alpha, np.uint8)) for alpha in (0, 255))
    (tmp_path / "alpha").mkdir()
    masks = [rgba((0, 0, 0), DISC.astype(np.uint8) * 255), clear, opaque]
    items, notes = read(save(tmp_path / "alpha", masks))
    assert pixels(items) == [DISC.sum(), 0, DISC.size] and any("from their transparency" in note for note in notes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="not one mask marks anything"):
        read(save(tmp_path / "empty", [np.zeros(SHAPE, np.uint8)] * 2))


@pytest.mark.parametrize("scale", [0.5, 0.7, 2.3, 4])
@pytest.mark.parametrize("quality", [None, 60, 90])
def test_gray_levels_along_edges_are_still_two(tmp_path, scale, quality):
    """Scaled smoothly, or through JPEG and back to PNG; the mask is that of the middle level."""
    size = (round(80 * scale), round(60 * scale))
    soft = Image.fromarray(DISC.astype(np.uint8) * 255).resize(size, Image.Resampling.BICUBIC)
    if quality:
        stream = io.BytesIO()
        soft.save(stream, "JPEG", quality=quality)
        soft = Image.open(stream)
    items, _ = read(save(tmp_path, [soft]))
    np.testing.assert_array_equal(mask_of(items[0], size[::-1]), np.asarray(soft) > 127)


MANY = {
    "0, 1, 2": (LABELS, "1", "2"),
    "0, 127, 255": (np.uint8([0, 127, 255])[LABELS], "127", "255"),
    "colors": (np.uint8([[0, 0, 0], [255, 0, 0], [0, 255, 0]])[LABELS], "#ff0000", "#00ff00"),
    "a palette": (Image.fromarray(LABELS, "P"), "1", "2"),
    "16 bits": (np.uint16([0, 500, 40000])[LABELS], "500", "40000"),
}
MANY["a palette"][0].putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])


@pytest.mark.parametrize("name", MANY)
def test_more_values_are_a_question(tmp_path, name):
    """Refused with values and shares; a union, or classes, answers it."""
    mask, one, two = MANY[name]
    save(tmp_path, [mask, mask])
    with pytest.raises(DataError, match=r"the masks hold 3 values, 0.*\(75\.0%\), .* --foreground .*--classes NAME="):
        read(tmp_path)
    assert pixels(read(tmp_path, foreground=f"{one},{two}")[0]) == [1200, 1200]
    assert pixels(read(tmp_path, foreground=one)[0]) == [600, 600]
    items, notes = read(tmp_path, classes=f"nerve={one},artery={two}")
    np.testing.assert_array_equal(labels_of(items[0], SHAPE), LABELS)
    assert items[0].meaning.names == ("nerve", "artery") and any("is nerve" in note for note in notes)


def test_the_set_decides_and_not_the_image(tmp_path):
    """Each file alone has two values; together they have three."""
    save(tmp_path, [LABELS * (LABELS == 1), LABELS * (LABELS == 2)])
    with pytest.raises(DataError, match=r"the masks hold 3 values, 0 \(87\.5%\), 1 \(6\.2%\), 2 \(6\.2%\)"):
        read(tmp_path)
    items, _ = read(tmp_path, foreground="2")
    assert pixels(items) == [0, 600]


def test_a_picture_in_the_place_of_a_mask_is_no_mask(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
    picture[:20] = 0
    with pytest.raises(DataError, match="the masks hold 255 values"):
        read(save(tmp_path, [picture]))


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"foreground": "3"}, r"no mask holds 3: they hold 0 \(75\.0%\), 1"),
        ({"foreground": "a"}, "'a' is no value"),
        ({"foreground": "a=1"}, "give values alone"),
        ({"classes": "1,2"}, "give names with a value each"),
        ({"classes": "=1"}, "give names with a value each"),
        ({"foreground": "1", "classes": "a=1"}, "give one"),
    ],
)
def test_answers_that_answer_nothing(tmp_path, answers, told):
    with pytest.raises(DataError, match=told):
        read(save(tmp_path, [LABELS]), **answers)


def test_masks_of_another_size_are_all_listed_or_resized(tmp_path):
    save(tmp_path, [DISC, DISC, DISC])
    for number in (0, 2):
        Image.fromarray(DISC).resize((40, 30)).save(tmp_path / "masks" / f"a{number}.png")
    with pytest.raises(DataError, match=r"2 masks .*: a0\.png 30x40, image 60x80; a2\.png 30x40.*--resize-masks"):
        read(tmp_path)
    items, notes = read(tmp_path, resize_masks="nearest")
    small = np.asarray(Image.fromarray(DISC).resize((40, 30)))
    np.testing.assert_array_equal(mask_of(items[0], SHAPE), small.repeat(2, 0).repeat(2, 1))
    assert any(note.startswith("2 masks brought to the size") for note in notes)


def test_a_palette_that_changes_and_fractions_are_refused(tmp_path):
    other = Image.fromarray(LABELS, "P")
    other.putpalette([0, 0, 0, 0, 128, 0, 128, 0, 0])
    with pytest.raises(DataError, match="its palette has another color for 1"):
        read(save(tmp_path, [MANY["a palette"][0], other]))
    (tmp_path / "f").mkdir()
    save(tmp_path / "f", [DISC])
    Image.fromarray(DISC.astype(np.float32) / 3).save(tmp_path / "f" / "masks" / "a0.tif")
    (tmp_path / "f" / "masks" / "a0.png").unlink()
    with pytest.raises(DataError, match=r"a value is 0\.333333: save labels as whole numbers"):
        read(tmp_path / "f")


@settings(max_examples=40, deadline=None)
@given(
    levels=st.lists(st.integers(0, 300), min_size=1, max_size=5, unique=True).map(sorted),
    values=st.lists(st.integers(0, 400), min_size=6, max_size=6),
)
def test_a_pixel_counts_as_the_nearest_level(levels, values):
    """Against the obvious loop."""
    meaning = Meaning(tuple(levels), tuple(range(len(levels))), ("x",) * 4)
    slow = [min(range(len(levels)), key=lambda i: (abs(levels[i] - value), i)) for value in values]
    assert meaning.labels(np.array(values).reshape(2, 3)).ravel().tolist() == slow


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(4)), st.integers(1, 3))
def test_the_order_of_files_changes_nothing(order, scale):
    masks = [DISC.astype(np.uint8) * 255, np.full(SHAPE, 255, np.uint8), np.zeros(SHAPE, np.uint8), LABELS * scale]

    def seen(masks):
        found = Seen()
        for mask in masks:
            found.look(mask.astype(np.int64), lossy=False)
        return found.labels(), found.pixels

    assert seen(masks) == seen([masks[place] for place in order])


def test_stored_frames_keep_what_is_stored(tmp_path):
    """Upright, with transparency, and every page."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(LABELS).save(tmp_path / "a.png", exif=exif)
    (turned,) = stored_frames(tmp_path / "a.png")
    np.testing.assert_array_equal(turned.values, np.rot90(LABELS, -1))
    pages = [Image.fromarray(LABELS), Image.fromarray(LABELS * 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert [int(values_of(one).max()) for one in stored_frames(tmp_path / "a.tif")] == [2, 4]
    Image.fromarray(rgba((9, 9, 9), LABELS)).save(tmp_path / "b.png")
    (clear,) = stored_frames(tmp_path / "b.png")
    assert only_alpha(clear) and (values_of(clear) == LABELS).all()


def test_the_loss_of_classes_is_its_slow_form():
    """Cross-entropy and soft Dice pixel by pixel, in float64; of one class against background as with a sigmoid."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=rng, dtype=torch.float64)
    truth = torch.randint(0, 3, (2, 4, 5), generator=rng)
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    entropy = [-float(p[n, truth[n, y, x], y, x].log()) for n in range(2) for y in range(4) for x in range(5)]
    apart = []
    for n in range(2):
        for c in (1, 2):
            hit = truth[n] == c
            apart.append(1 - float((2 * p[n, c][hit].sum() + 1) / (p[n, c].sum() + hit.sum() + 1)))
    slow = np.mean(entropy) + np.mean(apart)
    assert float(dice_and_cross_entropy_of_classes(logits, truth)) == pytest.approx(slow, rel=1e-12)
    both = torch.stack([torch.zeros_like(logits[:, 0]), logits[:, 1]], 1)
    one = dice_and_cross_entropy(logits[:, 1], (truth == 1).double())
    assert float(dice_and_cross_entropy_of_classes(both, (truth == 1).long())) == pytest.approx(float(one), rel=1e-12)


def test_a_unet_of_classes_from_the_command_line(tmp_path, capsys):
    """The Dice of each class in the metrics, class names in the saved folder, masks as a palette of the numbers."""
    folder = save(tmp_path, [np.roll(LABELS, 3 * shift, 1) for shift in range(10)])
    command = ["segment", str(folder), "--model", "random:test_resnet", "--size", "32", "--epochs", "1", "-o"]
    with pytest.raises(SystemExit):
        cli.main([*command, str(tmp_path / "no")])
    assert "the masks hold 3 values" in capsys.readouterr().err.splitlines()[-1]
    cli.main([*command, str(tmp_path / "out"), "--classes", "nerve=1,artery=2"])
    out, err = capsys.readouterr()
    assert "dice nerve" in out and "dice artery" in out and "by patient" not in out
    assert "note: masks: 1 is nerve" in err and "every file counts as a patient of its own (10 files)" in err
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    both = np.mean([told["metrics"][f"dice_{name}"]["value"] for name in ("nerve", "artery")])
    assert told["metrics"]["dice"]["value"] == pytest.approx(both)
    assert told["masks"]["names"] == told["spec"]["classes"] == ["nerve", "artery"]
    model = load_segmenter(tmp_path / "out")
    logits = model(torch.rand(1, 1, 32, 32))
    assert logits.shape == (1, 3, 32, 32)
    torch.testing.assert_close(foreground(model, torch.ones(1, 1, 32, 32)) <= 1, torch.ones(1, 32, 32) > 0)
    assert json.loads((tmp_path / "out" / "model.json").read_text())["classes"] == ["background", "nerve", "artery"]
    cli.main(["predict", str(tmp_path / "out"), str(folder / "images"), "-o", str(tmp_path / "predicted")])
    assert "area_pixels_nerve" in (tmp_path / "predicted" / "predictions.csv").read_text().splitlines()[0]
    written = Image.open(next((tmp_path / "out" / "masks").iterdir()))
    assert written.mode == "P" and written.size == SHAPE[::-1] and np.asarray(written).max() <= 2
    assert "dice nerve" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(DataError, match="--classes needs --head unet"):
        Segment(head="mask_rcnn", classes=("a", "b"))


@pytest.mark.parametrize("names", [("image_1", "mask_1"), ("Img-2", "Mask-2"), ("7", "mask_7"), ("FRAME03", "LABEL03")])
@pytest.mark.parametrize("apart", [True, False])
def test_masks_that_are_called_so_first(tmp_path, names, apart):
    """image_1 and mask_1, in two folders or in one; the mask is no image, and none of a class folder either."""
    for name, content, place in zip(names, (LABELS, DISC), ("images", "masks"), strict=True):
        (tmp_path / (place * apart)).mkdir(exist_ok=True)
        Image.fromarray(content).save(tmp_path / (place * apart) / f"{name}.png")
    (item,) = read(tmp_path)[0]
    assert item.path.stem == names[0] and pixels([item]) == [DISC.sum()]
    if not apart:
        assert [file.stem for file in stills_in(tmp_path)] == [names[0]]
        assert read_clip(tmp_path).names == (f"{names[0]}.png",)


def test_one_image_twice_with_other_masks_is_refused(tmp_path):
    save(tmp_path, [DISC, DISC])
    row = "images/a0.png,masks/a{}.png"
    (tmp_path / "t.csv").write_text("\n".join(["image,mask", row.format(0), row.format(1)]))
    with pytest.raises(DataError, match="is named twice, with other masks: give all masks of an image in one row"):
        read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("\n".join(["image,mask", "images/a0.png,masks"]))
    with pytest.raises(DataError, match=r"line 2: .*masks is a folder"):
        read(tmp_path / "t.csv")
