"""Every task on a made-up folder of its layout, and those that are here on the real one."""

import json

import numpy as np
import pytest
from PIL import Image

from training.benchmark.tasks import GROUPS_AN_ORGAN, ORGANS, TASKS, load_task
from training.data import locked_splits
from training.data.corpora import CORPORA
from training.data.errors import CorpusError
from training.data.locked_splits import SPLITS, locked_groups, locked_split


def still(file, value=90):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(value).integers(0, value, (40, 60), dtype=np.uint8)).save(file)


def fetal_planes(root):
    planes = ["Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax", "Maternal cervix", "Other"]
    lines = ["Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "]
    for patient in range(24):
        for n, plane in enumerate(planes):
            still(root / "Images" / f"P{patient}_{n}.png")
            lines.append(f"P{patient}_{n};{patient};{plane};Not A Brain;Op. 1;Aloka;1")
    (root / "FETAL_PLANES_DB_data.csv").write_text("\n".join(lines))
    return 144


def bus_bra(root):
    lines = ["ID,Case,Histology,Pathology,BIRADS"]
    for case in range(30):
        still(root / "Images" / f"bus_{case:04d}-l.png")
        lines.append(f"bus_{case:04d}-l,{case},x,{('benign', 'malignant')[case % 2]},4")
    (root / "bus_data.csv").write_text("\n".join(lines))
    return 30


def bus_uclm(root):
    lines = ["path,group,label,view,licence"]
    for patient in range(24):
        for n, label in enumerate(("benign", "malignant", "normal")):
            still(root / "img" / f"P{patient}_{n}.jpg")
            lines.append(f"img/P{patient}_{n}.jpg,P{patient},{label},breast,CC BY 4.0")
        still(root / "img" / f"P{patient}_3.jpg")
        lines.append(f"img/P{patient}_3.jpg,P{patient},benign,breast_marks,CC BY 4.0")  # marked: not in the task
    (root / "groups.csv").write_text("\n".join(lines))
    return 72


def udiat_b(root):
    lines = ["Image,Type"]
    for n in range(30):
        still(root / "original" / f"{n:06d}.png")
        lines.append(f"{n:06d},{('Benign', 'Malignant')[n % 2]}")
    (root / "DatasetB.csv").write_text("\n".join(lines))
    return 30


def tn3k(root):
    for part in ("trainval", "test"):
        for n in range(30):
            still(root / f"{part}-image" / f"{n:04d}.jpg")
    (root / "label4trainval.csv").write_text("\n".join(f"{n:04d}.jpg,{n % 2}" for n in range(30)))
    return 30  # the test images have no labels here


def camus(root):
    nibabel = pytest.importorskip("nibabel")
    for patient in range(16):
        for view in ("2CH", "4CH"):
            file = root / f"patient{patient:04d}" / f"patient{patient:04d}_{view}_half_sequence.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            frames = np.random.default_rng(patient).integers(0, 255, (20, 24, 3)).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(frames, np.eye(4)), file)
    return 32


PUBLIC = {
    "fetal_planes": ("fetal_planes_db", fetal_planes),
    "bus_bra": ("bus_bra", bus_bra),
    "bus_uclm": ("bus_uclm", bus_uclm),
    "udiat_b": ("udiat_b", udiat_b),
    "tn3k": ("tn3k", tn3k),
    "camus": ("camus", camus),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_set_by_its_layout(name, tmp_path):
    dataset, plant = PUBLIC[name]
    clips = plant(tmp_path / dataset)
    task = load_task(name, tmp_path, tmp_path / "cache")
    assert len(task.rows) + len(task.test_rows) == clips
    groups = {row.group for row in (*task.rows, *task.test_rows)}
    assert {row.group for row in task.test_rows} == locked_groups(dataset, groups)
    assert {row.label for row in task.test_rows} == set(task.classes)
    assert task.pretrain.frames.shape[1:] == (task.size, task.size)
    assert set(task.pretrain.label) == set(range(len(task.classes)))
    assert "rule" in task.about


def test_every_task_has_a_test():
    assert TASKS.keys() == PUBLIC.keys() | {"lung", "busi", "gallbladder", "organ", "hc18"}
    with pytest.raises(CorpusError, match="no task named 'liver'; there is: lung, busi"):
        load_task("liver", None)


def test_busi_groups_are_its_joined_near_duplicates(tmp_path, monkeypatch):
    monkeypatch.setattr(locked_splits, "SPLITS", tmp_path)
    names = {label: [f"{label} ({n})" for n in range(1, 5)] for label in ("benign", "malignant", "normal")}
    for label, stems in names.items():
        for stem in stems:
            still(tmp_path / "busi" / label / f"{stem}.png")
            still(tmp_path / "busi" / label / f"{stem}_mask.png")
    test = [name for stems in names.values() for name in stems[:1]]
    rest = [name for stems in names.values() for name in stems[1:]]
    pairs = {"malignant (2)": "benign (2)"}
    (tmp_path / "busi.json").write_text(json.dumps({"test": test, "pretrain": rest, "joined": pairs}))
    task = load_task("busi", tmp_path, tmp_path / "cache")
    assert sorted(row.group for row in task.test_rows) == sorted(test)
    assert [row.group for row in task.rows if row.clip == "busi/malignant (2)"] == ["benign (2)"]
    assert len(task.rows) == 9 and len({row.group for row in task.rows}) == 8
    assert not any("mask" in row.path for row in task.rows)


def test_the_circumference_is_asked_in_pixels_and_told_in_millimetres(tmp_path):
    split = locked_split("hc18")
    lines = ["filename,pixel size(mm),head circumference (mm)"]
    for n, group in enumerate([*split["pretrain"][:3], *split["test"][:2]]):
        still(tmp_path / "hc18" / "image" / f"{group}_HC.jpg")
        lines.append(f"{group}_HC.png,0.{n + 1},{100 + n}")
    (tmp_path / "hc18" / "training_set_pixel_size_and_HC.csv").write_text("\n".join(lines))
    task = load_task("hc18", tmp_path, tmp_path / "cache")
    known, locked = task.pretrain, task.test
    np.testing.assert_allclose(known.label * known.unit, [100, 101, 102])
    np.testing.assert_allclose(known.unit, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(locked.label, [103 / 0.4, 104 / 0.5])
    assert task.kind == "number" and task.classes == ()


def test_the_real_heads_and_gallbladders(shared_data, tmp_path):
    heads = load_task("hc18", shared_data, tmp_path)
    assert len(heads.rows) + len(heads.test_rows) == 999
    assert min(m.value * m.unit for m in heads.measures.values()) == pytest.approx(44.3)
    assert max(m.value * m.unit for m in heads.measures.values()) == pytest.approx(346.4)
    gallbladder = load_task("gallbladder", shared_data, tmp_path)
    assert (len(gallbladder.rows), len(gallbladder.test_rows)) == (3705, 841)


def test_organs_keep_the_locked_groups_of_each_set(shared_data, tmp_path):
    if not (SPLITS / "busi.json").is_file():
        pytest.skip("the locked part of busi is not drawn yet")
    task = load_task("organ", shared_data, tmp_path)
    for name, organ in ORGANS.items():
        known = {row.group for row in CORPORA[name].rows(shared_data / name)}
        held = locked_groups(name, known)
        kept, test = (
            [row.group.removeprefix(f"{name}/") for row in rows if row.label == organ]
            for rows in (task.rows, task.test_rows)
        )
        assert len(set(kept + test)) == len(kept + test) <= GROUPS_AN_ORGAN
        assert len(test) > 5 and set(test) <= held and not set(kept) & held
    assert "not that they know anatomy" in task.about
