"""Start of fine-tuning: the head from the linear probe on frozen features, the learning rate from short trials.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (ICLR 2022): a random
head sends large gradients through features that were good, so the head is fitted first and then everything is tuned.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import nn

from usbackbones.data.frames import Frames
from usbackbones.features.extract import embed
from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.target import Target, predictions_of
from usbackbones.finetuning.tuner import Tuner
from usbackbones.probing.linear_head import LinearHead

FRACTIONS = (1.0, 1 / 3, 0.1)
"""Of the learning rate of the settings, those that are tried."""
TRIAL_EPOCHS = 3


def start_from_probe(
    network: nn.Module, frames: Frames, target: Target, train: np.ndarray, validation: np.ndarray, progress: bool
) -> bool:
    """Give a network's classifier the weights of a linear probe on `train`; its penalty is chosen on `validation`.

    False if the classifier is no linear layer on the pooled features, which is then left as it was.
    """
    from tqdm import tqdm

    layer = network.get_classifier()  # type: ignore[operator]
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        return False
    rows = np.flatnonzero(np.isin(frames.item, np.concatenate([train, validation])))
    bar = tqdm(rows, "frozen features", unit="frame", disable=not progress)
    x, item = embed(network, (frames[row] for row in bar)), frames.item[rows]
    if x.shape[1] != layer.in_features:
        return False
    fit = np.isin(item, train)
    best: tuple[float, LinearHead] | None = None
    for head in target.linear_heads(x[fit], item[fit]):
        score = target.score(item[~fit], predictions_of(target, head(x[~fit])))
        if best is None or score > best[0]:  # of equally good ones the strongest penalty
            best = (score, head)
    assert best
    best[1].copy_into(layer)
    return True


def choose_learning_rate(make: Callable[[FineTune, str], Tuner], spec: FineTune) -> float:
    """The learning rate with the best validation score after a short run, annealed to zero; of equal ones the highest.

    A rate is known by what it gives once it is annealed: halfway down, a high one looks worse than it is.

    Args:
        make: a new run of some settings, with a title for its bars; what was finished before is resumed.
        spec: how to fine-tune.
    """
    scores = {}
    for fraction in FRACTIONS:
        lr = spec.lr * fraction
        short = replace(spec, lr=lr, epochs=min(TRIAL_EPOCHS, spec.epochs), margin=0)  # none is kept
        trial = make(short, f"learning rate {lr:.2g}, ")
        trial.run()
        scores[lr] = trial.history[-1]["validation"]
    return max(scores, key=lambda lr: scores[lr])
