"""Dense tasks on made-up trees: what is locked stays shut, every row has one budget, the numbers are the masks'."""

import inspect
import json
import shutil
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest
import timm
import tyro
from PIL import Image

from tests.phantoms import phantom_clip
from training.benchmark.dense.evaluate import dense_report, measured, predictions
from training.benchmark.dense.run import dense_entries, main
from training.benchmark.dense.task import DENSE_TASKS, DenseProtocol, load_dense_task
from training.benchmark.markdown import markdown
from training.data.errors import CorpusError
from training.data.locked_splits import locked_groups, locked_split
from usbackbones.metrics.segmentation import dice, ellipse_circumference, hd95
from usbackbones.segmentation.masked import frame_of, labels_of, mask_of
from usbackbones.segmentation.trainer import at_size

MODEL = "random:resnet10t"
QUICK = DenseProtocol(size=32, epochs=1, batch=4, seeds=2, resamples=50)
SHAPE = (54, 80)


@cache
def disc(seed):
    """A phantom with a bright disc [54, 80], and the disc."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(SHAPE)
    mask = (rows - rng.integers(18, 36)) ** 2 + (columns - rng.integers(24, 56)) ** 2 < rng.integers(8, 16) ** 2
    frame = phantom_clip(seed, frames=1, size=80, kind="abdomen")[0][:54]
    return np.where(mask, 230, frame // 2).astype(np.uint8), mask


def put(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.name.endswith(".nii.gz"):
        return nibabel.save(nibabel.Nifti1Image(np.stack([array.T.astype(np.uint8)] * 2, -1), np.eye(4)), file)
    return Image.fromarray(array).save(file)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight groups that are not locked and three that are of every dataset."""
    root = tmp_path_factory.mktemp("dense")
    busi, heads = locked_split("busi"), locked_split("hc18")
    for seed, group in enumerate([g for g in busi["pretrain"] if g[0] == "b"][:8] + busi["test"][:3]):
        folder = root / "busi" / group.partition(" ")[0]
        put(folder / f"{group}.png", disc(seed)[0])
        put(folder / f"{group}_mask.png", disc(seed)[1])
    for label in ("benign", "malignant", "normal"):
        put(root / "busi" / label / f"{label} (1).png", disc(99)[0])  # without a mask: not in the task
    lines = ["filename,pixel size(mm),head circumference (mm)"]
    for seed, group in enumerate(heads["pretrain"][:8] + heads["test"][:3]):
        picture, mask = disc(seed)
        put(root / "hc18" / "image" / f"{group}_HC.jpg", picture)
        put(root / "hc18" / "mask" / f"{group}_HC_mask.png", mask)
        # A tenth of the original's 540 x 800 pixels of 0.2 mm: each of these is 2 mm.
        lines.append(f"{group}_HC.png,0.2,{ellipse_circumference(mask, (2.0, 2.0)) + 3}")
    (root / "hc18" / "training_set_pixel_size_and_HC.csv").write_text("\n".join(lines))
    for seed in range(12):
        picture, mask = disc(seed)
        put(root / "udiat_b" / "original" / f"{seed:06d}.png", picture)
        put(root / "udiat_b" / "GT" / f"{seed:06d}.png", mask)
        put(root / "tn3k" / "trainval-image" / f"{seed:04d}.jpg", picture)
        put(root / "tn3k" / "trainval-mask" / f"{seed:04d}.jpg", mask)
        patient = f"patient{seed:04d}"
        for end, array in (("", picture), ("_gt", mask * 1 + 2 * ~mask)):
            put(root / "camus" / patient / f"{patient}_2CH_half_sequence{end}.nii.gz", array)
    (root / "tn3k" / "test-image").mkdir()
    table = ["Image,Type", *(f"{seed},Benign" for seed in range(12))]
    (root / "udiat_b" / "DatasetB.csv").write_text("\n".join(table))
    return root


@pytest.mark.parametrize("name", sorted(DENSE_TASKS))
def test_layouts_and_locks(data, name):
    task = load_dense_task(name, data)
    sources = {row.source for row in (*task.rows, *task.test_rows)}
    (source,) = sources
    groups = {row.group for row in (*task.rows, *task.test_rows)}
    assert {row.group for row in task.test_rows} == locked_groups(source, groups) != set()
    assert len(task.rows) + len(task.test_rows) == (12 if source in ("udiat_b", "tn3k", "camus") else 11)
    item = task.items()[0]
    frame, mask = frame_of(item), labels_of(item, SHAPE) == 1
    assert frame.shape == SHAPE and mask.any() and not mask.all()
    assert frame[mask].mean() > frame[~mask].mean() + 80  # the disc is the mask, and neither is turned
    inner = task.inner()
    assert {*inner.rows, *inner.test_rows} == {*task.rows}


def test_camus_as_stills_has_a_mask_for_each(tmp_path):
    lines = ["path,group,label,view,licence"]
    for seed in range(12):
        for phase in ("ED", "ES"):
            stem = f"patient{seed:04d}_2CH_{phase}"
            picture, mask = disc(seed)
            put(tmp_path / "camus" / "img" / f"{stem}.jpg", picture)
            put(tmp_path / "camus" / "mask" / f"{stem}.png", (3 - mask).astype(np.uint8))  # 2 in the disc, 3 around
            lines.append(f"img/{stem}.jpg,patient{seed:04d},{phase},apical_2CH,CC BY-NC-SA 4.0")
    (tmp_path / "camus" / "groups.csv").write_text("\n".join(lines))
    task = load_dense_task("camus_structures", tmp_path)
    assert len(task.rows) + len(task.test_rows) == 24 and task.classes == ("cavity", "myocardium", "atrium")
    groups = {row.group for row in (*task.rows, *task.test_rows)}
    assert {row.group for row in task.test_rows} == locked_groups("camus", groups)
    np.testing.assert_array_equal(labels_of(task.items()[0], SHAPE), 3 - disc(0)[1])


def test_several_structures_are_measured_one_by_one(data):
    """Of the published layout: cavity 1 in the disc, myocardium 2 around it, no atrium."""
    task = load_dense_task("camus_structures", data)
    rng = np.random.default_rng(0)
    found = [rng.random((4, 32, 32)).astype(np.float32) for _ in task.test_rows]
    told = measured(task, iter(found))
    judged = [item for item in task.items() if item.part == "test"]
    for number, item in enumerate(judged):
        truth, labels = labels_of(item, SHAPE), at_size(found[number], SHAPE)
        by_hand = [dice(labels == one, truth == one) for one in (1, 2, 3)]
        names = ("dice cavity", "dice myocardium", "dice atrium")
        np.testing.assert_allclose([told[name][number] for name in names], by_hand, rtol=1e-12)
        assert told["dice"][number] == pytest.approx(np.mean(by_hand))
        apart = [hd95(labels == one, truth == one) for one in (1, 2, 3)]
        assert told["hd95"][number] == pytest.approx(np.mean(apart))
    told = measured(task, None)
    assert {*told["dice"], *told["dice atrium"]} == {1.0} and {*told["hd95"]} == {0.0}


def test_fewer_pictures_are_those_of_the_first_groups_by_hash(data):
    whole, three, five = (load_dense_task("udiat_b_lesion", data, most) for most in (0, 3, 5))
    assert len(three.rows) == 3 and {*three.rows} < {*five.rows} < {*whole.rows}
    assert three.test_rows == five.test_rows == whole.test_rows


@pytest.mark.parametrize("name", ["busi_lesion", "hc18_head"])
def test_judged_masks_reach_no_prediction(data, name, monkeypatch):
    """Turned over or gone: the U-Net and what it says stay what they were, while the scores follow the masks."""
    task = load_dense_task(name, data)
    before, scores = list(predictions(MODEL, task, QUICK, 0)), []
    files = [file for row in task.test_rows for file in row.masks]
    kept = {file: Path(file).read_bytes() for file in files}
    try:
        scores.append(measured(task, iter(before))["dice"])
        for file in files:
            Image.fromarray(~np.asarray(Image.open(file).convert("1"))).save(file)
        scores.append(measured(task, iter(before))["dice"])
        after = list(predictions(MODEL, task, QUICK, 0))
        for file in files:
            Path(file).write_bytes(b"")
        gone = list(predictions(MODEL, task, QUICK, 0))
    finally:
        for file, content in kept.items():
            Path(file).write_bytes(content)
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(before, gone)
    assert not np.allclose(*scores)


def test_inner_opens_no_locked_file(data, tmp_path):
    """With every locked picture and mask emptied the default says what it said before."""
    copy = shutil.copytree(data / "hc18", tmp_path / "hc18").parent
    told = []
    for _ in range(2):
        task = load_dense_task("hc18_head", copy)
        rows = dense_entries([MODEL])
        told.append(dense_report(task, rows, QUICK, "command")["rows"])
        for row in task.test_rows:
            for file in (row.path, *row.masks):
                Path(file).write_bytes(b"")
    assert told[0] == told[1]


def test_measures_picture_by_picture(data):
    task = load_dense_task("hc18_head", data)
    rng = np.random.default_rng(0)
    found = [rng.random((32, 32)).astype(np.float32) for _ in task.test_rows]
    told = measured(task, iter(found))
    judged = [item for item in task.items() if item.part == "test"]
    for number, (item, row) in enumerate(zip(judged, task.test_rows, strict=True)):
        truth, mask = mask_of(item, SHAPE), at_size(found[number], SHAPE)
        assert told["dice"][number] == pytest.approx(dice(mask, truth), rel=1e-12)
        assert told["hd95"][number] == pytest.approx(2 * hd95(mask, truth), rel=1e-12)
        wanted = abs(ellipse_circumference(mask, (2.0, 2.0)) - ellipse_circumference(truth, (2.0, 2.0)) - 3)
        assert told["circumference_error"][number] == pytest.approx(wanted, rel=1e-9), row.clip
    np.testing.assert_allclose(measured(task, None)["circumference_error"], 3, rtol=1e-9)


def test_the_table(data, tmp_path, monkeypatch, capsys):
    """The command: rows that are always there, paired differences as subtracted by hand, the locked part when asked."""
    weight, out = tmp_path / "weight", tmp_path / "told.json"
    timm.models.save_for_hf(timm.create_model("resnet10t", num_classes=0), weight, safe_serialization=True)
    given = f"local-dir:{weight} --tasks busi_lesion --data {data} --part test --size 32 --epochs 1 --seeds 2"
    monkeypatch.setattr("sys.argv", ["dense", *given.split(), "--encoder", "frozen", "--json", str(out)])
    tyro.cli(main)
    told = capsys.readouterr().out
    report = json.loads(out.read_text())["tasks"]["busi_lesion"]
    rows = {row["model"]: row for row in report["rows"]}
    mine, null = (rows[row]["results"]["unet"]["frame"]["dice"] for row in (f"local-dir:{weight}", MODEL))
    assert mine["difference"]["value"] == pytest.approx(np.mean(mine["members"]) - np.mean(null["members"]))
    assert null["value"] == pytest.approx(np.mean(null["members"])) and "difference" not in null
    noise = rows[f"local-dir:{weight}"]["noise"]["unet"]["frame"]["dice"]
    assert noise == pytest.approx(np.ptp(null["members"]))
    assert report["counts"]["test"] == {"clips": 3, "groups": 3, "frames": 3}
    skipped = [row for row in report["rows"] if "not_run" in row]
    assert any(row["command"].startswith("python -m training.pretrain simclr") for row in skipped)
    assert told.strip().endswith(markdown(report)) and "not run" in told and str(out) not in told


def test_frozen_encoder_and_equal_budget():
    specs = [DenseProtocol(encoder=encoder, epochs=7).spec(3) for encoder in ("frozen", "tuned")]
    assert [spec.frozen for spec in specs] == ["all", -1]
    assert all((spec.keep, spec.epochs, spec.layer_decay, spec.seed) == ("last", 7, 1.0, 3) for spec in specs)


def test_five_seeds_unless_told_otherwise():
    """As many as the project's protocol asks for, by the command as well."""
    assert DenseProtocol().seeds == inspect.signature(main).parameters["seeds"].default == 5


def test_refusals(data, tmp_path):
    with pytest.raises(CorpusError, match="no dense task named 'x'; there is: busi_lesion"):
        load_dense_task("x", data)
    put(tmp_path / "tn3k" / "trainval-image" / "0000.jpg", disc(0)[0])
    (tmp_path / "tn3k" / "test-image").mkdir()
    with pytest.raises(CorpusError, match="holds no masks"):
        load_dense_task("tn3k_nodule", tmp_path)
