"""A released weight is made again from its entry in the zoo, to the bit; what is not the same is told."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from tests.conftest import run_module
from training.data.errors import CorpusError
from training.data.records import RECORD
from training.engine.run_folder import describe_recipe
from training.engine.trial_run import losses_of
from training.errors import TrainingError
from training.pretrain import Run, pretrain
from training.recipes import RECIPES, RETIRED, Recipe, recorded
from training.release.commands import TRAJECTORY, add
from training.release.records import read_weights
from training.reproduce import main


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_back_from_its_record(name):
    recipe = RECIPES[name][1]
    again = json.loads(json.dumps(describe_recipe(recipe, name)))
    assert recorded(Recipe, again) == recipe


def test_a_record_that_cannot_be_followed_is_told():
    told = json.loads(json.dumps(describe_recipe(RECIPES["uscl"][1], "uscl")))
    with pytest.raises(TrainingError, match=r"recipe\.method: this version has no method 'moco'"):
        recorded(Recipe, told | {"method": told["method"] | {"name": "moco"}})
    with pytest.raises(TrainingError, match=r"recipe: this version does not know momentum .* environment names"):
        recorded(Recipe, told | {"momentum": 0.9})
    with pytest.raises(TrainingError, match=r"misses method"):
        recorded(Recipe, {key: value for key, value in told.items() if key != "method"})


def test_an_option_that_is_gone_is_left_out_of_a_record_or_refused():
    for name, options in RETIRED.items():
        told = json.loads(json.dumps(describe_recipe(RECIPES[name][1], name)))
        for key, only in options.items():
            assert recorded(Recipe, told | {"method": told["method"] | {key: only}}) == RECIPES[name][1]
            with pytest.raises(TrainingError, match=rf"recipe\.method: this version does not know {key} "):
                recorded(Recipe, told | {"method": told["method"] | {key: "another"}})


def test_the_weights_of_the_zoo_can_be_followed_and_have_their_first_losses():
    for name, entry in read_weights()["weights"].items():
        assert recorded(Recipe, entry["training"]["recipe"]).arch == entry["arch"], name
        assert len(entry["training"]["trajectory"]) in (12, TRAJECTORY), name  # corpus 2 has 12


@pytest.fixture(scope="module")
def zoo(cache, tmp_path_factory):
    """A weight released from a short run, with more steps than are recorded."""
    folder = tmp_path_factory.mktemp("released")
    recipe = RECIPES["smoke"][1]
    recipe = replace(recipe, arch="test_resnet", steps=22, batch=6, augment=replace(recipe.augment, size=32))
    threads = torch.get_num_threads()
    run = Run(recipe=recipe, data=cache, out=folder / "run", deterministic=True)
    run = pretrain(run, "smoke", "the command", progress=False)
    file = folder / "zoo.json"
    file.write_text(json.dumps({"organisation": "usbackbones", "default": None, "weights": {}}))
    add(run, "uscl_open1", zoo=file, cards=folder / "cards")
    assert (
        threads
        == read_weights(file, folder / "cards")["weights"]["test_resnet.uscl_open1"]["training"]["environment"][
            "threads"
        ]
    )
    return file


def reproduce(zoo, cache, *options, name="test_resnet.uscl_open1"):
    return run_module(
        "training.reproduce", name, "--data", cache, "--zoo", zoo, "--cards", zoo.parent / "cards", *options
    )


def test_the_first_steps_are_the_same_to_the_bit(zoo, cache):
    done = reproduce(zoo, cache, "--check")
    assert done.returncode == 0, done.stderr
    assert "the same to the bit" in done.stdout and f"step {TRAJECTORY - 1:3d}" in done.stdout


def test_the_whole_run_gives_the_released_file(zoo, cache, tmp_path):
    done = reproduce(zoo, cache, "--out", str(tmp_path / "again"))
    assert done.returncode == 0, done.stderr
    assert "byte for byte" in done.stdout
    released = zoo.parent / "cards" / "test_resnet.uscl_open1" / "model.safetensors"
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == released.read_bytes()


def test_another_training_or_corpus_is_told(zoo, cache, tmp_path):
    threads, name = torch.get_num_threads(), "test_resnet.uscl_open1"
    cards = shutil.copytree(zoo.parent / "cards", tmp_path / "cards")
    record = json.loads((cards / name / RECORD).read_text())

    def losses(scale, **environment):
        changed = json.loads(json.dumps(record))
        changed["training"]["trajectory"] = [scale * loss for loss in record["training"]["trajectory"]]
        changed["training"]["environment"] |= environment
        (cards / name / RECORD).write_text(json.dumps(changed))

    # A loss that is 0.5 % off is another training here, and is what another processor gives.
    losses(1.005)
    with pytest.raises(TrainingError, match="on the same processor, threads and versions: this is another training"):
        main(name, cache, True, zoo=zoo, cards=cards)
    losses(1.005, cpu="another")
    main(name, cache, True, zoo=zoo, cards=cards)
    losses(1.02, cpu="another")
    with pytest.raises(TrainingError, match="more than 1%: this is another training"):
        main(name, cache, True, zoo=zoo, cards=cards)
    with pytest.raises(CorpusError, match=r"nope is not in zoo\.json; there is: test_resnet\.uscl_open1"):
        main("nope", cache, zoo=zoo, cards=cards)
    record["corpus"]["frames_sha256"] = "0" * 64
    losses(1)
    with pytest.raises(CorpusError, match=r"is not the corpus of .* 0 of 8 clips are missing.*training\.data\.prepare"):
        main(name, cache, zoo=zoo, cards=cards)
    torch.set_num_threads(threads)


def test_bf16_is_compared_in_fp32_where_it_would_be_emulated(zoo, cache, tmp_path, monkeypatch, capsys):
    threads, name = torch.get_num_threads(), "test_resnet.uscl_open1"
    cards = shutil.copytree(zoo.parent / "cards", tmp_path / "cards")
    record = json.loads((cards / name / RECORD).read_text())
    record["training"]["recipe"]["precision"] = "bf16"
    # 0.5 % off is another training, unless it is another precision.
    record["training"]["trajectory"] = [1.005 * loss for loss in record["training"]["trajectory"]]
    (cards / name / RECORD).write_text(json.dumps(record))
    used = []
    monkeypatch.setattr("training.reproduce.emulates_bf16", lambda device: True)
    monkeypatch.setattr(
        "training.reproduce.losses_of",
        lambda recipe, *rest: used.append(recipe.precision) or losses_of(recipe, *rest),
    )
    main(name, cache, True, zoo=zoo, cards=cards)
    shown = capsys.readouterr().out
    assert used == ["fp32"] and "bf16 then, fp32 now" in shown and "Other than at the release: precision" in shown
    torch.set_num_threads(threads)


def test_a_refusal_is_a_line(zoo, cache):
    done = reproduce(zoo, cache, name="nope")
    assert done.returncode == 2 and done.stderr.startswith("error: nope is not in zoo.json")
    assert len(done.stderr.splitlines()) == 1
