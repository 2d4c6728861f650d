"""The two kinds of targets of fine-tuning, classes and a number: loss, prediction, score, metrics, linear probe."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usbackbones.data.item import Item
from usbackbones.metrics.levels import by_clip, metrics, scores
from usbackbones.probing.linear_head import LinearHead, logistic_heads, ridge_heads
from usbackbones.probing.probes import balanced_weights

Numbers = dict[str, dict[str, dict[str, float]]]
"""{level: {metric: {"value", "low", "high"}}}, 95 % intervals over groups."""


class ClassTarget:
    """One of several classes.

    Attributes:
        classes: names; a label is an index into them.
        headline: the metric that is compared between models; higher is better.

    Args:
        items: all of them, in the order of the indices that the methods take.
        train: indices of the training items, from which classes get their weights.
    """

    task: Literal["classes", "number"] = "classes"
    headline = "balanced_accuracy"

    def __init__(self, items: Sequence[Item], train: np.ndarray) -> None:
        self.classes = sorted({item.label for item in items})
        self.outputs = len(self.classes)
        self.truth = np.array([self.classes.index(item.label) for item in items])
        count = np.bincount(self.truth[train], minlength=self.outputs)
        self.weight = torch.tensor(count.sum() / (self.outputs * np.maximum(count, 1)), dtype=torch.float32)

    def loss(self, outputs: Tensor, items: np.ndarray) -> Tensor:
        """Cross-entropy, weighted so that every class counts the same; outputs float [N, C]."""
        truth = torch.from_numpy(self.truth[items]).to(outputs.device)
        return F.cross_entropy(outputs, truth, self.weight.to(outputs.device))

    def prediction(self, outputs: Tensor) -> Tensor:
        """Class probabilities [N, C]."""
        return outputs.softmax(1)

    def losses(self, item: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(item, log loss, share in the mean) of each item, each class counting the same; a frame each, of `item`."""
        truth, mean, items = by_clip(self.truth[item], prediction, item, item)
        classes, of, count = np.unique(truth, return_inverse=True, return_counts=True)
        loss = -np.log(mean[np.arange(len(truth)), truth].clip(1e-7))
        return items, loss, 1 / (len(classes) * count[of])

    def score(self, item: np.ndarray, prediction: np.ndarray) -> float:
        """Minus the mean log loss by item, each class counting the same; a frame each, of the item `item`.

        On the few groups of a validation part it orders epochs and learning rates with far less noise than balanced
        accuracy, which moves by whole items.
        """
        _, loss, share = self.losses(item, prediction)
        return -float(share @ loss)

    def metrics(self, item: np.ndarray, groups: np.ndarray, prediction: np.ndarray, seed: int) -> Numbers:
        """All metrics with intervals over groups; a frame each, of the item `item`."""
        return metrics(self.truth[item], prediction, item, groups, seed)

    def linear_heads(self, x: np.ndarray, item: np.ndarray) -> Iterator[LinearHead]:
        """Linear probes on features [N, D], a frame each, strongest penalty first."""
        y = self.truth[item]
        return logistic_heads(x, y, balanced_weights(y, item), self.outputs)

    def write_units_into(self, layer: nn.Module) -> None:
        """Nothing: logits have no unit."""

    def describe(self, item: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
        """What the folder says of the outputs; the threshold of two classes is chosen here, on validation frames."""
        told: dict[str, Any] = {"task": self.task}
        if self.outputs == 2:
            truth, mean, _ = by_clip(self.truth[item], prediction, item, item)
            told["threshold"] = best_threshold(truth == 1, mean[:, 1])
        return told


class NumberTarget:
    """A measured quantity; the network learns it standardized.

    Args:
        items: all of them, whose labels are numbers.
        train: indices of the training items, whose mean and deviation standardize.
    """

    task: Literal["classes", "number"] = "number"
    headline = "r2"
    classes: Sequence[str] = ("number",)
    outputs = 1

    def __init__(self, items: Sequence[Item], train: np.ndarray) -> None:
        self.truth = np.array([float(item.label) for item in items])
        self.mean, self.deviation = float(self.truth[train].mean()), float(self.truth[train].std()) or 1.0

    def loss(self, outputs: Tensor, items: np.ndarray) -> Tensor:
        """Mean squared error in deviations of the training labels; outputs float [N, 1]."""
        wanted = torch.from_numpy((self.truth[items] - self.mean) / self.deviation).to(outputs)
        return F.mse_loss(outputs[:, 0], wanted)

    def prediction(self, outputs: Tensor) -> Tensor:
        """Numbers [N, 1] in the unit of the labels."""
        return outputs * self.deviation + self.mean

    def losses(self, item: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(item, squared error in deviations of the training labels, share in the mean) of each item."""
        truth, mean, items = by_clip(self.truth[item], prediction, item, item)
        return items, ((mean[:, 0] - truth) / self.deviation) ** 2, np.full(len(items), 1 / len(items))

    def score(self, item: np.ndarray, prediction: np.ndarray) -> float:
        """R2 by item."""
        return scores(self.truth[item], prediction[:, 0], item, item)["clip"]["r2"]

    def metrics(self, item: np.ndarray, groups: np.ndarray, prediction: np.ndarray, seed: int) -> Numbers:
        """All metrics with intervals over groups; a frame each, of the item `item`."""
        return metrics(self.truth[item], prediction[:, 0], item, groups, seed)

    def linear_heads(self, x: np.ndarray, item: np.ndarray) -> Iterator[LinearHead]:
        """Ridge probes on features [N, D], a frame each, strongest penalty first; outputs are standardized."""
        y = (self.truth[item] - self.mean) / self.deviation
        return ridge_heads(x, y, balanced_weights(np.zeros(len(y), int), item))

    def write_units_into(self, layer: nn.Module) -> None:
        """Make the network's last layer, a linear one, give the unit of the labels; training is over then."""
        with torch.no_grad():
            layer.weight.mul_(self.deviation)  # type: ignore[operator]
            layer.bias.mul_(self.deviation).add_(self.mean)  # type: ignore[operator]
        self.mean, self.deviation = 0.0, 1.0

    def describe(self, item: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
        """What the folder says of the output."""
        return {"task": self.task}


Target = ClassTarget | NumberTarget


def predictions_of(target: Target, outputs: np.ndarray) -> np.ndarray:
    """`Target.prediction` of an array."""
    return target.prediction(torch.from_numpy(outputs)).numpy()


def best_threshold(positive: np.ndarray, probability: np.ndarray) -> float:
    """The threshold of the best balanced accuracy of `probability >= threshold`; of equal ones nearest to 0.5."""
    values = np.unique(probability)
    candidates = np.concatenate([[0.5], (values[1:] + values[:-1]) / 2])
    called = probability[:, None] >= candidates
    accuracy = (called[positive].mean(0) + (~called[~positive]).mean(0)) / 2
    best = candidates[accuracy >= accuracy.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
