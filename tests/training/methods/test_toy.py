"""The method that CONTRIBUTING.md adds, taken from there word for word."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from training.pretrain import Run, pretrain
from training.recipes import RECIPES

GUIDE = Path(__file__).parents[3] / "CONTRIBUTING.md"


def test_the_guides_method_is_short_and_trains(cache, tmp_path):
    code = re.search(r"<!-- toy method.*?```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert sum(bool(line.strip()) for line in code.splitlines()) < 40
    scope = {"__name__": "toy"}
    exec(compile(code, "CONTRIBUTING.md", "exec", dont_inherit=True), scope)
    recipe = RECIPES["smoke"][1]
    recipe = replace(recipe, method=scope["Toy"](), arch="test_resnet", steps=30, batch=8, lr=3e-3)
    recipe = replace(recipe, augment=replace(recipe.augment, size=32))
    folder = pretrain(Run(recipe=recipe, data=cache, out=tmp_path), "toy", progress=False)
    losses = [float(re.search(r'"loss": ([-\d.e]+)', line)[1]) for line in (folder / "metrics.jsonl").open()]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == 30
