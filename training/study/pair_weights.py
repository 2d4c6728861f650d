"""How CMW-Net weighs the pairs of a Meta-USCL run, by how similar they are: the figure of the paper, of one's own run.

python -m training.study.pair_weights runs/meta_uscl-resnet18-seed0 --data cache/lung -o weights.html
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from tqdm import tqdm

from training.data.errors import CorpusError
from training.engine.dataloaders import open_data, step_batches
from training.engine.prepare_model import build
from training.errors import TrainingError
from training.methods.meta_uscl import MetaUSCLNet
from training.recipes import Recipe, recorded
from usbackbones.hub.pretraining_run import read_json
from usbackbones.report import Section, write_report
from usbackbones.report.markup import element
from usbackbones.report.plots import Axes, bars, curves

BINS = 20
_NOTE = (
    "Similarity: the cosine of the two representations of a pair of views. The weights are divided by their mean, as "
    "the loss does with those of a batch, so 1 is a pair that counts as much as any."
)


@torch.inference_mode()
def weighed_pairs(run: Path, data: Path, pairs: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Similarity and weight of pairs as the run draws them, by its last network.

    Args:
        run: folder of a finished training.pretrain of Meta-USCL.
        data: the prepared corpus that it was trained on.
        pairs: at least so many, or as many as the run has drawn.

    Returns:
        (cosine of the two representations float64 [P], weight divided by the mean weight float64 [P]).

    Raises:
        CorpusError: if this is no such run.
    """
    recipe: Recipe = recorded(Recipe, read_json(run / "recipe.json"))
    cache = open_data(data)
    method = build(recipe, len(cache.classes))
    if not isinstance(method, MetaUSCLNet):
        raise CorpusError(f"{run} is a run of {recipe.method.name}: only meta_uscl weighs its pairs")
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    method.load_state_dict(state["method"])
    method.eval()
    drawn, _ = step_batches(recipe, cache)
    similar, weight = [], []
    needed = min(len(drawn), -(-pairs // recipe.batch))
    for step in tqdm(range(needed), "weighing", unit="batch", disable=needed < 20):
        representations, _ = method(drawn[step].views)
        similar.append(F.cosine_similarity(representations[0].double(), representations[1].double(), dim=1))
        weight.append(method.weigher(representations).double())
    found = torch.cat(weight)
    return torch.cat(similar).numpy(), (found / found.mean()).numpy()


def mean_by_similarity(similar: np.ndarray, weight: np.ndarray, bins: int = BINS) -> list[tuple[float, float]]:
    """(mean similarity, mean weight) of equally wide bins, from the least similar pair on, empty ones left out."""
    edges = np.linspace(similar.min(), similar.max(), bins + 1)
    cell = np.clip(np.searchsorted(edges, similar, "right") - 1, 0, bins - 1)
    count = np.bincount(cell, minlength=bins)
    sums = [np.bincount(cell, values, bins) for values in (similar, weight)]
    return [(float(sums[0][b] / count[b]), float(sums[1][b] / count[b])) for b in np.flatnonzero(count)]


def weights_section(similar: np.ndarray, weight: np.ndarray) -> Section:
    """The figure: how many pairs are how similar, how they are weighed, and the weights' own histogram."""
    low, high = float(similar.min()), float(similar.max())
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(similar, BINS, (low, high))
    by_weight, edges = np.histogram(weight, BINS)
    points = mean_by_similarity(similar, weight)
    up = [y for _, y in points]
    room = max(max(up) - min(up), 0.02) * 0.1
    name = "similarity of the pair"
    plots = {
        "Mean weight by similarity": curves(
            {"mean weight": points},
            f"mean weight from {up[0]:.3f} for the least similar pairs to {up[-1]:.3f} for the most",
            Axes((low, high), (min(up) - room, max(up) + room), name, "mean weight"),
        ),
        "Pairs by similarity": bars(
            counts.tolist(), Axes((low, high), (0, max(counts) * 1.05), name, "pairs"), "histogram of similarities"
        ),
        "Pairs by weight": bars(
            by_weight.tolist(),
            Axes((float(edges[0]), float(edges[-1])), (0, max(by_weight) * 1.05), "weight", "pairs"),
            "histogram of weights",
        ),
    }
    figures = [element("figure", element("h3", heading), plot) for heading, plot in plots.items()]
    return Section("How pairs are weighed", element("div", *figures, class_="row"), _NOTE)


def main(
    run: Annotated[Path, tyro.conf.Positional],
    data: Path,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    pairs: int = 2000,
) -> None:
    """Write the figure as a page.

    Args:
        run: folder of a finished training.pretrain of Meta-USCL.
        data: the prepared corpus that it was trained on.
        out: the HTML file.
        pairs: pairs to weigh.
    """
    try:
        similar, weight = weighed_pairs(run, data, pairs)
    except (CorpusError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error
    r = float(np.corrcoef(similar, weight)[0, 1]) if weight.std() > 0 and similar.std() > 0 else 0.0
    spread = f"{weight.min():.3f} to {weight.max():.3f} of the mean"
    facts = {"run": run.name, "pairs": str(len(weight)), "weights": spread, "correlation with similarity": f"{r:.2f}"}
    write_report(out, "What CMW-Net learned", facts=facts, sections=[weights_section(similar, weight)])
    print(out)  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
