"""Recipes: every field explained, overridable on the command line and saved; and the numbers of the released ones."""

import inspect
import json
import re
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import tyro

from training import pretrain
from training.data.views.augment import Augment
from training.engine.prepare_model import build
from training.engine.run_folder import describe_recipe
from training.errors import TrainingError
from training.recipes import RECIPES, Method, Recipe

ONE_OF_EACH = [name for name in RECIPES if RECIPES[name][1].method.name == name]


def explained(kind):
    """What the docstrings of a dataclass and its parents say of each attribute; where tyro takes its help from."""
    found = {}
    for parent in reversed(kind.__mro__):
        listed = (inspect.getdoc(parent) or "").partition("Attributes:\n")[2]
        found |= dict(re.findall(r"^    (\w+): (.+)", listed, re.MULTILINE))
    return found


@pytest.mark.parametrize("kind", [Recipe, Augment, *get_args(Method)], ids=lambda kind: kind.__name__)
def test_every_field_has_help_that_needs_no_source(kind):
    help_of = explained(kind)
    for field in fields(kind):
        assert len(help_of[field.name]) > 10 and not help_of[field.name].startswith("see "), field.name


def test_the_command_line_shows_the_help_of_inherited_fields(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pretrain", "meta_uscl", "--help"])
    with pytest.raises(SystemExit):
        pretrain.main()
    shown = capsys.readouterr().out
    for flag in ("--method.temperature", "--method.max-dist", "--method.meta-share", "--augment.area", "--init"):
        assert flag in shown
    for words in ("cosine similarities", "largest distance", "meta pairs"):
        assert words in " ".join(shown.replace("│", " ").split())


def changed(instance):
    """The same dataclass with another value in every field, and the command line that says so."""
    values, arguments = {}, []
    for field in fields(instance):
        old, kind = getattr(instance, field.name), get_type_hints(type(instance))[field.name]
        if is_dataclass(old):
            values[field.name], inner = changed(old)
            arguments += [argument.replace("--", f"--{field.name}.", 1) for argument in inner]
            continue
        if isinstance(old, bool):
            new, said = not old, None
        elif get_origin(kind) is Literal:
            new = next(choice for choice in get_args(kind) if choice != old)
        elif isinstance(old, tuple):
            new = tuple(part + 0.125 for part in old)
        else:
            new = 7 if old is None else f"{old}x" if isinstance(old, str) else old + 1
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(old, bool):
            arguments.append(flag if new else f"--no-{flag[2:]}")
        else:
            said = new if isinstance(new, tuple) else (new,)
            arguments += [flag, *map(str, said)]
        values[field.name] = new
    return replace(instance, **values), arguments


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_field_can_be_set_on_the_command_line_and_is_saved(name):
    recipe = RECIPES[name][1]
    other, arguments = changed(recipe)
    parsed = tyro.cli(tyro.conf.AvoidSubcommands[Recipe], default=recipe, args=arguments)
    assert parsed == other and parsed != recipe
    saved = json.loads(json.dumps(describe_recipe(other, name)))
    for key, value in json.loads(json.dumps(asdict(other))).items():
        assert saved[key] == value or (key == "method" and value.items() <= saved[key].items())
    assert saved["recipe"] == name and saved["method"]["name"] == name and saved["method"]["paper"]["url"]


def test_the_list_explains_every_recipe(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pretrain", "--list"])
    pretrain.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert all(about in line for line, (about, _) in zip(lines, RECIPES.values(), strict=True))


# Section by section what the authors' codes have, apart from what their views are (see the tests of `Augment`).
RELEASED = {
    "uscl-released": {
        "batch": 32,
        "mean": 0.5,
        "std": 0.25,
        "optimiser": "adam",
        "lr": 3e-4,
        "weight_decay": 1e-4,
        "augment.size": 224,
        "method.temperature": 0.5,
        "method.projection": 256,
        "method.lam": "shared",
        "method.beta": 0.5,
        "method.label_weight": 0.2,
        "method.classify": "projection",
    },
    "meta_uscl-released": {
        "batch": 32,
        "mean": 0.18,
        "std": 0.24,
        "optimiser": "momentum",
        "lr": 0.1,
        "weight_decay": 1e-4,
        "augment.size": 64,
        "method.temperature": 0.5,
        "method.projection": 128,
        "method.interpolate": "standard",
        "method.beta": [3.0, 5.0],
        "method.max_dist": None,
        "method.meta_lr": 6e-5,
        "method.meta_every": 1,
        "method.meta_frame": "first",
        "method.features": "attached",
        "method.symmetric": False,
    },
    "hico-released": {
        "init": "resnet18.tv_in1k",
        "batch": 32,
        "mean": 0.5,
        "std": 0.25,
        "optimiser": "adam",
        "lr": 3e-4,
        "weight_decay": 1e-4,
        "augment.size": 224,
        "method.lam": "shared",
        "method.projection": 256,
        "method.pyramid_width": 256,
        "method.peer": 0.5,
        "method.cross": 0.5,
        "method.cross_views": "within",
        "method.medium": "p3",
        "method.top": "p5",
        "method.classify": "gap",
        "method.heads": "flatten",
        "method.soften": "hico_batch",
        "method.alpha": 0.2,
        "method.label_weight": 0.2,
    },
    "awcl-released": {
        "batch": 32,
        "mean": (0.485 + 0.456 + 0.406) / 3,
        "std": (0.229 + 0.224 + 0.225) / 3,
        "optimiser": "adam",
        "lr": 1e-3,
        "weight_decay": 1e-6,
        "augment.size": 227,
        "method.temperature": 0.5,
        "method.projection": 128,
        "method.switch": "batch",
        "method.base_temperature": 0.07,
        "method.tone_known": True,
    },
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_recipes_have_the_released_numbers(name):
    recipe = json.loads(json.dumps(asdict(RECIPES[name][1])))
    assert recipe["arch"] == "resnet18" and recipe["decay_all"] and recipe["method"]["forward_views"] == "separate"
    for key, value in RELEASED[name].items():
        found = recipe
        for part in key.split("."):
            found = found[part]
        assert found == (pytest.approx(value, rel=2e-3) if isinstance(value, float) else value), key


def test_a_vit_is_given_frames_of_the_size_of_its_views():
    recipe = replace(RECIPES["simclr"][1], arch="vit_tiny_patch16_224", input_size=128)
    with pytest.raises(TrainingError, match=r"--input-size 128(.|\n)*96 px"):
        build(recipe, 2)
