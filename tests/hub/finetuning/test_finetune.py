"""Fine-tuning on phantoms: it learns, resumes, never lets the test part speak, and its folder loads through timm."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tests.conftest import REPOSITORY
from tests.phantoms import phantom_clip
from usbackbones._files import finite
from usbackbones._run_folder import FolderTaken
from usbackbones.cli import main as cli
from usbackbones.data.dataset import read_items, split_items
from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError
from usbackbones.exporting.subject import subject_of
from usbackbones.features.transforms import transforms
from usbackbones.finetuning import folder
from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.run import defaults_for, finetune
from usbackbones.finetuning.target import ClassTarget
from usbackbones.finetuning.tuner import Tuner
from usbackbones.hub import registry
from usbackbones.hub.licensing import LicenseError
from usbackbones.hub.timm_folder import timm_config, write_timm_folder
from usbackbones.hub.zoo import read_zoo
from usbackbones.predicting.trained import load_trained

ARCHITECTURES = ("test_resnet", "test_vit")  # timm's own, of a few thousand weights
QUICK = FineTune(epochs=3, start="random", search=False, head_epochs=1, batch=8, frames=2, ema=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Stills of thirty patients: abdomen or heart, one folder a class, the patient in the name."""
    folder = tmp_path_factory.mktemp("stills")
    for patient in range(30):
        kind = ("abdomen", "heart")[patient % 2]
        (folder / kind).mkdir(exist_ok=True)
        for number, frame in enumerate(phantom_clip(patient, frames=2, size=64, kind=kind)):
            Image.fromarray(frame).save(folder / kind / f"p{patient:02d}_{number}.png")
    return folder


def write_backbone(folder, arch, seed=0, licence="CC0-1.0", **args):
    """Make a timm folder of a tiny headless backbone at 64 px; returns the name that timm takes."""
    torch.manual_seed(seed)
    args |= {"img_size": 64} if "vit" in arch else {}
    network = timm.create_model(arch, num_classes=0, **args)
    config = timm_config(
        network,
        arch=arch,
        model_args=args,
        tag="tiny",
        size=64,
        mean=[0.3] * 3,
        std=[0.25] * 3,
        interpolation="bilinear",
        licence=licence,
        origin_url="",
        description="untrained",
    )
    write_timm_folder(folder, network.state_dict(), config)
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """The names of a backbone of each architecture."""
    return {arch: write_backbone(tmp_path_factory.mktemp(arch), arch) for arch in ARCHITECTURES}


@pytest.fixture
def run(data, backbones):
    """Fine-tune the tiny ResNet, or another model, on the stills."""

    def tune(out, spec=QUICK, arch="test_resnet", table=None, **more):
        more = {"model": backbones[arch], "group_from": "" if table else "^(p[0-9]+)_", "progress": False} | more
        return finetune(table or data, out=out, spec=spec, **more)

    return tune


def parted(data, table):
    """Write a table of the stills, five patients' parts in turn: three to train, one to validate, one to test."""
    rows = ["path,label,group,split"]
    for number, file in enumerate(sorted(data.rglob("*.png"), key=lambda file: file.name)):
        part = ("train", "train", "train", "validation", "test")[number // 4 % 5]
        rows.append(f"{file},{file.parent.name},{file.name[:3]},{part}")
    table.write_text("\n".join(rows))
    return rows


@pytest.mark.parametrize(
    ("arch", "rates"),
    [
        ("test_resnet", "decay"),
        ("test_vit", "metalr"),
        pytest.param("test_resnet", "metalr", marks=pytest.mark.slow),
        pytest.param("test_vit", "decay", marks=pytest.mark.slow),
    ],
)
def test_it_learns_and_its_folder_loads(run, tmp_path, arch, rates):
    done = run(tmp_path, replace(QUICK, epochs=12, lr=5e-3, layer_decay=1.0, freeze_norm=False, rates=rates), arch)
    assert done.metrics["clip"]["auroc"]["value"] > 0.8
    assert done.counts["test"]["groups"] == 6
    network = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert network.num_classes == 2
    with (tmp_path / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["part"] for row in rows} == {"validation", "test"}
    tested = [row for row in rows if row["part"] == "test"]
    right = np.mean([row["label"] == row["predicted"] for row in tested])
    assert done.metrics["clip"]["balanced_accuracy"]["value"] == pytest.approx(right)  # as many of each class
    with torch.no_grad():
        images = transforms(network)(np.asarray(Image.open(tested[0]["path"])))
        probability = network(images[None]).softmax(1)[0]
    assert float(probability[1]) == pytest.approx(float(tested[0]["prob_heart"]), abs=0.05)  # bf16 there, fp32 here


def test_frozen_norms_stay_as_they_were(run, backbones, tmp_path):
    run(tmp_path, replace(QUICK, head_epochs=0))
    before = timm.create_model(backbones["test_resnet"], pretrained=True).state_dict()
    after = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).state_dict()
    norms = [name for name in before if ".bn" in name or name.startswith("bn")]
    assert len(norms) > 20 and all(torch.equal(before[name], after[name]) for name in norms)
    assert not torch.equal(before["layer4.0.conv2.weight"], after["layer4.0.conv2.weight"])


@pytest.mark.parametrize("rates", ["decay", "metalr"])
def test_shuffled_test_labels_change_no_prediction(run, data, tmp_path, rates):
    """The honest run and one whose test labels are all turned round agree in every choice and prediction."""
    table = parted(data, tmp_path / "true.csv")
    turned = {"abdomen": "heart", "heart": "abdomen"}
    other = [row if not row.endswith(",test") else _relabelled(row, turned) for row in table]
    found = []
    for name, rows in (("true", table), ("turned", other)):
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
        done = run(tmp_path / name, replace(QUICK, rates=rates), table=tmp_path / f"{name}.csv")
        rows = list(csv.reader((tmp_path / name / "predictions.csv").open()))
        told = json.loads((tmp_path / name / "metrics.json").read_text())
        found.append(([[*row[:3], *row[4:]] for row in rows], told["best validation"], done.epochs))
    assert found[0] == found[1]


def _relabelled(row: str, turned: dict[str, str]) -> str:
    path, label, *rest = row.split(",")
    return ",".join([path, turned[label], *rest])


@pytest.mark.slow
@pytest.mark.parametrize("rates", ["decay", "metalr"])
def test_shuffled_labels_fall_to_chance(run, data, tmp_path, rates):
    """Labels are shuffled within each part, so that none tells of another; a run deviates by 0.15, the mean by 0.04."""
    files = sorted(data.rglob("*.png"), key=lambda file: file.name)
    patients = [file.name[:3] for file in files[::2]]
    spec = replace(QUICK, epochs=4, lr=5e-3, layer_decay=1.0, freeze_norm=False, rates=rates)
    scores = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = ["path,label,group,split"]
        for part, span in (("train", slice(10)), ("validation", slice(10, 16)), ("test", slice(16, None))):
            members = rng.permutation(patients[span])
            label = dict(zip(members, "ab" * (len(members) // 2), strict=True))
            rows += [
                f"{file},{label[file.name[:3]]},{file.name[:3]},{part}" for file in files if file.name[:3] in label
            ]
        (tmp_path / "table.csv").write_text("\n".join(rows))
        done = run(tmp_path / str(seed), replace(spec, seed=seed), table=tmp_path / "table.csv")
        scores.append(done.metrics["clip"]["auroc"]["value"])
    assert np.mean(scores) == pytest.approx(0.5, abs=0.12)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"start": "probe", "freeze_norm": False, "lr": 1e-6}], ids=["random", "mixed"])
def test_a_killed_run_goes_on_to_the_same_end(run, backbones, data, tmp_path, more):
    """SIGKILL after the first epoch; the same call ends with the weights of a run that nobody touched."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code = (
        "import sys; from pathlib import Path; from usbackbones.finetuning.config import FineTune;"
        "from usbackbones.finetuning.run import finetune;"
        f"finetune(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), {replace(QUICK, epochs=30, **more)!r},"
        " group_from='^(p[0-9]+)_', progress=False)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, data, backbones["test_resnet"], broken], cwd=REPOSITORY)
    deadline = time.monotonic() + 120
    while not (broken / "checkpoint.pt").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (broken / "model.safetensors").exists()
    for out in (whole, broken):
        run(out, replace(QUICK, epochs=30, **more))
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()
    assert (whole / "predictions.csv").read_text() == (broken / "predictions.csv").read_text()


def test_a_checkpoint_of_other_settings_is_refused(run, data, tmp_path):
    """Settings, the name of the model or the weights under that name; the weights that are there stay."""
    model, out = write_backbone(tmp_path / "model", "test_resnet"), tmp_path / "out"
    run(out, model=model)
    assert not {"checkpoint.pt", "frames.u8"} & {file.name for file in out.iterdir()}
    before = (out / "model.safetensors").read_bytes()
    assert run(out, model=model).was_finished
    for spec, other in (
        (replace(QUICK, lr=0.5), model),
        (QUICK, write_backbone(tmp_path / "copy", "test_resnet")),
        (QUICK, write_backbone(tmp_path / "model", "test_resnet", seed=1)),
    ):
        with pytest.raises(FolderTaken, match="other data or settings"):
            run(out, spec, model=other)
    assert (out / "model.safetensors").read_bytes() == before
    told = json.loads((out / "run.json").read_text())
    del told["finished"]
    (out / "run.json").write_text(json.dumps(told))
    (out / "checkpoint.pt").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="cannot be read"):
        run(out, model=write_backbone(tmp_path / "model", "test_resnet"))


def test_patience(run, data, tmp_path):
    """It stops when the validation score has not risen for so many epochs, and keeps the best."""
    done = run(tmp_path, replace(QUICK, epochs=40, patience=2, lr=0.0))
    history = json.loads((tmp_path / "history.json").read_text())
    assert done.epochs == len(history) < 40
    best = max(record["validation"] for record in history)
    assert [record["validation"] for record in history].index(best) == len(history) - 3


def test_lower_layers_learn_more_slowly(backbones, data, tmp_path):
    items = split_items(read_items(data, "^(p[0-9]+)_"))
    model = timm.create_model(backbones["test_resnet"], pretrained=True, num_classes=2)
    frames = Frames(items, tmp_path / "frames.u8", 1, progress=False)
    target = ClassTarget(items, np.arange(len(items)))
    tuner = Tuner(model, "tiny", items, target, QUICK, frames, tmp_path, progress=False)
    rate = {id(p): group["lr_scale"] for group in tuner.optimizer.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    layers = ("conv1.0.weight", "layer1.0.conv1.weight", "layer4.0.conv2.weight", "fc.weight")
    order = [rate[id(named[name])] for name in layers]
    assert order == sorted(set(order)) and order[-1] == 1


def test_the_folder_keeps_what_the_source_was_made_with(run, published, tmp_path, monkeypatch):
    """Heads of another width have tensors of the same shapes; a folder without their number is refused, unwritten."""
    model = write_backbone(tmp_path / "source", "test_vit", num_heads=8)
    run(tmp_path / "out", model=model, arch="test_vit")
    told = json.loads((tmp_path / "out" / "config.json").read_text())
    assert told["model_args"]["num_heads"] == 8
    monkeypatch.setattr(folder, "rebuild_args", lambda network: {"img_size": 64})
    with pytest.raises(DataError, match="timm makes another network"):
        run(tmp_path / "other", model=model, arch="test_vit")
    assert not {"config.json", "model.safetensors"} & {file.name for file in (tmp_path / "other").iterdir()}


def test_clips_that_cannot_be_read_are_not_counted_and_a_lost_class_is_told(run, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    table = tmp_path / "table.csv"
    lost = [row.split(",")[0] for row in parted(tmp_path / "data", table) if row.endswith(",test") and "/heart/" in row]
    Path(lost[0]).write_bytes(b"no picture")
    done = run(tmp_path / "out", table=table)
    assert len(done.skipped) == 1 and done.counts["test"] == {"items": 11, "groups": 6}
    for file in lost:
        Path(file).write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"no clip of heart could be read in the test part, 6 were skipped.*the first: "
    ):
        run(tmp_path / "lost", table=table)


def test_what_is_not_a_number_is_null():
    told = {"auroc": {"value": 0.5, "low": float("nan")}, "epochs": [1, (float("inf"),)], "model": "m"}
    assert finite(told) == {"auroc": {"value": 0.5, "low": None}, "epochs": [1, [None]], "model": "m"}


def test_settings_out_of_range_are_named():
    wrong = {"epochs": 0, "batch": 0, "lr": float("nan"), "layer_decay": 1.5, "ema": -0.1, "frames": 0, "seed": -1}
    for name, value in wrong.items():
        with pytest.raises(DataError, match=f"^{name} is {value}: give a number from "):
            replace(QUICK, **{name: value})
    with pytest.raises(DataError, match="rates is 'meta'"):
        replace(QUICK, rates="meta")


def test_the_loss_of_an_epoch_is_of_its_own_batches(run, tmp_path, monkeypatch):
    """With learned rates every second loss is of the other batch, after the virtual step."""
    losses, plain = [], torch.nn.functional.cross_entropy

    def recorded(*args, **how):  # the probe of the start asks for no mean
        if not how:
            losses.append(float(plain(*args).detach()))
        return plain(*args, **how)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", recorded)
    run(tmp_path, replace(QUICK, epochs=1, head_epochs=0, rates="metalr"))
    (record,) = json.loads((tmp_path / "history.json").read_text())
    assert record["loss"] == pytest.approx(np.mean(losses[::2])) != pytest.approx(np.mean(losses[1::2]))


def test_an_untrained_network_to_compare_with(data, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--group-from", "^(p[0-9]+)_", "--epochs", "1", "--lr", "1e-3", "-o", str(out)]
    cli.main(["finetune", str(data), "--model", "random:test_vit", *given, "--json"])
    assert json.loads(capsys.readouterr().out)["epochs"] == 1
    assert timm.create_model(f"local-dir:{out}", pretrained=True).num_classes == 2
    assert not defaults_for("random:resnet18").freeze_norm


def test_command(backbones, data, tmp_path, capsys):
    """Intervals, how to load it, and a leak refused in a line."""
    model = ["--model", backbones["test_resnet"], "--epochs", "2"]
    cli.main(["finetune", str(data), *model, "--group-from", "^(p[0-9]+)_", "-o", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert "test: 12 items of 6 groups" in told and "95 %" in told and "local-dir:" in told
    files = sorted(data.rglob("*.png"))
    rows = [f"{file},{file.parent.name},p,{'train' if i % 2 else 'test'}" for i, file in enumerate(files)]
    (tmp_path / "leak.csv").write_text("\n".join(["path,label,group,split", *rows]))
    with pytest.raises(SystemExit) as stop:
        cli.main(["finetune", str(tmp_path / "leak.csv"), *model, "-o", str(tmp_path / "leak")])
    assert stop.value.code == 2
    assert "stand on both sides" in capsys.readouterr().err
    assert defaults_for("usbackbones/nobody.knows") == FineTune()


def test_every_weight_records_how_it_is_best_fine_tuned(monkeypatch):
    """The general settings are used, but for those that zoo.json records because they were tuned for a weight."""
    released = read_zoo(REPOSITORY / "usbackbones" / "zoo.json").weights
    assert released
    for name, weight in released.items():
        told = weight.entry.get("finetune", {})
        assert set(told) <= {field.name for field in fields(FineTune)}
        assert {key: getattr(defaults_for(registry.OWNER + name), key) for key in told} == told
    entry = {**weight.entry, "finetune": {"lr": 0.5, "epochs": 7}}
    monkeypatch.setattr(registry, "get_weight", lambda _: replace(weight, entry=entry))
    assert defaults_for(registry.OWNER + name) == FineTune(lr=0.5, epochs=7)


def test_the_license_is_inherited_or_asked_for(run, tmp_path, capsys, data):
    """Nothing is decoded before the license is known; non-commercial weights make non-commercial ones."""
    unknown = write_backbone(tmp_path / "unknown", "test_resnet", licence="")
    nc = write_backbone(tmp_path / "nc", "test_resnet", licence="CC-BY-NC-4.0")
    for model, given, told in ((unknown, "", "--license NAME"), (nc, "MIT", "stays non-commercial")):
        with pytest.raises(LicenseError, match=told):
            run(tmp_path / "out", model=model, license_name=given)
        assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as stop:
        cli.main(["finetune", str(data), "--model", unknown, "-o", str(tmp_path / "out")])
    assert stop.value.code == cli.REFUSED and len(capsys.readouterr().err.splitlines()) == 1
    done = run(tmp_path / "out", replace(QUICK, epochs=1, head_epochs=0), model=nc)
    assert done.license == "CC-BY-NC-4.0, by local-dir:nc; non-commercial use only"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["usbackbones"]["license"]["noncommercial"]
    assert done.license in (tmp_path / "out" / "report.html").read_text()
    assert load_trained(tmp_path / "out").license == done.license
    assert subject_of(f"local-dir:{tmp_path / 'out'}").facts["license"] == done.license
    with pytest.raises(LicenseError, match="stays non-commercial"):
        subject_of(f"local-dir:{tmp_path / 'out'}", license_name="MIT")
    assert subject_of(unknown, license_name="MIT").facts["license"].startswith("MIT")


@pytest.mark.gpu
def test_on_a_gpu_it_trains_and_its_folder_predicts(run, data, tmp_path, gpu):
    done = run(tmp_path / "out")
    history = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "NaN" not in json.dumps(history) and done is not None
    assert next(load_trained(tmp_path / "out").model.parameters()).device.type == "cuda"
