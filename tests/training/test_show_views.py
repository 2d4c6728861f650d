"""The contact sheet: its pictures are what the loader gives the network, and a user's mistake is one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run_module
from training.data.cache import open_cache
from training.data.views.augment import PRESETS
from training.recipes import RECIPES
from training.show_views import SheetError, draw_sheet, drawn_views, lines_of, main

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_views_are_those_that_the_loader_draws(cache):
    corpus = open_cache(cache)
    recipe = replace(lines_of((), ("ultrasound",))[0].recipe, seed=3, mean=0.2, std=0.24)
    for step, views in enumerate(drawn_views(recipe, corpus, 5, 3)):
        # The loader's generator; SimCLR draws a frame and augments it twice.
        draw = np.random.default_rng([3, 1, step, 5])
        frame = corpus.clip(5)[draw.integers(6)]
        np.testing.assert_array_equal(views, np.stack([recipe.augment(frame, draw) for _ in range(2)]))


def test_a_sheet_has_a_block_a_clip_and_a_line_a_name(cache):
    corpus = open_cache(cache)
    lines = lines_of(("uscl", "simclr"), ("awcl",))
    assert [line.name for line in lines] == ["uscl", "simclr", "awcl"]
    small, large = draw_sheet(corpus, lines, 1, 2), draw_sheet(corpus, lines, 3, 3)
    assert large.height == 3 * small.height and large.width > small.width
    assert draw_sheet(corpus, lines[:1], 1, 2).height < small.height
    assert draw_sheet(corpus, lines[:1], 100, 1).height == 8 * draw_sheet(corpus, lines[:1], 1, 1).height


def test_every_recipe_and_every_preset_can_be_drawn(cache):
    corpus = open_cache(cache)
    lines = lines_of(tuple(RECIPES), tuple(PRESETS))
    assert len(lines) == len(RECIPES) + len(PRESETS)
    picture = np.asarray(draw_sheet(corpus, lines, 1, 1))
    bands = np.array_split(picture[24:, 132:], len(lines) + 1)
    assert min(band.std() for band in bands) > 5  # no line is empty


def test_all_presets_are_shown_if_nothing_is_named():
    assert [line.name for line in lines_of((), ())] == [*PRESETS]
    assert [line.name for line in lines_of(("uscl",), ())] == ["uscl"]


def test_the_command_writes_a_png(cache, tmp_path):
    command = ["--data", str(cache), "--recipe", "uscl", "--clips", "2", "--pairs", "2", "-o", str(tmp_path / "a.png")]
    run = run_module("training.show_views", *command)
    assert run.returncode == 0, run.stderr
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG" and picture.mode == "L"
        drawn = draw_sheet(open_cache(cache), lines_of(("uscl",), ()), 2, 2)
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(drawn))
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"recipe": ("usc",)}, "no recipe 'usc': choose from uscl"),
        ({"preset": ("natural",)}, "no preset 'natural': choose from uscl"),
        ({"pairs": 0}, "3 clips and 0 pairs"),
        ({"data": Path("nowhere")}, "nowhere is not a prepared cache"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(cache, tmp_path, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as stop:
        main(**({"data": cache, "out": tmp_path / "sheet.png"} | arguments))
    message = capsys.readouterr().err
    assert stop.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1 and complaint in message
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_named(cache, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(data=cache, out=tmp_path / "file" / "sheet.png", preset=("uscl",), clips=1, pairs=1)
    message = capsys.readouterr().err
    assert stop.value.code == 2 and message.count("\n") == 1 and str(tmp_path / "file") in message
    with pytest.raises(SheetError):
        lines_of(("nothing",), ())
