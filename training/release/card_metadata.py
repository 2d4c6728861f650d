"""The metadata block of a card, which the Hub reads to list, filter and license a weight."""

import math
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from training.benchmark.headline import DENSE_PROBE, headline_metric
from training.benchmark.markdown import PROBE_NAMES
from training.release.records import own_row

# The Hub's own names of licences that ours may have; any other is "other" with its name beside it.
HUB_LICENCES = frozenset(
    ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
)
LIBRARY, PIPELINE = "timm", "image-feature-extraction"
_TASK_TYPES = {
    "classes": "image-classification",
    "number": "image-feature-extraction",
    "masks": "image-segmentation",
}
"""The Hub's words."""
_METRICS = {"balanced_accuracy": "balanced accuracy", "mae": "mean absolute error in mm", "dice": "Dice"}


def metadata(name: str, entry: dict[str, Any]) -> ModelCardData:
    """The metadata of a weight from its whole entry.

    The headline metric of each task becomes the model index. It holds numbers only, so the interval stands in each
    metric's name.
    """
    licence = entry["licences"]["weights"]
    known = licence.lower() in HUB_LICENCES
    results = _results(name, entry["metrics"] or {})
    return ModelCardData(
        license=licence.lower() if known else "other",
        license_name=None if known else licence,
        library_name=LIBRARY,
        pipeline_tag=PIPELINE,
        tags=["timm", "ultrasound", "medical", "self-supervised", entry["method"]],
        datasets=sorted(entry["corpus"].get("sources") or []) or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name,
        eval_results=results or None,
    )


def _results(name: str, reports: dict[str, Any]) -> list[EvalResult]:
    """The headline metric of the weight's own row on every task."""
    results = []
    for report in reports.values():
        probe, level, metric = headline_metric(report)
        told = own_row(report, name)["results"][probe][level][metric]
        results.append(_result(report, probe, level, metric, told))
    return results


def _result(report: dict[str, Any], probe: str, level: str, metric: str, value: dict[str, float]) -> EvalResult:
    known = all(math.isfinite(value[end]) for end in ("low", "high"))
    interval = f"95 % interval {value['low']:.3f} to {value['high']:.3f}" if known else "no interval"
    return EvalResult(
        task_type=_TASK_TYPES[report.get("kind", "classes")],
        task_name=f"{PROBE_NAMES[probe]} on {'tuned' if probe == DENSE_PROBE else 'frozen'} features, per {level}",
        dataset_type=report["task"],
        dataset_name=report["task"],
        dataset_split=report["protocol"]["part"],
        metric_type=metric,
        metric_name=f"{_METRICS[metric]}, {interval}",
        metric_value=float(value["value"]),
    )
