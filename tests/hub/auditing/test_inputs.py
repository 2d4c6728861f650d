"""Sets of masks, columns that label what is on the screen, and files that nobody can look into."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tests.hub.auditing.sets import PATIENTS, still, with_calipers, write_set, write_table
from usbackbones.auditing.inputs import Asked, read_inputs
from usbackbones.auditing.look import look
from usbackbones.auditing.run import audit
from usbackbones.data.item import DataError, Item
from usbackbones.segmentation.dataset import read_masked

pytest.importorskip("cv2", reason="the screen's rows need OpenCV")


def asked(**changes):
    given = {"group_from": "", "columns": (), "source_from": "", "unlabelled": False, "target": "auto"}
    return Asked(**(given | {"foreground": "", "progress": False} | changes))


def write_masks(folder, share_of, size_of=lambda patient: 96):
    """A set of images/ and masks/; a mask is a block of rows."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for patient in range(PATIENTS):
        side = size_of(patient)
        frame = np.asarray(Image.fromarray(still(patient)).resize((side, 96)))
        mask = np.zeros((96, side), np.uint8)
        mask[: round(96 * share_of(patient))] = 255
        Image.fromarray(frame).save(folder / "images" / f"p{patient:02}_a.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{patient:02}_a.png")
    return folder


def test_the_share_that_masks_mark_is_a_number_that_a_cue_can_tell(tmp_path):
    """Frames are as wide as their masks are large: the size of the file tells the share without a pixel."""
    data = write_masks(tmp_path / "set", lambda p: 0.1 + 0.02 * p, lambda p: 96 + 4 * p)
    notes = []
    done = audit(data, tmp_path / "audit", group_from="^(p[0-9]+)", progress=False, note=notes.append)
    assert "the target is the share of the image that its masks mark" in notes
    assert not done.target.classes
    assert np.allclose(sorted(done.target.y), [round(96 * (0.1 + 0.02 * p)) / 96 for p in range(PATIENTS)], atol=1e-6)
    told = next(one for one in done.serious if one.key == "tells:geometry")
    row = next(row for row in done.rows if row.name == "geometry")
    assert f"mean absolute error {row.score.error:.3g} against {row.score.level:.3g}" in told.text
    assert done.counts["patients"] == PATIENTS and "files of" not in done.counts  # a number has no classes
    for name in ("groups.csv", "split.csv"):  # segmentation takes them as they are
        taken = read_masked(tmp_path / "audit" / name)
        assert len(taken) == PATIENTS
        assert {item.group for item in taken} == {f"p{patient:02}" for patient in range(PATIENTS)}
    assert {item.part for item in taken} == {"train", "validation", "test"}


def test_files_of_no_clip_and_masks_are_named_where_nothing_is_labelled(tmp_path):
    data, notes = write_masks(tmp_path / "set", lambda p: 0.3) / "images", []
    (data / "p00_a_mask.png").write_bytes((data / "p01_a.png").read_bytes())
    (data / "notes.txt").write_text("of the clinic")
    found = read_inputs(data, asked(unlabelled=True), notes.append)
    assert len(found.items) == PATIENTS
    assert f"passed over 1 file in {data}, masks of their neighbors: p00_a_mask.png" in notes
    assert f"passed over 1 file in {data}, no clips: notes.txt" in notes


def test_empty_or_marked_are_classes_if_asked_for(tmp_path):
    data = write_masks(tmp_path / "set", lambda p: 0.3 * (p % 2))
    found = read_inputs(data, asked(target="class"), lambda line: None)
    assert found.kind == "class"
    assert [item.label for item in found.items] == ["empty", "marked"] * (PATIENTS // 2)
    whole = write_masks(tmp_path / "whole", lambda p: 0.3)
    with pytest.raises(DataError, match="the masks of all 24 images are marked: nothing differs"):
        read_inputs(whole, asked(target="class"), lambda line: None)


def test_a_table_of_masks_with_its_columns(tmp_path):
    write_masks(tmp_path, lambda p: 0.1 + 0.02 * p)
    rows = [
        {"image": f"images/p{p:02}_a.png", "mask": f"masks/p{p:02}_a.png", "patient": f"p{p}", "site": "xy"[p % 2]}
        for p in range(PATIENTS)
    ]
    found = read_inputs(
        write_table(tmp_path / "t.csv", rows), asked(columns=("site",), source_from="site"), lambda line: None
    )
    assert found.kind == "number"
    assert found.sources == found.columns["site"] == list("xy") * (PATIENTS // 2)


def test_masks_of_several_values_are_asked_about_and_answered(tmp_path):
    data = write_masks(tmp_path / "set", lambda p: 0.1 + 0.02 * p)
    for patient in range(PATIENTS):
        file = data / "masks" / f"p{patient:02}_a.png"
        mask = np.asarray(Image.open(file)) // 255 * 2
        mask[-1] = 1
        Image.fromarray(mask).save(file)
    with pytest.raises(DataError, match="--foreground"):
        read_inputs(data, asked(), lambda line: None)
    found = read_inputs(data, asked(foreground="2"), lambda line: None)
    assert float(found.items[0].label) == pytest.approx(round(9.6) / 96, abs=1e-6)


def test_sensitivity_and_specificity_stand_in_the_report_where_they_are_labelled(tmp_path):
    rows = write_set(tmp_path, lambda p: "ab"[p % 2], lambda f, label: with_calipers(f) if label == "b" else f)
    for number, row in enumerate(rows):
        row["has_calipers"] = "" if number < 4 else str(int(row["label"] == "b"))
    rows[-1]["has_calipers"] = "0"  # a file with calipers that is said to have none
    done = audit(write_table(tmp_path / "t.csv", rows), tmp_path / "audit", unlabelled=True, progress=False)
    known = [row for row in rows if row["has_calipers"]]
    wrong = [row for row in known if row["has_calipers"] == "0" and row["label"] == "b"]
    found = done.detectors["calipers checked"]
    assert (found["with"], found["without"]) == (21, 23)
    assert found["sensitivity"] == 1.0
    assert found["specificity"] == pytest.approx(1 - len(wrong) / 23)
    report = (tmp_path / "audit" / "report.html").read_text()
    assert "1.00 (21 files)" in report
    assert "0.96 (23 files)" in report
    rows[0]["has_calipers"] = "yes"
    with pytest.raises(DataError, match="has_calipers is 'yes' in a row: give 1, 0"):
        audit(write_table(tmp_path / "t.csv", rows), tmp_path / "no", unlabelled=True, progress=False)


def test_clean_frames_are_without_the_bars_beside_the_ultrasound(tmp_path):
    """One still has plain bars: what is seen of it after cleaning is what is seen of the still without them."""
    texture = np.random.default_rng(0).integers(40, 220, (2, 96, 120), dtype=np.uint8)
    barred = np.pad(texture[0], ((0, 0), (16, 24)), constant_values=7)
    for name, frame in (("barred.png", barred), ("plain.png", texture[1]), ("same.png", texture[0])):
        Image.fromarray(frame).save(tmp_path / name)
    items = [Item(tmp_path / name, "", name) for name in ("barred.png", "plain.png", "same.png")]
    looked = look(items, tmp_path, tmp_path / "scratch", progress=False)
    assert looked.changed.tolist() == [True, False, False]
    assert len(looked.clean) == 1
    assert np.array_equal(looked.clean[0], texture[0])
    barred, plain, same = looked.seen
    for name in ("small", "levels", "thumb"):
        assert np.array_equal(getattr(barred.clean, name), getattr(same.plain, name))
        assert not np.array_equal(getattr(barred.plain, name), getattr(same.plain, name))
        assert np.array_equal(getattr(plain.clean, name), getattr(plain.plain, name))


def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    """What is held of a file after it was read is a small part of its frame, whatever its size."""
    frame = np.random.default_rng(0).integers(0, 256, (600, 800), dtype=np.uint8)
    for number in range(24):
        Image.fromarray(np.roll(frame, number, 0)).save(tmp_path / f"{number:02}.png")
    items = [Item(tmp_path / f"{number:02}.png", "", str(number)) for number in range(24)]

    def held(count):
        look(items[:1], tmp_path, tmp_path / "first", progress=False)  # libraries and tables are loaded
        tracemalloc.start()
        looked = look(items[:count], tmp_path, tmp_path / str(count), progress=False)
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(looked.seen) == count
        return now, peak

    (few, few_peak), (many, many_peak) = held(6), held(24)
    assert (many - few) / 18 < frame.size / 20  # bytes that each further file keeps
    assert many_peak - few_peak < frame.size  # and at no time was a second frame there for long
