"""Random trees of labelled files: no patient on two sides, every file used or named, whatever the order of files."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.hub.data.trees import Tree, labelled_trees, listed_in_another_order, masked_trees, shuffle_rows
from usbackbones.clips.files import identity_of
from usbackbones.data.dataset import read_items, split_items
from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError
from usbackbones.data.leakage import copies_among, together
from usbackbones.probing.evaluate import divisions
from usbackbones.segmentation.dataset import read_masked
from usbackbones.segmentation.look import Answers
from usbackbones.segmentation.masked import copies_of, frame_of, mask_of

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "drawn by chance")


def read(tree: Tree):
    notes = []
    return read_items(tree.data, tree.group_from, notes.append), notes


def counted(notes, *, links=False):
    """Files that the notes count as passed over, or as names of files that count already."""
    pattern = r"(\d+) names? of files" if links else r"passed over (\d+) file"
    return sum(int(match[1]) for note in notes if (match := re.match(pattern, note)))


@QUICK
@given(st.data())
def test_no_patient_on_two_sides_and_every_file_used_or_named(data):
    """`finetune` and `probe` from the files to their parts; the order of files and rows changes nothing."""
    with tempfile.TemporaryDirectory() as place:
        tree = data.draw(labelled_trees(Path(place)))
        items, notes = read(tree)
        truth = {identity_of(file): facts for file, facts in tree.used.items()}
        assert sorted(map(str, truth)) == sorted(str(identity_of(item.path)) for item in items)  # each once
        assert all(item.label == truth[identity_of(item.path)][0] for item in items)
        told, own = {}, {}
        for item in items:
            patient = truth[identity_of(item.path)][1]
            assert told.setdefault(item.group, patient) == patient  # no group of two patients
            assert own.setdefault(patient, item.group) == item.group  # and no patient of two groups
        assert counted(notes) == len(tree.named)
        line = next(note for note in notes if "patient" in note or "group" in note)
        assert line.startswith(f"{len(own)} ") or f"({len(own)} files)" in line
        if tree.data.is_file():
            shuffle_rows(tree.data, 1)
        with listed_in_another_order(data.draw(st.integers(0, 99))):
            assert (items, notes) == read(tree)
        frames = Frames(items, Path(place) / "frames.u8", 1, progress=False)
        assert not frames.skipped and len(frames.item) == len(items)
        whole = together(items, copies_among(items, frames))
        assert [item.group for item in whole] == [item.group for item in items]  # nothing alike was drawn
        sides = {}
        try:
            parts, folds = split_items(whole), divisions(whole, 5, 0)
        except DataError as error:  # too few patients of a class, where many have both
            assert re.search("the .* part has no item of|give two groups of a class", str(error))
            return
        for item in parts:
            assert sides.setdefault(truth[identity_of(item.path)][1], item.part) == item.part
        seen = np.zeros(len(items), int)
        for fit, held in folds:
            assert not {told[items[n].group] for n in fit} & {told[items[n].group] for n in held}
            seen[held] += 1
        assert (seen == 1).all()


@QUICK
@given(st.data())
def test_images_with_masks_are_each_used_with_their_own_truth(data):
    """`segment` from the files to its parts, for every layout, source of patients and kind of mask."""
    with tempfile.TemporaryDirectory() as place:
        tree = data.draw(masked_trees(Path(place)))
        items, notes = read_masks(tree)
        truth = {identity_of(file): (patient, tree.masks[file]) for file, (_, patient) in tree.used.items()}
        assert sorted(map(str, truth)) == sorted(str(identity_of(item.path)) for item in items)
        own, told = {}, {}
        for item in items:
            patient, mask = truth[identity_of(item.path)]
            shape = frame_of(item).shape
            if mask.shape != shape:
                mask = np.asarray(Image.fromarray(mask).resize(shape[::-1], Image.Resampling.NEAREST))
            np.testing.assert_array_equal(mask_of(item, shape), mask)
            assert own.setdefault(patient, item.group) == item.group and told.setdefault(item.group, patient) == patient
        assert counted(notes) == len(tree.named)
        assert any(note.startswith("masks: ") for note in notes)
        if tree.data.is_file():
            shuffle_rows(tree.data, 1)
        with listed_in_another_order(data.draw(st.integers(0, 99))):
            assert (items, notes) == read_masks(tree)
        sides = {}
        for item in split_items(together(items, copies_of(items)), 0.3, 0.3, every_label=False):
            assert sides.setdefault(truth[identity_of(item.path)][0], item.part) == item.part
        assert len(set(sides.values())) == 3


def read_masks(tree: Tree):
    notes = []
    items = read_masked(tree.data, Answers(**tree.answers), group_from=tree.group_from, note=notes.append)
    return items, notes
