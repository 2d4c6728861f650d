"""The loop: draw, forward, backward, step, and a checkpoint that lets a killed run continue to the bit.

A checkpoint holds the network, the optimiser, the schedule, the step and torch's generators. Sampling has no state of
its own (see `training.data.sampling`), so the step number is all it needs.
"""

import json
import math
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import timm.optim
import timm.scheduler
import torch
from tqdm import tqdm

from training.data.sampling import Batch, StepBatches, batches
from training.methods.base import Autocast, Method
from training.recipes import Recipe
from usbackbones.files import atomic_write

INTERRUPTED = 75  # exit code of a run that was asked to stop and can be resumed (sysexits' EX_TEMPFAIL)


class Interrupted(SystemExit):
    """The run was asked to stop; its state is saved."""


class TrainingError(RuntimeError):
    """A run that cannot go on, with the step and the remedy."""


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 here: a CUDA device that supports it, or a CPU with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    info = Path("/proc/cpuinfo")
    return info.is_file() and any(flag in info.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def seed_everything(seed: int) -> None:
    """Seed every generator that a layer's initialisation or dropout could use."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - timm's layers may use the global generator
    torch.manual_seed(seed)


class Engine:
    """One pretraining run.

    Args:
        method: the network; moved to `device`.
        recipe: how to train it.
        data: the training batches.
        folder: of the run; gets checkpoint.pt, metrics.jsonl and the files of `training.pretrain`.
        validation: fixed views of clips that are not trained on, or None.
        device: where to compute.
    """

    def __init__(
        self,
        method: Method,
        recipe: Recipe,
        data: StepBatches,
        folder: Path,
        validation: StepBatches | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.method = method.to(self.device).to(memory_format=torch.channels_last)
        self.recipe, self.data, self.validation, self.folder = recipe, data, validation, folder
        self.step = 0
        if recipe.clip_gradient and method.looks_ahead:
            raise TrainingError(
                f"{type(method).__name__} looks ahead of the optimiser's step, which clip_gradient = "
                f"{recipe.clip_gradient} would change behind its back: set --clip-gradient 0"
            )
        self.optimiser = timm.optim.create_optimizer_v2(
            self.method.learner(),
            opt=recipe.optimiser,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            filter_bias_and_bn=not recipe.decay_all,
        )
        warmup = round(recipe.warmup * recipe.steps)
        self.schedule = timm.scheduler.CosineLRScheduler(
            self.optimiser,
            t_initial=max(recipe.steps - warmup, 1),
            warmup_t=warmup,
            warmup_lr_init=recipe.lr if recipe.hold else recipe.lr / max(warmup, 1),
            warmup_prefix=True,
            t_in_epochs=False,
        )
        self.schedule.step_update(0)
        bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and computes_in_bf16(self.device))
        self.autocast: Autocast = lambda: torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    @property
    def checkpoint(self) -> Path:
        """Where the state is kept."""
        return self.folder / "checkpoint.pt"

    def run(self, workers: int = 0, checkpoint_every: int = 100, progress: bool = True) -> None:
        """Train from the current step to the last; SIGTERM and SIGINT save the state and exit with code 75."""
        self.method.train()
        with _stop_signals() as stop, (self.folder / "metrics.jsonl").open("a") as log:
            bar = tqdm(total=self.recipe.steps, initial=self.step, unit="step", disable=not progress)
            waited = time.perf_counter()
            for batch in batches(self.data, self.step, workers):
                begun = time.perf_counter()
                losses = self.train_step(batch)
                done = time.perf_counter()
                record = {
                    "step": self.step,
                    **losses,
                    "lr": self.optimiser.param_groups[0]["lr"],
                    "views_per_second": batch.views.shape[0] * batch.views.shape[1] / (done - waited),
                    "data_share": (begun - waited) / (done - waited),
                }
                self.step += 1
                self.schedule.step_update(self.step)
                if self.step % checkpoint_every == 0 or self.step == self.recipe.steps or stop():
                    if self.validation is not None:
                        record["validation"] = self.validate()
                    log.write(json.dumps(record) + "\n")
                    log.flush()
                    self.save()
                else:
                    log.write(json.dumps(record) + "\n")
                bar.update()
                bar.set_postfix(
                    loss=f"{losses['loss']:.3f}",
                    views=f"{record['views_per_second']:.0f}/s",
                    data=f"{record['data_share']:.0%}",
                    refresh=False,
                )
                if stop() and self.step < self.recipe.steps:
                    raise Interrupted(INTERRUPTED)
                waited = time.perf_counter()
            bar.close()

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; the losses as numbers.

        Raises:
            TrainingError: if a loss is not finite. The weights are then still those before the step.
        """
        self.optimiser.zero_grad(set_to_none=True)
        losses = self.method.step(batch.to(self.device), self.autocast, self.optimiser)
        values = {name: float(value.detach()) for name, value in losses.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"the {name} is {value} at step {self.step}, clips {batch.clips.tolist()}. "
                    f"The last state is in {self.checkpoint}; resume with a lower --lr, or leave those clips out."
                )
        if self.recipe.clip_gradient:
            torch.nn.utils.clip_grad_norm_(self.method.learner().parameters(), self.recipe.clip_gradient)
        self.optimiser.step()
        return values

    @torch.no_grad()
    def validate(self) -> float:
        """The method's loss on the fixed validation views, in evaluation mode."""
        assert self.validation is not None
        self.method.eval()
        with self.autocast():
            values = [
                float(self.method.losses(batch.to(self.device))["loss"]) for batch in batches(self.validation, 0, 0)
            ]
        self.method.train()
        return float(np.mean(values))

    def save(self) -> None:
        """Write the whole state under a temporary name and move it."""
        state = {
            "step": self.step,
            "recipe": json.dumps(asdict(self.recipe), sort_keys=True),
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda_generator"] = torch.cuda.get_rng_state(self.device)
        with atomic_write(self.checkpoint) as stream:
            torch.save(state, stream)

    def resume(self) -> None:
        """Continue from the folder's checkpoint.

        Raises:
            TrainingError: if it is of another recipe or cannot be read.
        """
        try:
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            raise TrainingError(
                f"{self.checkpoint} cannot be read ({type(error).__name__}): delete it to begin anew"
            ) from error
        ours = json.loads(json.dumps(asdict(self.recipe)))
        theirs = json.loads(state["recipe"])
        if ours != theirs:
            changed = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
            raise TrainingError(
                f"{self.checkpoint} was made by another recipe; they differ in {', '.join(changed)}. "
                "Choose another run folder, or repeat the recipe of this one."
            )
        self.method.load_state_dict(state["method"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["generator"].cpu())
        if "cuda_generator" in state:
            torch.cuda.set_rng_state(state["cuda_generator"].cpu(), self.device)
        self.step = state["step"]
        self.schedule.step_update(self.step)
        log = self.folder / "metrics.jsonl"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        with atomic_write(log, "w") as stream:  # what a killed run logged after its checkpoint happens again
            stream.writelines(lines[: self.step])


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM and SIGINT only set a flag, so that the step in hand is finished and saved."""
    asked = False

    def ask(*_: Any) -> None:
        nonlocal asked
        asked = True

    earlier = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
