"""One table of all that takes time, ours beside what others install or write: python -m training.speed [--quick].

    python -m training.speed --markdown docs/speed.md

The sides of a comparison take turns. The loader, the meta step and the loss use one thread, the rest `--threads`. Each
line is a median with the least in brackets; CPU seconds are the least of all rounds, which a busy machine disturbs
least, and the ratios compare those. On a machine with a GPU its own table is made instead, in about two minutes; with
--on cpu the one above. What the lines mean: docs/speed.md.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import cv2
import torch
import tyro
from tqdm import tqdm

from training.benchmark.markdown import between, write_between
from training.data.cache import Cache
from training.data.errors import refuse_unwritable, short_errors
from training.engine.process import keep_pages
from training.engine.run_folder import environment
from training.speed import loaders, on_gpu, steps
from training.speed import loss as nt_xent
from training.speed.corpus import write_corpus
from training.speed.meta_step import Bench
from training.speed.timing import Times, in_fresh_process, take_turns
from usbackbones._words import percent, plural
from usbackbones.features.precision import computes_in_bf16


@dataclass(frozen=True)
class Material:
    """What the sides read: a folder with a cache, and the same frames as JPEG files, a list a clip."""

    folder: Path
    cache: Cache
    files: list[list[Path]]


@dataclass(frozen=True)
class Line:
    """One side of one comparison; `other` is how many times the CPU seconds of ours it takes."""

    part: str
    side: str
    speed: str
    cpu: str
    memory: str = ""
    other: str = ""


@dataclass(frozen=True)
class Suite:
    """What is compared, and how large.

    Attributes:
        quick: small and one round, to see that it works; its numbers mean nothing.
        rounds: turns of every side.
        threads: of the parts that may use several.
        arch: timm's name of the backbone.
        size: of the views, pixels.
        batch: clips.
        on: what is measured: the "cpu", or the "gpu"; by default the GPU where there is one.
        markdown: also put the table between the marks of this file.
    """

    quick: bool = False
    rounds: int = 3
    threads: int = 2
    arch: str = "resnet18"
    size: int = 224
    batch: int = 32
    on: Literal["auto", "cpu", "gpu"] = "auto"
    markdown: Path | None = None


def compared(part: str, times: Mapping[str, Times], items: Mapping[str, float], unit: str, ours: str) -> list[Line]:
    """Lines of sides that took turns; `items` are what a round of each makes."""
    own = times[ours].cpu_least / items[ours]
    return [
        Line(
            part,
            name,
            f"{_short(items[name] / side.median)} ({_short(items[name] / side.least)}) {unit}/s",
            f"{_short(side.cpu_least / items[name] * 1e3)} ms",
            other=f"{side.cpu_least / items[name] / own:.2f}",
        )
        for name, side in times.items()
    ]


def loader(suite: Suite, made: Material) -> list[Line]:
    """Pairs a second from a warm cache, on one core, without workers."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    racing = loaders.sides(made.cache, made.files, suite.size, suite.batch)
    each = {name: 8 if name.startswith("ours") and not suite.quick else 1 for name in racing}

    def several(name: str) -> Callable[[], object]:
        return lambda: [racing[name]() for _ in range(each[name])]

    times = take_turns({name: several(name) for name in racing}, 2 * suite.rounds)
    return compared("loader", times, {name: suite.batch * each[name] for name in racing}, "pairs", "ours, USCL")


def model_step(suite: Suite, made: Material) -> list[Line]:
    """A step on a batch that is there."""
    racing = steps.model_steps(made.folder, suite.arch, suite.size, suite.batch)
    times = take_turns(racing, suite.rounds)
    return compared("model step", times, dict.fromkeys(racing, 2.0 * suite.batch), "views", _best(racing))


def epoch(suite: Suite, made: Material) -> list[Line]:
    """Two steps with their data, each time in a fresh process."""
    count, common = 2, (suite.arch, suite.size, suite.batch)
    ours = ["fp32", "bf16"] if computes_in_bf16(torch.device("cpu")) else ["fp32"]
    found: dict[str, list[steps.Epoch]] = {}
    run: Callable[..., steps.Epoch] = _here if suite.quick else in_fresh_process
    for _ in range(max(1, suite.rounds - 1)):
        plain = run(steps.plain_epoch, made.files, *common, count, suite.threads)
        found.setdefault("plain: PIL, 2 workers, two passes a view, fp32", []).append(plain)
        for precision in ours:
            one = run(steps.our_epoch, made.folder, *common, precision, count, suite.threads)
            found.setdefault(f"ours, {precision}", []).append(one)
    own = min(one.cpu for one in found[f"ours, {ours[-1]}"])
    views = 2 * suite.batch * count
    lines = []
    for name, rounds in found.items():
        cpu = min(one.cpu for one in rounds)
        usual, best = (views / reduce([one.wall for one in rounds]) for reduce in (median, min))
        waited, peak = median(one.waited for one in rounds), median(one.peak for one in rounds)
        speed = f"{_short(usual)} ({_short(best)}) views/s, {percent(waited, 1)} waiting for data"
        lines.append(
            Line("epoch", name, speed, f"{_short(cpu / views * 1e3)} ms", f"{peak:,.0f} MB", f"{cpu / own:.2f}")
        )
    return lines


def features(suite: Suite, made: Material) -> list[Line]:
    """Features of a batch of frames."""
    racing = steps.features(suite.arch, suite.size, suite.batch)
    times = take_turns(racing, 2 * suite.rounds)
    return compared("features", times, dict.fromkeys(racing, float(suite.batch)), "frames", "ours, bf16")


def meta_step(suite: Suite, made: Material) -> list[Line]:
    """Meta-USCL's step on one thread at 64 px, beside a plain one and beside double backward."""
    bench = Bench(suite.arch, suite.batch, 64)
    racing = bench.forms()
    times = take_turns(racing, suite.rounds, before=bench.rewind)
    return compared("meta step", times, dict.fromkeys(racing, 1.0), "steps", "ours")


def loss(suite: Suite, made: Material) -> list[Line]:
    """NT-Xent forward and backward on one thread."""
    torch.set_num_threads(1)
    lines = []
    for pairs in (32,) if suite.quick else (32, 256, 2048):
        first, second = nt_xent.embeddings(pairs)
        racing: dict[str, Callable[[], float]] = {"ours": partial(nt_xent.step, nt_xent.ours, first, second)}
        if _has_lightly():
            racing["lightly"] = partial(nt_xent.step, nt_xent.lightly, first, second)
        values = [side() for side in racing.values()]
        if max(values) - min(values) > 1e-4 * max(values):
            raise ValueError(f"the two losses differ at N = {pairs}: {dict(zip(racing, values, strict=True))}")
        times = take_turns(racing, suite.rounds, seconds=0 if suite.quick else 4)
        lines += compared(f"loss, N = {pairs}", times, dict.fromkeys(racing, 1.0), "calls", "ours")
    return lines


_QUICK = "; a quick look at small inputs, whose numbers mean nothing"
PARTS = (loader, model_step, epoch, meta_step, loss, features)


def measure(suite: Suite) -> Iterator[Line]:
    """Every part after another."""
    torch.manual_seed(0)
    clips, frames = (suite.batch, 3) if suite.quick else (2 * suite.batch, 6)
    with tempfile.TemporaryDirectory() as folder:
        cache, files = write_corpus(Path(folder), clips, frames, suite.size)
        made = Material(Path(folder) / "cache", cache, files)
        for part in tqdm(PARTS, unit="part", disable=suite.quick):
            torch.set_num_threads(suite.threads)
            yield from part(suite, made)


def render(lines: Iterator[Line], suite: Suite) -> str:
    """The machine and the table, as Markdown."""
    told = environment()
    gpu = f", {told['cuda']}" if told["cuda"] else ""
    head = (
        f"{told['cpu']}, {plural(told['processors'], 'core')}{gpu}; torch {told['torch']}, OpenCV {cv2.__version__}; "
        f"{suite.arch}, {suite.size} px, batches of {plural(suite.batch, 'clip')}; "
        f"{plural(suite.threads, 'thread')} for step, epoch and features, one for the rest{_QUICK * suite.quick}"
    )
    rows = [
        "| part | side | speed, median (best) | CPU of one | peak memory | times ours |",
        "|---|---|---|---:|---:|---:|",
    ]
    rows += [f"| {' | '.join((x.part, x.side, x.speed, x.cpu, x.memory, x.other))} |" for x in lines]
    return head + ".\n\n" + "\n".join(rows)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _here(function: Callable[..., steps.Epoch], *args: object) -> steps.Epoch:
    return function(*args)


def _best(racing: Mapping[str, object]) -> str:
    return "ours, bf16" if "ours, bf16" in racing else "ours, fp32"


def _has_lightly() -> bool:
    return importlib.util.find_spec("lightly") is not None


def _on_cpu(suite: Suite) -> str:
    keep_pages()  # as training does
    return render(measure(suite), suite)


def _on_gpu(suite: Suite) -> str:
    if not torch.cuda.is_available():
        raise SystemExit(f"not run: no GPU; on a machine with one: {on_gpu.COMMAND}")
    told = environment()
    rows = on_gpu.table(torch.device("cuda"), on_gpu.QUICK if suite.quick else on_gpu.Sizes())
    head = f"{told['cuda']}, {plural(told['processors'], 'core')} ({told['cpu']}); torch {told['torch']}; steps in bf16"
    return f"{head}{_QUICK * suite.quick}.\n\n{on_gpu.rendered(rows)}"


@short_errors(ValueError)
def main() -> None:
    """Measure and print."""
    suite = tyro.cli(Suite, prog="python -m training.speed", description=__doc__)
    if suite.quick:
        suite = replace(suite, rounds=1, arch="test_resnet", size=32, batch=4, threads=1)
    refuse_unwritable(suite.markdown)
    if suite.markdown:
        between(suite.markdown.read_text(encoding="utf-8"), "speed", "")  # refused before anything is measured
    text = _on_gpu(suite) if suite.on == "gpu" or (suite.on == "auto" and torch.cuda.is_available()) else _on_cpu(suite)
    print(text)  # noqa: T201
    if suite.markdown:
        write_between(suite.markdown, "speed", text)
    if not _has_lightly():
        print("\nlightly is not installed, so its lines are missing: pip install 'usbackbones[speed]'")  # noqa: T201
