"""The method, the dataset, the command and the weight that CONTRIBUTING.md adds, taken from there word for word."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import run_module
from training.data.corpora import CORPORA
from training.data.corpus.known import known
from training.data.manifest import read_manifest
from training.pretrain import Run, pretrain
from training.recipes import RECIPES
from usbackbones.cli import main as cli
from usbackbones.hub.backbone import build_backbone
from usbackbones.hub.pretraining_run import backbone_of_run

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


def run_example(name):
    """The names that an example of the guide defines, and its number of lines of code."""
    code = re.search(rf"<!-- toy {name}.*?```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]
    scope = {"__name__": f"toy_{name}"}
    exec(compile(code, "CONTRIBUTING.md", "exec", dont_inherit=True), scope)
    return scope, sum(bool(line.strip()) for line in code.splitlines())


def test_the_method_is_short_and_trains(cache, tmp_path):
    scope, lines = run_example("method")
    assert lines < 40
    recipe = RECIPES["smoke"][1]
    recipe = replace(recipe, method=scope["Toy"](), arch="test_resnet", steps=30, batch=8, lr=3e-3)
    recipe = replace(recipe, augment=replace(recipe.augment, size=32))
    folder = pretrain(Run(recipe=recipe, data=cache, out=tmp_path), "toy", progress=False)
    losses = [float(re.search(r'"loss": ([-\d.e]+)', line)[1]) for line in (folder / "metrics.jsonl").open()]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == 30


def test_the_dataset_becomes_a_manifest(tmp_path, monkeypatch):
    scope, _ = run_example("dataset")
    (tmp_path / "toy_kidneys").mkdir()
    for name in ("a_1", "a_2", "b_1"):
        Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "toy_kidneys" / f"{name}.png")
    monkeypatch.setitem(CORPORA, "toy_kidneys", scope["CORPORA"][0])
    known(("toy_kidneys",), tmp_path, tmp_path / "toy.csv", tier="open")
    assert [(row.clip, row.group) for row in read_manifest(tmp_path / "toy.csv")] == [
        ("toy_kidneys/a_1.png", "a"),
        ("toy_kidneys/a_2.png", "a"),
        ("toy_kidneys/b_1.png", "b"),
    ]


def test_the_command_runs_and_refuses(tmp_path, monkeypatch, capsys):
    scope, _ = run_example("command")
    monkeypatch.setitem(cli.COMMANDS, "count", scope["count_command"])
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "a.png")
    cli.main(["count", str(tmp_path)])
    assert capsys.readouterr().out == "1 clips\n"
    with pytest.raises(SystemExit, match="2"):
        cli.main(["count", str(tmp_path / "absent")])


def test_the_weight_is_trained_published_and_loaded(cache, tmp_path):
    block = re.search(r"<!-- toy weight.*?```\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "toy").symlink_to(cache)
    (tmp_path / "zoo.json").write_text(json.dumps({"organisation": "usbackbones", "default": None, "weights": {}}))
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[:2] for command in commands] == [["python", "-m"]] * 3
    for _, _, module, *arguments in commands:
        ended = run_module(module, *arguments, folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "cards" / "test_resnet.uscl_open1"
    assert {"README.md", "config.json", "fingerprints.safetensors", "model.safetensors"} <= {
        file.name for file in folder.iterdir()
    }
    frames = torch.randn(2, 1, 64, 64)
    ours, published = backbone_of_run(tmp_path / "runs" / "toy")[0], build_backbone(f"local-dir:{folder}").eval()
    torch.testing.assert_close(ours.eval()(frames), published(frames), rtol=0.02, atol=1e-3)  # half precision


def test_the_tree_of_the_guide_names_every_room():
    guide = GUIDE.read_text(encoding="utf-8")
    for package in ("usbackbones", "training"):
        for room in (GUIDE.parent / package).iterdir():
            assert not (room / "__init__.py").is_file() or f" {room.name}/" in guide, room
