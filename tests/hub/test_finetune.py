"""Fine-tuning on phantoms: it learns, resumes, never lets the test part speak, and its folder loads through timm."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tests.conftest import REPOSITORY
from usbackbones import cli, registry
from usbackbones.dataset import DataError, Frames, read_items, split_items
from usbackbones.finetune import FineTune, Tuner
from usbackbones.finetuned import defaults_for, finetune
from usbackbones.phantom import phantom_clip
from usbackbones.timm_folder import timm_config, write_timm_folder
from usbackbones.transforms import transforms
from usbackbones.zoo import read_zoo

ARCHITECTURES = ("test_resnet", "test_vit")  # timm's own, of a few thousand weights
QUICK = FineTune(epochs=3, head_epochs=1, batch=8, frames=2, ema=0.5)


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


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Timm folders of two tiny headless backbones at 64 px; by architecture, the name that timm takes."""
    found = {}
    for arch in ARCHITECTURES:
        torch.manual_seed(0)
        args = {"img_size": 64} if "vit" in arch else {}
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
            licence="CC0-1.0",
            origin_url="",
            description="untrained",
        )
        write_timm_folder(tmp_path_factory.mktemp(arch), network.state_dict(), config)
        found[arch] = f"local-dir:{tmp_path_factory.getbasetemp() / (arch + '0')}"
    return found


@pytest.fixture
def run(data, backbones):
    """Fine-tune the tiny ResNet, or another model, on the stills."""

    def tune(out, spec=QUICK, arch="test_resnet", table=None):
        pattern = "" if table else "^(p[0-9]+)_"
        return finetune(table or data, backbones[arch], out, spec, group_from=pattern, progress=False)

    return tune


@pytest.mark.parametrize("rates", ["decay", "metalr"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
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
    assert float(probability[1]) == pytest.approx(float(tested[0]["p(heart)"]), abs=0.05)  # bf16 there, fp32 here


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
    table = ["path,label,group,split"]
    for number, file in enumerate(sorted(data.rglob("*.png"), key=lambda file: file.name)):
        part = ("train", "train", "train", "validation", "test")[number // 4 % 5]
        table.append(f"{file},{file.parent.name},{file.name[:3]},{part}")
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


@pytest.mark.parametrize("rates", ["decay", "metalr"])
def test_shuffled_labels_fall_to_chance(run, data, tmp_path, rates):
    rng = np.random.default_rng(0)
    files = sorted(data.rglob("*.png"))
    label = {patient: "ab"[rng.integers(2)] for patient in sorted({file.name[:3] for file in files})}
    rows = [f"{file},{label[file.name[:3]]},{file.name[:3]}" for file in files]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,group", *rows]))
    scores = []
    for seed in range(3):
        spec = replace(QUICK, seed=seed, rates=rates)
        done = run(tmp_path / str(seed), spec, table=tmp_path / "table.csv")
        scores.append(done.metrics["clip"]["balanced_accuracy"]["value"])
    assert np.mean(scores) == pytest.approx(0.5, abs=0.25)


def test_a_killed_run_goes_on_to_the_same_end(run, backbones, data, tmp_path):
    """SIGKILL after the first epoch; the same call ends with the weights of a run that nobody touched."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code = (
        "import sys; from pathlib import Path; from usbackbones.finetune import FineTune;"
        "from usbackbones.finetuned import finetune;"
        f"finetune(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), {replace(QUICK, epochs=30)!r},"
        " group_from='^(p[0-9]+)_', progress=False)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, data, backbones["test_resnet"], broken], cwd=REPOSITORY)
    deadline = time.monotonic() + 120
    while not (broken / "checkpoint.pt").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (broken / "model.safetensors").exists()
    for folder in (whole, broken):
        run(folder, replace(QUICK, epochs=30))
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()
    assert (whole / "predictions.csv").read_text() == (broken / "predictions.csv").read_text()


def test_a_checkpoint_of_other_settings_is_refused(run, data, tmp_path):
    run(tmp_path)
    with pytest.raises(DataError, match="other data or settings"):
        run(tmp_path, replace(QUICK, lr=0.5))
    (tmp_path / "checkpoint.pt").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="cannot be read"):
        run(tmp_path)


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
    tuner = Tuner(model, items, ["abdomen", "heart"], QUICK, frames, tmp_path, progress=False)
    rate = {id(p): group["lr_scale"] for group in tuner.steps.optimiser.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    layers = ("conv1.0.weight", "layer1.0.conv1.weight", "layer4.0.conv2.weight", "fc.weight")
    order = [rate[id(named[name])] for name in layers]
    assert order == sorted(set(order)) and order[-1] == 1


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
    """What zoo.json says is what is used, and it says only what there is to be said."""
    released = read_zoo(REPOSITORY / "usbackbones" / "zoo.json").weights
    assert released
    for name, weight in released.items():
        told = weight.entry["finetune"]
        assert told and set(told) <= {field.name for field in fields(FineTune)}
        assert {key: getattr(defaults_for(registry.OWNER + name), key) for key in told} == told
    entry = {**weight.entry, "finetune": {"lr": 0.5, "epochs": 7}}
    monkeypatch.setattr(registry, "weight", lambda _: replace(weight, entry=entry))
    assert defaults_for(registry.OWNER + name) == FineTune(lr=0.5, epochs=7)
