"""The calculator of large runs, against sums done by hand, and the table that the documentation shows."""

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import run_module
from training.speed.plan import Plan, main, render, row

ROOT = Path(__file__).parents[3]
PLAN = Plan(views_per_second=1000, clips=1000, epochs=2, batch=50, latency=10)


def test_one_gpu_takes_as_long_as_its_speed_tells():
    found = row(replace(PLAN, lost=0, loss_speed=1e9), 1)
    assert found.steps == 40 and found.reduce == found.gather == 0
    assert found.hours == pytest.approx(2 * 1000 * 2 / 1000 / 3600, rel=1e-6)  # epochs * clips * views / speed
    assert found.efficiency == pytest.approx(1)


def test_sums_by_hand():
    found = row(PLAN, 16)
    assert found.steps == 3  # 2 * 1000 / 800 = 2.5
    assert found.compute == pytest.approx(0.1)
    assert found.loss == pytest.approx(8 * 100 * 1600 * 256 / 20e12)
    assert found.reduce == pytest.approx(2 * 15 / 16 * 11.7e6 * 4 / 25e9 + 4 * 10e-6)
    assert found.gather == pytest.approx(3 * 15 * 100 * 256 * 4 / 25e9 + 2 * 4 * 10e-6)
    assert found.hours == pytest.approx(3 * (found.compute + found.loss + found.reduce + found.gather) / 0.95 / 3600)
    assert found.cost == pytest.approx(found.hours * 16 * 3)
    assert row(PLAN, 8).reduce == pytest.approx(2 * 7 / 8 * 11.7e6 * 4 / 150e9 + 3 * 10e-6)  # within one machine


def test_every_assumption_is_printed():
    text = render(PLAN)
    for name, value in vars(PLAN).items():
        assert name == "gpus" or f"{name} {value:,g}" in text
    assert text.count("\n| ") == 4


def test_the_documentation_shows_what_its_command_prints():
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    command, shown = re.search(
        r"<!-- plan, run by \S+ -->\n+    python (-m training.speed.plan .*?)\n+(.*?)\n+<!-- end -->", text, re.S
    ).groups()
    done = run_module(*shlex.split(command)[1:])
    assert done.stdout.strip() == shown.strip()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--inside 0", "--inside 0 cannot be so, give a number above 0"),
        ("--loss-speed 0", "--loss-speed 0 cannot be so"),
        ("--node 0 --epochs inf", "--epochs inf cannot be so, give a number above 0; --node 0 cannot be so"),
        ("--price nan", "--price nan cannot be so, give a number from 0"),
        ("--gpus 8 0", "--gpus 8 0 cannot be so"),
        ("--lost 1", "--lost 1 cannot be so, give a share from 0 to below 1"),
    ],
)
def test_impossible_numbers_are_refused(monkeypatch, capsys, arguments, complaint):
    monkeypatch.setattr(sys, "argv", ["plan", "--views-per-second", "1000", *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        main()
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and complaint in error


def test_what_costs_nothing_may_be_zero(monkeypatch, capsys):
    command = ["plan", "--views-per-second", "1000", "--price", "0", "--latency", "0", "--lost", "0"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert "price 0" in capsys.readouterr().out
