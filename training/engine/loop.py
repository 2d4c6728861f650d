"""The loop: draw, forward, backward, step, and a checkpoint that lets a killed run continue to the bit.

A checkpoint holds the network with its heads and whatever a method trains by itself (CMW-Net and its optimizer), the
optimizer, the moving average, the step, the best validation loss and the generators of all processes. The schedule is
a function of the step. Sampling has no state of its own (see `training.data.batches`), so the step is all it needs.

Several processes run this same loop on their parts of each batch (see `training.nn.distributed`): what is logged is the
mean over them, all come to the same decisions at the same step, and the first one writes.
"""

import json
import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from training.data.batches.batch import Batch
from training.data.batches.sampling import StepBatches
from training.data.batches.supply import batch_on, supply_of
from training.data.errors import CorpusError
from training.engine.checkpoint import Checkpoints, load, refuse_another
from training.engine.collapse import Representations, collapsed, fixed_views, named_clips, without_labels
from training.engine.grad_cache import accumulated_step
from training.engine.log import Journal, Mirror, rewind_journal
from training.engine.optimizer import average_of, optimizer_of, schedule_of
from training.engine.prepare_model import network_of
from training.engine.process import stop_signals
from training.engine.run_folder import rows_sha256
from training.errors import INTERRUPTED, Interrupted, TrainingError
from training.methods.base import Autocast, Method
from training.nn.distributed import alone, anyone, average_gradients, averaged, rank, texts, wait_for_all, world_size
from training.nn.rng import capture, restore, seed_everything, seed_of_process
from training.recipes import Recipe
from usbackbones.features.precision import computes_in_bf16


class Engine:
    """One pretraining run.

    Args:
        method: the network; moved to `device`.
        recipe: how to train it.
        data: the training batches.
        folder: of the run; gets the checkpoints, metrics.jsonl and the files of `training.pretrain`.
        validation: fixed views of clips that are not trained on, or None.
        device: where to compute.
        views_on: "cpu" makes the training views before they are copied to the device, "device" there.
    """

    def __init__(
        self,
        method: Method,
        recipe: Recipe,
        data: StepBatches,
        folder: Path,
        validation: StepBatches | None = None,
        device: torch.device | None = None,
        views_on: Literal["cpu", "device"] = "cpu",
    ) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.recipe, self.data, self.validation, self.folder = recipe, data, validation, folder
        self.views_on = views_on
        self.method = network_of(method, recipe, self.device)
        self.optimizer = optimizer_of(self.method, recipe)
        self.schedule = schedule_of(self.optimizer, recipe)
        self.average = average_of(self.method, recipe)
        bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and computes_in_bf16(self.device))
        self.autocast: Autocast = lambda: torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
        self.checkpoints = Checkpoints(folder)
        self.step, self.best, self.collapses = 0, math.inf, 0
        self._rows = rows_sha256(data.cache)
        if rank():  # the weights are those of process 0, dropout is each one's own
            seed_everything(seed_of_process(recipe.seed, rank()))

    @property
    def checkpoint(self) -> Path:
        """Where the newest state is kept."""
        return self.checkpoints.files[0]

    def run(
        self,
        workers: int | None = None,
        checkpoint_every: int = 100,
        progress: bool = True,
        mirrors: Sequence[Mirror] = (),
    ) -> None:
        """Train from the current step to the last; SIGTERM and SIGINT save the state and exit with code 75."""
        self.method.train()
        with (
            stop_signals() as asked,
            Journal(self.folder, self.recipe.steps, self.step, progress, mirrors, silent=rank() > 0) as journal,
        ):
            waited = time.perf_counter()
            for batch in self.batches(workers, progress and not rank()):
                begun = time.perf_counter()
                losses = self.train_step(batch)
                done = time.perf_counter()
                record = {
                    "step": self.step,
                    **losses,
                    "lr": max(group["lr"] for group in self.optimizer.param_groups),
                    "views_per_second": world_size() * batch.views[:, :, 0, 0, 0].numel() / (done - waited),
                    "data_share": (begun - waited) / (done - waited),
                }
                self.step += 1
                self.schedule.step_update(self.step)
                last, stop = self.step == self.recipe.steps, anyone(asked(), self.device)
                due = last or self.step % checkpoint_every == 0
                found = self.validate() if due else {}
                journal.write(record | found)
                if due or stop:
                    journal.flush()
                    self.save(best=self._validated(found, batch))
                if stop and not last:
                    raise Interrupted(INTERRUPTED)
                waited = time.perf_counter()

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimizer step; the losses as numbers, each the mean over the processes, and the gradient's norm.

        Raises:
            TrainingError: if one of them is not finite. The weights are then still those before the step.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if self.recipe.accumulate > 1:
            pieces = self.recipe.accumulate
            losses = accumulated_step(self.method, batch.to(self.device), self.autocast, self.optimizer, pieces)
        else:
            losses = self.method.step(batch.to(self.device), self.autocast, self.optimizer)
        (means,) = averaged([torch.stack([value.detach().double() for value in losses.values()])])
        parameters = list(self.method.learner().parameters())
        average_gradients(parameters)
        averaged([buffer for buffer in self.method.buffers() if buffer.is_floating_point()])
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        values = dict(zip([*losses, "gradient"], [*means.tolist(), float(norm)], strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                clips = named_clips(self.data, batch, self.device)
                raise TrainingError(
                    f"the {name} is {value} at step {self.step}, clips {clips}. {self._kept()}; "
                    "resume with a lower --lr, or leave those clips out"
                )
        if self.recipe.clip_gradient:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.recipe.clip_gradient, norm)
        self.optimizer.step()
        if self.average:
            self.average.update(self.method.backbone, self.step + 1)
        return values

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """RankMe and spread of the representation on fixed views, and the loss there if they are validation's.

        The batches are divided among the processes, each batch as a whole. They carry no labels, so that the loss
        says how good the representation is and not how well it fits labels.
        """
        fixed = self.validation or fixed_views(self.data)
        seen = Representations(self.method.width, self.device)
        loss = torch.zeros(2, dtype=torch.float64, device=self.device)
        mine = range(rank(), len(fixed), world_size())
        self.method.eval()
        with alone(), self.autocast(), self._reading():
            for batch in (without_labels(batch_on(fixed, number, self.device, self.views_on)) for number in mine):
                seen.add(self.method.encode(batch.views).flatten(0, 1))
                if self.validation:
                    value, count = self.method.losses(batch)["loss"].double(), len(batch.labels)
                    loss += torch.stack([value * count, torch.full_like(value, count)])
        self.method.train()
        averaged([loss])
        return seen.measures() | ({"validation": float(loss[0] / loss[1])} if self.validation else {})

    def save(self, best: bool = False) -> None:
        """Write the whole state as the newest checkpoint, and if so as the best too."""
        state = {
            **self._identity(),
            "step": self.step,
            "best": self.best,
            "collapses": self.collapses,
            "method": self.method.state_dict(),
            "optimiser": self.optimizer.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "generators": texts(capture(self.device), self.device),
        }
        if not rank():
            self.checkpoints.write(state, best)
        wait_for_all()

    def resume(self, file: Path | None = None) -> None:
        """Continue from a checkpoint, by default from the newest of the folder that is whole.

        Raises:
            TrainingError: if it is of another run or cannot be read.
        """
        file = file or self.checkpoints.readable()
        state = load(file, self.device)
        refuse_another(file, state, self._identity())
        if len(set(texts(str(state["step"]), self.device))) > 1:
            raise TrainingError(f"the processes read different states: {file.parent} must be one folder for all nodes")
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimiser"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        if rank() < len(state["generators"]):
            restore(state["generators"][rank()], self.device)
        self.step, self.best, self.collapses = state["step"], state["best"], state["collapses"]
        self.schedule.step_update(self.step)
        if not rank():
            rewind_journal(self.folder, self.step)

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree in for a run to continue from it."""
        return {
            "recipe": json.loads(json.dumps(asdict(self.recipe))),
            "corpus": self.data.cache.sha256,
            "groups and labels": self._rows,
            "batch": self.data.whole(self.data.members),
        }

    def batches(self, workers: int | None = None, progress: bool = False) -> Generator[Batch, None, None]:
        """The batches from the current step on, see `supply_of`."""
        with self._reading():
            supply = supply_of(self.data, self.step, self.device, self.views_on, workers, progress)
            yield from supply.batches(self.step)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """A corpus that cannot be read any more ends the run."""
        try:
            yield
        except (OSError, CorpusError) as error:
            raise TrainingError(
                f"the views of step {self.step} cannot be read ({error}). {self._kept()}; bring the data back, and "
                "the same command continues"
            ) from error

    def _validated(self, found: dict[str, float], batch: Batch) -> bool:
        """Whether the state is the best so far; a second collapse in a row ends the run before it is saved."""
        if not found:  # asked to stop between two validations
            return False
        self.collapses = self.collapses + 1 if anyone(collapsed(found), self.device) else 0
        if self.collapses > 1 and self.recipe.stop_collapsed:
            clips = named_clips(self.data, batch, self.device)
            raise TrainingError(
                f"the representation has collapsed at step {self.step}, clips {clips}: RankMe {found['rankme']:.2f} of "
                f"{self.method.width}, spread {found['spread']:.1g}. {self._kept()}; "
                "start again with a lower --lr, a higher temperature or stronger views, or set --no-stop-collapsed"
            )
        better = found.get("validation", math.inf) < self.best
        self.best = min(self.best, found.get("validation", math.inf))
        return better

    def _kept(self) -> str:
        kept = self.checkpoint.exists()
        return f"The last state is in {self.checkpoint}" if kept else "No state was saved before"
