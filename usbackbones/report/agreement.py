"""Sections about predicted numbers: against the truth, and as Bland and Altman plot their differences."""

import numpy as np

from usbackbones.metrics.levels import by_clip
from usbackbones.metrics.regression import LIMITS
from usbackbones.metrics.resampling import Ids
from usbackbones.report.kinds import Section
from usbackbones.report.markup import element
from usbackbones.report.plots import Axes, points


def agreement_sections(truth: np.ndarray, predicted: np.ndarray, clips: Ids) -> list[Section]:
    """Two plots with a point a clip, of true and predicted numbers, float [N] of frames, and their clips [N]."""
    y, p, _ = by_clip(truth, predicted[:, None], clips, clips)
    p = p[:, 0]
    low, high = float(min(y.min(), p.min())), float(max(y.max(), p.max()))
    square = Axes((low, high), (low, high), "true", "predicted")
    error, mean = p - y, (p + y) / 2
    half = LIMITS * float(error.std(ddof=1)) if len(error) > 1 else 0.0
    edge = max(float(np.abs(error).max()), abs(error.mean()) + half) * 1.1 or 1.0
    flat = Axes((float(mean.min()), float(mean.max()) or 1.0), (-edge, edge), "mean of the two", "predicted - true")
    levels = [float(error.mean()) + shift for shift in (-half, 0.0, half)]
    told = f"bias {levels[1]:.3g}, limits of agreement {levels[0]:.3g} to {levels[2]:.3g}"
    return [
        Section(
            "Predicted and true",
            element("figure", points(np.stack([y, p], 1), square, f"{len(y)} clips", diagonal=True)),
            "A point a clip; on the dashed line both are equal.",
        ),
        Section(
            "Bland-Altman",
            element("figure", points(np.stack([mean, error], 1), flat, told, levels=levels)),
            f"By clip: {told}; the dashed lines. 95 % of normal errors lie between the limits.",
        ),
    ]
