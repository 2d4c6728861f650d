"""A trained head, evaluated as the seeds evaluated theirs and as it ought to be, epoch by epoch.

The seeds (USCL, Meta-USCL, HiCo, MetaLR) fold the frames, train the last layers on four fifths, look at the test
fifth after every epoch, and report the best epoch. Here the same head is also evaluated with folds that divide no group
and an epoch that is chosen on groups of the training part. Both see one dataset's pretraining part and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usbackbones.data.splits import grouped_folds, holdout

ARMS = ("pooled, best epoch", "pooled, last epoch", "grouped, best epoch", "grouped, chosen epoch")
LEGACY, HONEST = ARMS[0], ARMS[-1]


@dataclass(frozen=True)
class Training:
    """How a head is trained: as USCL's evaluation does, with Meta-USCL's 30 epochs.

    Attributes:
        epochs: of training, each followed by a look at the frames that are watched.
        batch: frames.
        lr: of Adam; cosine to zero.
        weight_decay: of Adam.
        folds: that frames or groups are dealt to.
        chosen_on: share of the training groups that the honest arm keeps to choose the epoch on.
    """

    epochs: int = 30
    batch: int = 128
    lr: float = 0.01
    weight_decay: float = 1e-4
    folds: int = 5
    chosen_on: float = 0.2


def epochs_of(
    head: nn.Module, x: Tensor, y: np.ndarray, fit: np.ndarray, watched: np.ndarray, training: Training, seed: int
) -> np.ndarray:
    """Train a head and return what it predicts after every epoch, int [E, len(watched)]; it sees no watched label.

    The head, from a batch of x float [N, ...] to logits, is trained in place; of y, int [N], only `fit` is read.
    """
    labels = torch.from_numpy(y[fit])
    optimizer = torch.optim.Adam(head.parameters(), training.lr, weight_decay=training.weight_decay)
    batches = -(-len(fit) // training.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.epochs * batches)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(training.epochs):
        head.train()
        # Batches of equal size: a norm cannot be trained on a last one of a single frame.
        for rows in torch.randperm(len(fit), generator=generator).tensor_split(batches):
            optimizer.zero_grad()
            F.cross_entropy(head(x[fit[rows.numpy()]]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
        head.eval()
        with torch.inference_mode():
            found.append(torch.cat([head(batch).argmax(1) for batch in x[watched].split(512)]).numpy())
    return np.stack(found)


def best_epoch(predicted: np.ndarray, y: np.ndarray) -> int:
    """The first epoch of highest accuracy; predicted is int [E, N]."""
    return int((predicted == y).mean(1).argmax())


def evaluate_head(
    build: Callable[[], nn.Module], x: Tensor, y: np.ndarray, groups: np.ndarray, training: Training, seed: int = 0
) -> dict[str, np.ndarray]:
    """What every arm predicts for every frame, int [N]: {arm: prediction}, for `ARMS`.

    `build` makes a new head for x float [N, ...], the same at every call; folds and order follow the seed.
    """
    names, labels = [str(group) for group in groups], [str(label) for label in y]
    out = {arm: np.empty(len(y), int) for arm in ARMS}
    # HiCo's folds: each frame is dealt for itself, stratified by class.
    frames = [str(row) for row in range(len(y))]
    for fit, test in grouped_folds(frames, labels, training.folds, seed):
        seen = epochs_of(build(), x, y, fit, test, training, seed)
        out[ARMS[0]][test], out[ARMS[1]][test] = seen[best_epoch(seen, y[test])], seen[-1]
    for fit, test in grouped_folds(names, labels, training.folds, seed):
        kept, held = holdout([names[i] for i in fit], [labels[i] for i in fit], training.chosen_on, seed)
        inner, choice = (np.array([i for i in fit if names[i] in side], int) for side in (kept, held))
        seen = epochs_of(build(), x, y, inner, np.concatenate([choice, test]), training, seed)
        on_choice, on_test = seen[:, : len(choice)], seen[:, len(choice) :]
        chosen = best_epoch(on_choice, y[choice]) if len(choice) else training.epochs - 1
        out[ARMS[2]][test], out[ARMS[3]][test] = on_test[best_epoch(on_test, y[test])], on_test[chosen]
    return out


def linear_head(width: int, classes: int, seed: int = 0) -> nn.Module:
    """A linear layer, drawn from the seed, after a norm that learns the features' mean and deviation in training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Linear(width, classes))


def evaluate_linear_head(
    features: np.ndarray, y: np.ndarray, groups: np.ndarray, classes: int, training: Training, seed: int = 0
) -> dict[str, float]:
    """The accuracy over all frames of a linear head on frozen features float [N, D], in every arm."""
    x = torch.from_numpy(features)
    found = evaluate_head(lambda: linear_head(x.shape[1], classes, seed), x, y, groups, training, seed)
    return {arm: float((predicted == y).mean()) for arm, predicted in found.items()}
