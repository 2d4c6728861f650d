"""Estimate a large run: python -m training.speed.plan --views-per-second NUMBER [...].

The speed of one GPU is measured (`views_per_second` in a run's metrics.jsonl, or the table of training.speed) and given
as an argument; the rest is arithmetic, and every number that it rests on is printed above the table.

    compute    = 2 * batch / views_per_second                     forward, backward and optimizer on one GPU
    loss       = 4 * 2 * (2 batch) * (2 batch * gpus) * width / loss_speed      all keys for the own anchors, 4 passes
    reduce     = 2 * (gpus - 1) / gpus * gradient bytes / bandwidth + latency * log2(gpus)      after the backward pass
    gather     = 3 * (gpus - 1) * 2 batch * width * 4 bytes / bandwidth + 2 * latency * log2(gpus)      embeddings:
                 gathered on the way forward, added up over all (twice the bytes) on the way back
    hours      = steps * (compute + loss + reduce + gather) / (1 - lost)
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields

import tyro

from usbackbones._words import percent, rounded


@dataclass(frozen=True)
class Plan:
    """Assumptions of a run.

    Attributes:
        views_per_second: of one GPU, measured end to end; each clip of a batch has two views.
        gpus: how many, several for several rows.
        clips: in the corpus.
        epochs: passes over it.
        batch: clips on one GPU in a step; the batch of the recipe is this times the GPUs.
        parameters: of backbone and heads, millions; 11.7 are those of a ResNet-18, 22 those of a ViT-small.
        width: of the embeddings that are gathered.
        node: GPUs in one machine.
        inside: bandwidth between the GPUs of a machine, GB/s each way.
        between: bandwidth between machines, GB/s for each GPU.
        latency: of one hop of a collective operation, microseconds.
        loss_speed: of the contrastive loss, which is float32, TFLOP/s.
        lost: share of the time that goes to starts, checkpoints, validation and failures.
        price: of one GPU for an hour.
        frames: of a clip in the cache.
        size: of a frame, pixels.
        frames_per_view: that are read for a view; 1.5 for USCL's mixtures.
    """

    views_per_second: float
    gpus: tuple[int, ...] = (8, 64, 512)
    clips: int = 500_000
    epochs: float = 100
    batch: int = 64
    parameters: float = 11.7
    width: int = 256
    node: int = 8
    inside: float = 150
    between: float = 25
    latency: float = 20
    loss_speed: float = 20
    lost: float = 0.05
    price: float = 3.0
    frames: int = 60
    size: int = 224
    frames_per_view: float = 1.5


@dataclass(frozen=True)
class Row:
    """What a number of GPUs takes; times in seconds."""

    gpus: int
    steps: int
    compute: float
    loss: float
    reduce: float
    gather: float
    hours: float
    cost: float

    @property
    def efficiency(self) -> float:
        """Share of a step in which the GPUs compute what one GPU alone would."""
        return self.compute / (self.compute + self.loss + self.reduce + self.gather)


def row(plan: Plan, gpus: int) -> Row:
    """The arithmetic of the module's docstring."""
    bandwidth = (plan.inside if gpus <= plan.node else plan.between) * 1e9
    hops = plan.latency * 1e-6 * math.log2(gpus)
    views = 2 * plan.batch
    compute = views / plan.views_per_second
    loss = 4 * 2 * views * views * gpus * plan.width / (plan.loss_speed * 1e12)
    reduce = 2 * (gpus - 1) / gpus * plan.parameters * 1e6 * 4 / bandwidth + hops
    gather = 3 * (gpus - 1) * views * plan.width * 4 / bandwidth + 2 * hops
    steps = math.ceil(plan.epochs * plan.clips / (plan.batch * gpus))
    hours = steps * (compute + loss + reduce + gather) / (1 - plan.lost) / 3600
    return Row(gpus, steps, compute, loss, reduce, gather, hours, hours * gpus * plan.price)


def render(plan: Plan) -> str:
    """The assumptions and the table, as Markdown."""
    told = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name != "gpus"}
    lines = ["Assumed: " + ", ".join(f"{name} {value:,g}" for name, value in told.items()) + ".", ""]
    stored = plan.clips * plan.frames * plan.size**2 / 1e12
    read = plan.views_per_second * plan.frames_per_view * plan.size**2 / 1e6
    lines += [f"The cache takes {rounded(stored, 2)} TB; each GPU reads {_whole(read)} MB/s of it.", ""]
    lines += [
        "| GPUs | clips a step | steps | step, ms | of it communication | efficiency | hours | GPU hours | cost |"
    ]
    lines += ["|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for r in (row(plan, gpus) for gpus in plan.gpus):
        step = r.compute + r.loss + r.reduce + r.gather
        lines.append(
            f"| {r.gpus} | {r.gpus * plan.batch:,} | {r.steps:,} | {_tenths(step * 1e3)} | "
            f"{_tenths((r.reduce + r.gather) * 1e3)} | {percent(r.efficiency)} | {rounded(r.hours, 2)} | "
            f"{_tenths(r.hours * r.gpus)} | {_whole(r.cost)} |"
        )
    return "\n".join(lines)


def _tenths(number: float) -> str:
    return f"{number:,.1f}" if number >= 0.05 or not number else "<0.1"


def _whole(number: float) -> str:
    return f"{number:,.0f}" if number >= 0.5 or not number else "<1"


def impossible(plan: Plan) -> Iterator[str]:
    """What cannot be so, with the value and what may be given."""
    told = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name not in ("gpus", "lost")}
    for name, value in told.items():
        free = name in ("latency", "price")
        if not (math.isfinite(value) and (value > 0 or (free and value == 0))):
            yield f"--{name.replace('_', '-')} {value:g} cannot be so, give a number {'from 0' if free else 'above 0'}"
    if min(plan.gpus, default=0) < 1:
        yield f"--gpus {' '.join(map(str, plan.gpus))} cannot be so, give counts from 1"
    if not 0 <= plan.lost < 1:
        yield f"--lost {plan.lost:g} cannot be so, give a share from 0 to below 1"


def main() -> None:
    """Print the table."""
    plan = tyro.cli(Plan, prog="python -m training.speed.plan")
    if wrong := list(impossible(plan)):
        print(f"error: {'; '.join(wrong)}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    print(render(plan))  # noqa: T201


if __name__ == "__main__":
    main()
