"""The suite runs, measures what it says, and writes its table where the documentation shows it."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training.benchmark.markdown import write_between
from training.speed import on_gpu, timing
from training.speed.run import Line, Suite, main, render
from training.speed.timing import Times, forget_peak, in_fresh_process, memory, take_turns

ROOT = Path(__file__).parents[3]


@pytest.fixture
def suite(monkeypatch):
    """Runs the command in this process, and puts back the number of threads, which it sets."""
    threads = torch.get_num_threads()

    def run(*args):
        monkeypatch.setattr("training.speed.run.keep_pages", bool)  # the other tests' memory stays as it is
        monkeypatch.setattr(sys, "argv", ["speed", "--quick", "--on", "cpu", *args])
        main()

    yield run
    torch.set_num_threads(threads)


def test_sides_take_turns_and_the_slower_takes_longer(monkeypatch):
    """On clocks that the sides alone move: no machine is too busy for it."""
    seen, wall, cpu = [], [0.0], [0.0]
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: wall[0], process_time=lambda: cpu[0]))

    def side(name, seconds, worked=0.0):
        seen.append(name)
        wall[0] += seconds
        cpu[0] += worked

    times = take_turns(
        {"a": lambda: side("a", 1), "b": lambda: side("b", 20, worked=3)}, 3, before=lambda: seen.append("-")
    )
    assert seen == ["-", "a", "-", "b"] * 4  # one round warms up
    assert times["a"].wall == [1, 1, 1] and times["b"].least == 20
    assert times["a"].cpu_least == pytest.approx(0, abs=0.5) and times["b"].cpu_least == pytest.approx(3, abs=0.5)
    assert len(take_turns({"a": lambda: side("a", 10)}, 1, seconds=100)["a"].wall) == 10
    assert Times([3.0, 1.0, 2.0], [1.0]).median == 2.0


def peaks():
    held = bytearray(200_000_000)
    del held
    forget_peak()
    before, now = memory("VmHWM"), memory("VmRSS")
    held = bytearray(100_000_000)
    return before, now, memory("VmHWM") - before, len(held)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_what_was_held_since_it_was_forgotten():
    """In a process of its own: a worker in which a run has asked to keep its pages gives none back."""
    before, now, grown, _ = in_fresh_process(peaks)
    if before > now + 50:
        pytest.skip("this kernel never forgets the peak of a process")
    assert grown == pytest.approx(100, abs=10)


def test_a_fresh_process_answers_or_is_told_to_have_failed(capfd):
    assert in_fresh_process(os.getpid) != os.getpid()
    with pytest.raises(RuntimeError, match="strerror failed"):
        in_fresh_process(os.strerror, "no number")
    assert "TypeError" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_the_quick_suite_fills_every_part(suite, tmp_path, capsys):
    page = tmp_path / "speed.md"
    page.write_text("before\n<!-- speed: -->\nold\n<!-- end -->\nafter\n")
    suite("--markdown", str(page))
    text, shown = page.read_text(), capsys.readouterr().out
    assert (
        text.startswith("before\n<!-- speed: -->\n") and text.endswith("\n<!-- end -->\nafter\n") and "old" not in text
    )
    for part in ("loader", "model step", "epoch", "meta step", "loss, N = 32", "features"):
        assert f"\n| {part} | " in text and f"\n| {part} | " in shown


PARTS_OF_A_GPU = (
    "32 px, 4 clips: step alone",
    "32 px, 4 clips: end to end",
    "32 px, 4 clips",
    "loss, N = 8",
    "features",
)


def all_parts_of(text):
    return [part for part in PARTS_OF_A_GPU if part not in text]


@pytest.mark.filterwarnings("ignore")
def test_every_part_of_the_table_of_a_gpu_is_measured_by_code_that_runs_on_a_cpu():
    text = on_gpu.rendered(on_gpu.table(torch.device("cpu"), on_gpu.QUICK))
    assert all_parts_of(text) == [] and "not run: out" not in text
    step, whole = (re.search(rf"{part} \| ([\d,]+) views/s", text) for part in ("step alone", "end to end"))
    assert int(step[1].replace(",", "")) > 0 and int(whole[1].replace(",", "")) > 0


def test_what_there_is_no_time_for_is_named():
    late = replace(on_gpu.QUICK, budget=-1.0)
    rows = list(on_gpu.table(torch.device("cpu"), late))
    assert len(rows) == 4 and {row.speed for row in rows} == {"not run: out of time"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_without_a_gpu_its_table_is_not_run_and_says_how(suite):
    with pytest.raises(SystemExit, match=r"^not run: no GPU; on a machine with one: python -m training\.speed$"):
        suite("--on", "gpu")


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
def test_the_table_of_a_gpu(gpu, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["speed", "--quick"])
    main()
    shown = capsys.readouterr().out
    assert torch.cuda.get_device_name() in shown and all_parts_of(shown) == [] and "MiB" in shown


def test_a_page_without_a_place_is_refused_before_anything_is_measured(suite, tmp_path, capsys):
    page = tmp_path / "speed.md"
    page.write_text("nothing here\n")
    with pytest.raises(SystemExit):
        suite("--markdown", str(page))
    assert "put it back where the speed belong" in capsys.readouterr().err
    assert page.read_text() == "nothing here\n"


def test_the_page_of_the_documentation_has_a_place(tmp_path):
    page = tmp_path / "speed.md"
    page.write_bytes((ROOT / "docs" / "speed.md").read_bytes())
    write_between(page, "speed", render(iter([Line("loader", "ours", "1", "2")]), Suite()))
    assert "| loader | ours | 1 | 2 |  |  |" in page.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_pages_are_kept():
    """Page faults of large blocks that come and go, with and without."""
    code = """
import resource, sys
from training.engine.process import keep_pages
kept = sys.argv[1] == "1" and keep_pages()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(12):
    begun = faults()
    held = [bytearray(b'x') * 60_000_000 for _ in range(2)]
    del held
print(int(kept), faults() - begun)
"""
    command = [sys.executable, "-c", code]
    (kept, few), (_, many) = (subprocess.check_output([*command, flag], cwd=ROOT, text=True).split() for flag in "10")
    if kept == "0":
        pytest.skip("this C library cannot be told")
    assert int(few) < 1000 < 10000 < int(many)
