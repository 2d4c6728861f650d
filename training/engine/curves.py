"""The curves of a run as pictures: loss.png and rankme.png."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usbackbones._files import atomic_write
from usbackbones._words import plural

PALE, DARK, RED = "#b8cbe0", "#1f4e8c", "#c8553d"


def draw_loss(records: Sequence[dict[str, Any]], file: Path) -> None:
    """The loss of every step, its running mean, and the validation loss where there is one."""
    figure, axes = _figure("loss")
    steps, loss = [r["step"] for r in records], np.array([r["loss"] for r in records])
    axes.plot(steps, loss, color=PALE, linewidth=0.6, label="each step")
    width = max(1, len(loss) // 50)
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    axes.plot(steps[width - 1 :], smooth, color=DARK, label=f"mean of {plural(width, 'step')}")
    held = [(r["step"], r["validation"]) for r in records if "validation" in r]
    if held:
        axes.plot(*zip(*held, strict=True), color=RED, marker=".", label="validation, fixed views, no labels")
    axes.legend(frameon=False)
    _save(figure, file)


def draw_rankme(records: Sequence[dict[str, Any]], file: Path) -> None:
    """RankMe and the spread of the representation, on axes of their own."""
    seen = [r for r in records if "rankme" in r]
    figure, axes = _figure("RankMe of the representation")
    steps = [r["step"] for r in seen]
    lines = axes.plot(steps, [r["rankme"] for r in seen], color=DARK, marker=".", label="RankMe")
    axes.set_ylim(bottom=1)
    other = axes.twinx()
    lines += other.plot(steps, [r["spread"] for r in seen], color=RED, marker=".", label="spread")
    other.set(ylabel="spread (1: evenly on the sphere)", ylim=(0, None))
    axes.legend(handles=lines, frameon=False)
    _save(figure, file)


def _figure(ylabel: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.set(xlabel="optimiser step", ylabel=ylabel)
    return figure, axes


def _save(figure: Any, file: Path) -> None:
    import matplotlib.pyplot as plt

    with atomic_write(file) as stream:
        figure.savefig(stream, format="png", dpi=130)
    plt.close(figure)
