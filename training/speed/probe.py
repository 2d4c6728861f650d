"""Time probing on cached features: kNN and the linear probe in grouped cross-validation.

    python -m training.speed.probe

Features are made up: classes overlap, rows of a group resemble each other, directions differ in scale, none is below 0,
as after a ReLU. The linear probe chooses its penalty inside every fold. Told are the wall clock and CPU seconds, which
other work on the machine disturbs less.
"""

import time

import numpy as np
import torch
import tyro

from usbackbones.data.splits import grouped_folds
from usbackbones.probing.probes import knn_predict, linear_predict


def made_up(rows: int, width: int, classes: int, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features float32 [rows, width], labels int [rows], groups int [rows]."""
    rng = np.random.default_rng(0)
    group = np.arange(rows) % groups
    label = group % classes
    latent = 0.7 * rng.normal(size=(groups, width))[group] + rng.normal(size=(rows, width))
    latent[:, :classes] += 1.2 * np.eye(classes)[label]
    mixing = rng.normal(size=(width, width)) * np.exp(-np.arange(width) / 80)[:, None]
    return np.maximum(latent @ mixing + 0.3, 0).astype(np.float32), label, group


def main(
    rows: int = 20_000, width: int = 512, classes: int = 3, groups: int = 400, folds: int = 5, threads: int = 2
) -> None:
    """Print the seconds of each probe.

    Args:
        rows: frames.
        width: features of each.
        classes: as many.
        groups: patients.
        folds: of the cross-validation.
        threads: of torch; numpy's follow OMP_NUM_THREADS, which is set before the start.
    """
    torch.set_num_threads(threads)
    x, y, group = made_up(rows, width, classes, groups)
    names = [str(g) for g in group]
    right = {"knn": np.empty(rows, bool), "linear": np.empty(rows, bool)}
    wall, cpu = dict.fromkeys(right, 0.0), dict.fromkeys(right, 0.0)
    for fit, held in grouped_folds(names, [str(label) for label in y], folds, 0):
        for probe in right:
            began = time.perf_counter(), time.process_time()
            if probe == "knn":
                predicted = knn_predict(x[fit], y[fit], x[held], classes=classes)
            else:
                predicted, _ = linear_predict(x[fit], y[fit], group[fit], x[held], group[fit], classes=classes)
            wall[probe] += time.perf_counter() - began[0]
            cpu[probe] += time.process_time() - began[1]
            right[probe][held] = predicted.argmax(1) == y[held]
    print(f"{rows} x {width} features, {classes} classes, {groups} groups, {folds} folds")  # noqa: T201
    print("| probe | wall s | CPU s | accuracy |\n|---|---:|---:|---:|")  # noqa: T201
    for probe in right:
        print(f"| {probe} | {wall[probe]:.1f} | {cpu[probe]:.1f} | {right[probe].mean():.3f} |")  # noqa: T201
    print(f"| both | {sum(wall.values()):.1f} | {sum(cpu.values()):.1f} | |")  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
