"""Segmenting: three layouts, no leak, a resumed run ends as a whole one, the outputs agree with the metrics."""

import csv
import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.phantoms import phantom_clip
from usbackbones._errors import Refused
from usbackbones._run_folder import FolderTaken
from usbackbones.cli.segment import segment_command
from usbackbones.data.dataset import split_items
from usbackbones.data.item import DataError
from usbackbones.features.transforms import transforms
from usbackbones.hub.backbone import build_backbone
from usbackbones.metrics.segmentation import dice
from usbackbones.segmentation.config import UDIAT, Segment, blueprint, build, from_blueprint
from usbackbones.segmentation.dataset import read_masked
from usbackbones.segmentation.losses import foreground
from usbackbones.segmentation.masked import Masked, copies_of, frame_of, mask_of
from usbackbones.segmentation.run import load_segmenter, segment
from usbackbones.segmentation.trainer import Segmenter

MODEL = "random:resnet10t"
QUICK = Segment(size=32, epochs=2, batch=4, lr=2e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """images/ and masks/ of twelve phantoms with a bright disc; the last is a lighter copy of the first."""
    folder = tmp_path_factory.mktemp("discs")
    rows, columns = np.indices((60, 80))
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for patient in range(13):
        rng = np.random.default_rng(patient % 12)
        frame = phantom_clip(patient % 12, frames=1, size=80, kind="abdomen")[0][10:70]
        disc = (rows - rng.integers(20, 40)) ** 2 + (columns - rng.integers(25, 55)) ** 2 < rng.integers(8, 16) ** 2
        frame = np.where(disc, 230, frame // 2).astype(np.uint8)
        Image.fromarray(frame + 10 * (patient == 12)).save(folder / "images" / f"p{patient:02d}.png")
        Image.fromarray(disc).save(folder / "masks" / f"p{patient:02d}_mask.png")
    return folder


def test_layouts_agree(data, tmp_path):
    """The folder, BUSI's layout with a mask in two pieces, and a table give the same pictures, masks and copies."""
    (tmp_path / "benign").mkdir()
    lines = ["image,mask"]
    for item in read_masked(data):
        name, mask = item.path.stem, mask_of(item, (60, 80))
        Image.open(item.path).save(tmp_path / "benign" / f"{name}.png")
        left = mask & (np.arange(80) < 40)
        for suffix, piece in (("", left), ("_1", mask & ~left)):
            Image.fromarray(piece.astype(np.uint8)).save(tmp_path / "benign" / f"{name}_mask{suffix}.png")  # 0 and 1
        pieces = "|".join(f"benign/{name}_mask{suffix}.png" for suffix in ("", "_1"))
        lines.append(f"benign/{name}.png,{pieces}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    first = read_masked(data)
    for other in (read_masked(tmp_path), read_masked(tmp_path / "table.csv")):
        assert len(other) == len(first) == 13
        for one, two in zip(first, other, strict=True):
            np.testing.assert_array_equal(frame_of(one), frame_of(two))
            np.testing.assert_array_equal(mask_of(one, (60, 80)), mask_of(two, (60, 80)))
        assert copies_of(other) == copies_of(first) == [(0, 12)]
    assert len({item.group for item in first}) == 13


def test_it_learns_and_its_outputs_agree(data, tmp_path):
    done = segment(data, MODEL, tmp_path, replace(QUICK, epochs=8), pictures=True, progress=False)
    assert "<img" in (tmp_path / "report.html").read_text()
    assert done.validation > done.untrained + 0.2
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    items = {str(item.path): item for item in read_masked(data)}
    for row in rows:
        found = np.asarray(Image.open(tmp_path / row["mask"]))
        assert float(row["dice"]) == pytest.approx(dice(found, mask_of(items[row["path"]], (60, 80))))
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert told["metrics"]["dice"]["value"] == pytest.approx(np.mean([float(row["dice"]) for row in rows]))
    assert told["metrics"]["dice"]["low"] <= told["metrics"]["dice"]["value"] <= told["metrics"]["dice"]["high"]
    assert Image.open(tmp_path / "overlay.png").size[0] == 192 * min(4, len(rows))
    model = load_segmenter(tmp_path)
    with torch.no_grad():
        seen = foreground(model, transforms(model)(Image.open(rows[0]["path"]))[None])
    large = Image.fromarray(seen[0].numpy()).resize((80, 60), Image.Resampling.BILINEAR)
    written = np.asarray(Image.open(tmp_path / rows[0]["mask"]))
    assert dice(np.asarray(large) > 0.5, written) > 0.9  # bf16 there, fp32 here


@pytest.mark.parametrize(("head", "in_chans"), [("unet", 3), ("unet", 1), ("mask_rcnn", 1)])
def test_transforms_of_a_loaded_segmenter_make_the_input_of_training(data, tmp_path, head, in_chans):
    """Size, crop, interpolation, mean and std; the file is read again, and the backbone's own size is another."""
    spec = Segment(head=head, size=64, in_chans=in_chans, epochs=1, regions=16, batch=12)
    run = Segmenter(MODEL, [replace(item, part="train") for item in read_masked(data)], spec, None, False)
    (tmp_path / "model.json").write_text(
        json.dumps({"spec": asdict(spec), "blueprint": run.blueprint, "pretrained_cfg": run.model.pretrained_cfg})
    )
    tensors = {key: tensor.contiguous() for key, tensor in run.model.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    model = load_segmenter(tmp_path)
    wanted = next(run._inputs(np.arange(2)))
    made = torch.stack([transforms(model)(frame_of(item)) for item in run.items[:2]])
    assert made.shape == wanted.shape == (2, in_chans, 64, 64)
    gray_level = 1 / 255 / min(model.pretrained_cfg["std"])
    assert (made - wanted.cpu()).abs().max() <= 1.01 * gray_level  # torchvision rounds otherwise than Pillow


def test_a_finished_run_is_told_and_other_folders_are_refused(data, tmp_path, capsys, caplog):
    out = tmp_path / "out"
    segment_command(data, out, MODEL, size=32, epochs=1, as_json=True)
    told, times = capsys.readouterr().out, {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    assert not (out / "checkpoint.pt").exists() and caplog.text == ""  # of one epoch timm's schedule used to warn
    segment_command(data, out, MODEL, size=32, epochs=1, as_json=True)
    again = capsys.readouterr()
    assert "finished: nothing was done" in again.err
    assert json.loads(again.out) == json.loads(told) | {"was_finished": True}
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == times
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("precious")
    for folder, reason in ((out, r"\(epochs differ\)"), (tmp_path / "other", r"something else, as notes\.txt")):
        with pytest.raises(FolderTaken, match=reason):
            segment_command(data, folder, MODEL, size=32, epochs=2)


def test_test_masks_reach_no_choice(data, tmp_path):
    """With every test mask turned over, all predictions and the validation score stay what they were."""
    parts = ["train"] * 7 + ["validation"] * 2 + ["test"] * 3 + ["train"]
    told = []
    for turned in (False, True):
        lines = ["image,mask,group,split"]
        for number, (item, part) in enumerate(zip(read_masked(data), parts, strict=True)):
            mask = mask_of(item, (60, 80)) ^ (turned and part == "test")
            file = tmp_path / f"{number}.png"
            Image.fromarray(mask).save(file)
            lines.append(f"{item.path},{file},g{number % 12},{part}")
        (tmp_path / "table.csv").write_text("\n".join(lines))
        out = tmp_path / str(turned)
        done = segment(tmp_path / "table.csv", MODEL, out, QUICK, progress=False)
        told.append((done.validation, [file.read_bytes() for file in sorted((out / "masks").iterdir())]))
    assert told[0] == told[1]


def test_a_stopped_run_goes_on_to_the_same_end(data, tmp_path, monkeypatch):
    """Interrupted in its second epoch, then called again."""
    begin = Segmenter.begin_epoch

    def interrupted(self):
        if self.epoch == 1:
            raise KeyboardInterrupt
        begin(self)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    segment(data, MODEL, whole, QUICK, progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Segmenter, "begin_epoch", interrupted)
        segment(data, MODEL, broken, QUICK, progress=False)
    assert not (broken / "model.safetensors").exists()
    segment(data, MODEL, broken, QUICK, progress=False)
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()
    with pytest.raises(FolderTaken, match="other data or settings"):
        segment(data, MODEL, broken, replace(QUICK, lr=0.5), progress=False)


@pytest.mark.parametrize(
    ("arch", "in_chans"),
    [
        ("resnet18", 1),
        ("vit_tiny_patch16_224", 3),
        pytest.param("resnet18", 3, marks=pytest.mark.slow),
        pytest.param("vit_tiny_patch16_224", 1, marks=pytest.mark.slow),
    ],
)
def test_a_step_of_both_heads_on_busi(shared_data, arch, in_chans):
    """Four real pictures; the loss is a number and every weight stays one."""
    folder = shared_data / "busi" / "benign"
    items = [
        Masked(folder / f"benign ({i}).png", "", str(i), "train", (folder / f"benign ({i})_mask.png",))
        for i in (1, 2, 3, 5)
    ]
    for head in ("unet", "mask_rcnn"):
        spec = Segment(head=head, size=64, in_chans=in_chans, epochs=1, batch=4, regions=16, keep="last")
        run = Segmenter(f"random:{arch}", items, spec, None, False)
        run.run()
        assert np.isfinite(run.history[0]["loss"])
        assert all(bool(tensor.isfinite().all()) for tensor in run.model.state_dict().values())


def test_millimetres_coco_and_the_report(data, tmp_path):
    """A table with spacings and a detector: HD95 in mm, average precision, a report that shows nobody by default."""
    lines = ["image,mask,group,spacing"]
    for number, item in enumerate(read_masked(data)[:12]):
        lines.append(f"{item.path},{item.masks[0]},g{number},{'0.5' if number % 2 else '0.5|0.5'}")
    table, out = tmp_path / "table.csv", tmp_path / "out"
    table.write_text("\n".join(lines))
    spec = replace(QUICK, head="mask_rcnn", epochs=1, regions=16)
    done = segment(table, MODEL, out, spec, at_most=5, progress=False)
    assert done.metrics["hd95_mm"]["value"] == pytest.approx(done.metrics["hd95_pixels"]["value"] / 2)
    assert set(done.coco) == {"box_ap", "box_ap50", "mask_ap", "mask_ap50"}
    assert all(0 <= value <= 1 for value in done.coco.values())
    assert json.loads((out / "metrics.json").read_text())["coco"] == done.coco
    page = (out / "report.html").read_text()
    assert "box ap50" in page and "<img" not in page and "p00" not in page
    table.write_text(table.read_text().replace("0.5|0.5", "0.5 mm"))
    with pytest.raises(DataError, match=r"line 2: spacing is '0\.5 mm'"):
        read_masked(table)


def test_only_our_own_errors_are_refusals(data, tmp_path, monkeypatch):
    """A refusal is one line; a ValueError that nobody foresaw is a bug and keeps its traceback."""
    for options, told in (({"size": 100}, "size is 100"), ({"model": "random:nothing"}, "no architecture 'nothing'")):
        with pytest.raises(Refused, match=told):
            segment_command(data, tmp_path, **({"model": MODEL} | options))
    monkeypatch.setattr("usbackbones.segmentation.run.read_masked", lambda data, *_, **__: int("a bug"))
    with pytest.raises(ValueError, match="invalid literal") as raised:
        segment_command(data, tmp_path, MODEL, size=32)
    assert not isinstance(raised.value, Refused)


def test_near_duplicates_of_other_groups_are_kept_together_or_refused(data, tmp_path, capsys):
    """A table's groups divide the first picture from its lighter copy; the draw and a split column must not."""
    items, table = read_masked(data), tmp_path / "table.csv"
    lines = [f"{item.path},{item.masks[0]},g{number}" for number, item in enumerate(items)]
    table.write_text("\n".join(["image,mask,group", *lines]))
    alone = {item.path.name: item.part for item in split_items(read_masked(table), seed=4)}
    assert (alone["p00.png"], alone["p12.png"]) == ("test", "train")
    out = tmp_path / "out"
    segment_command(table, out, MODEL, size=32, epochs=1, seed=4)
    assert (
        "note: 1 pair of near-duplicates of different groups, kept together: p00.png = p12.png"
        in capsys.readouterr().err
    )
    counts = json.loads((out / "metrics.json").read_text())["counts"]
    assert sum(part["groups"] for part in counts.values()) == 13  # two that are kept together are still two
    tested = (out / "predictions.csv").read_text()
    assert ("p00.png" in tested) == ("p12.png" in tested)
    parts = ["train"] * 7 + ["validation"] * 2 + ["test"] * 4
    rows = [f"{line},{part}" for line, part in zip(lines, parts, strict=True)]
    table.write_text("\n".join(["image,mask,group,split", *rows]))
    with pytest.raises(DataError, match=r"both sides of the split: p00\.png = p12\.png\. Give them one split"):
        segment(table, MODEL, tmp_path / "parted", QUICK, progress=False)


def test_a_segmenter_outlives_the_weight_that_it_began_with(data, tmp_path, monkeypatch):
    """The folder it came from, given relatively, is gone; its mean and std are remembered, for gray and for RGB."""
    monkeypatch.chdir(tmp_path)
    cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.2, 0.3, 0.4)}
    for head, in_chans in (("unet", 1), ("unet", 3), ("mask_rcnn", 1)):
        network = timm.create_model("resnet10t", num_classes=0, pretrained_cfg_overlay=cfg)
        timm.models.save_for_hf(network, tmp_path / "weight", safe_serialization=True)
        out, spec = tmp_path / f"{head}{in_chans}", replace(QUICK, head=head, in_chans=in_chans, epochs=1, regions=16)
        segment(data, "local-dir:weight", out, spec, progress=False)
        before = build("local-dir:weight", spec).eval()
        before.load_state_dict(load_file(out / "model.safetensors"))
        shutil.rmtree(tmp_path / "weight")
        images = torch.rand(2, in_chans, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(foreground(load_segmenter(out), images), foreground(before, images))
    settings = json.loads((out / "model.json").read_text())
    del settings["blueprint"]
    (out / "model.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=r"model\.json is of another version, .*: train again"):
        load_segmenter(out)
    with pytest.raises(DataError, match=r"lacks a model\.json"):
        load_segmenter(tmp_path / "nowhere")


def test_a_blueprint_builds_the_layers_again(published, tmp_path):
    """Of our weights, of a folder whose ViT has other layers than its name says, and of random ones, through JSON."""
    args = {"img_size": 64, "global_pool": "avg", "class_token": False, "depth": 2}
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **args)
    timm.models.save_for_hf(network, tmp_path, model_args=args, safe_serialization=True)
    for name in (
        f"usbackbones/{published.resnet}",
        f"usbackbones/{published.vit}",
        f"local-dir:{tmp_path}",
        "random:vit_tiny_patch16_224",
        "random:resnet10t",
    ):
        for in_chans in (1, 3):
            before = build_backbone(name, in_chans).eval()
            after = from_blueprint(json.loads(json.dumps(blueprint(before)))).eval()
            after.load_state_dict(before.state_dict())
            images = torch.rand(1, in_chans, 96, 128)
            with torch.no_grad():
                torch.testing.assert_close(after(images), before(images))
            for key in ("input_size", "mean", "std"):
                assert list(after.pretrained_cfg[key]) == list(before.pretrained_cfg[key])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"test": 0.0}, r"the test part: fraction is 0\.0: it must lie between 0 and 1"),
        ({"test": 1.5}, r"the test part: fraction is 1\.5"),
        ({"validation": -1.0}, r"the validation part: fraction is -1\.0"),
        ({"batch": 0}, "batch is 0: give 1 or more"),
        ({"epochs": 0}, "epochs is 0: give 1 or more"),
        ({"regions": 0}, "regions is 0: give 1 or more"),
        ({"seed": -1}, "seed is -1: give 0 or more"),
        ({"lr": 0.0}, r"lr is 0\.0: give a number above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"frozen": -2}, "frozen is -2: give -1 for nothing"),
        ({"frozen": 9}, "frozen is 9: this backbone has 4 stages"),
        ({"layer_decay": 0.0}, r"layer_decay is 0\.0: give a number above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(data, tmp_path, options, told):
    with pytest.raises(Refused, match=told):
        segment_command(data, tmp_path, MODEL, **({"size": 32} | options))


def test_preset():
    """The published protocol, see USCL's and Meta-USCL's scripts."""
    assert (UDIAT.head, UDIAT.epochs, UDIAT.batch, UDIAT.lr, UDIAT.weight_decay) == ("mask_rcnn", 30, 2, 0.005, 5e-4)
    assert (UDIAT.frozen, UDIAT.keep, UDIAT.schedule, UDIAT.size) == (1, "last", "step", 800)


def test_command_and_refusals(data, tmp_path, capsys):
    segment_command(data, tmp_path / "out", MODEL, size=32, epochs=1)
    told = capsys.readouterr().out
    assert "before training" in told and "test, by image: dice" in told and "95 %" in told
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match=r"1 image without a mask in .*as a\.png"):
        read_masked(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_masked(tmp_path / "nowhere")
    (tmp_path / "t.csv").write_text("image,mask,group\nimages/a.png,nothing.png,1")
    with pytest.raises(DataError, match=r"line 2: .*nothing\.png does not exist"):
        read_masked(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes("image,mask,group\nbröst.png,m.png,1".encode("latin-1"))
    with pytest.raises(DataError, match=r"t\.csv: line 2: byte 0xf6 is not UTF-8: save the file"):
        read_masked(tmp_path / "t.csv")
    with pytest.raises(DataError, match="size is 100"):
        Segment(size=100)


@pytest.mark.gpu
@pytest.mark.parametrize("head", ["unet", "mask_rcnn"])
def test_on_a_gpu_it_trains_and_predicts(data, gpu, head):
    items = [replace(item, part=("train", "validation")[n % 2]) for n, item in enumerate(read_masked(data))]
    run = Segmenter(MODEL, items, Segment(head=head, size=64, epochs=2, regions=16, batch=6), None, False)
    run.run()
    assert next(run.model.parameters()).device.type == "cuda"
    assert len(run.history) == 2 and all(np.isfinite(record["loss"]) for record in run.history)
    assert all(((probability >= 0) & (probability <= 1)).all() for probability in run.predict("validation"))
