"""Compare exported programs of lower precision: agreement, size and time.

    OMP_NUM_THREADS=1 python -m training.speed.precision --data FOLDER

Programs are calibrated on simulated frames, as they are when `export` is given none, and evaluated on real ones: the
pretraining part of the lung task, whose locked part is not opened. A frame's class is what kNN says, fitted on
the fp32 model's features of the other groups, given this program's features of the frame. Milliseconds are of the
processor, the best of several runs on one thread.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
import tyro

from training.benchmark.tasks import lung_task
from usbackbones._words import percent, plural, rounded
from usbackbones.data.splits import grouped_folds
from usbackbones.exporting.export import Exported, ExportError, Form, Precision, export
from usbackbones.exporting.quantize import cosines
from usbackbones.features.transforms import transforms
from usbackbones.probing.probes import knn_predict

PROGRAMS: tuple[tuple[Form, Precision], ...] = (
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("torch", "fp32"),
    ("torch", "bf16"),
)
Run = Callable[[np.ndarray], np.ndarray]


def opened(done: Exported) -> Run:
    """The program as a function of images float32 [N, C, S, S], on one thread."""
    if done.file.suffix == ".pt2":
        module = torch.export.load(done.file).module()
        return lambda images: module(torch.from_numpy(images)).detach().numpy()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(done.file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def milliseconds(run: Run, images: np.ndarray, repeats: int = 20) -> float:
    """The least processor time of a run, per image."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run(images)
        taken.append(time.process_time() - start)
    return min(taken) / len(images) * 1000


def main(data: Path, model: str = "usbackbones/resnet18", every: int = 4) -> None:
    """Print the table.

    Args:
        data: the folder of the datasets.
        model: what timm.create_model makes.
        every: only every this many frames are embedded.
    """
    torch.set_num_threads(1)
    network: Any = timm.create_model(model, pretrained=True, num_classes=0, in_chans=1).eval()
    part = lung_task(data).pretrain
    label, group = part.label[::every], part.group[::every]
    images = transforms(network).clip_batch(part.frames[::every]).numpy()
    with torch.inference_mode():
        exact = network(torch.from_numpy(images)).numpy()
    folds = grouped_folds([str(one) for one in group], [str(one) for one in label], 5, 0)

    def classes(features: np.ndarray) -> np.ndarray:
        said = np.empty(len(label), int)
        for fit, held in folds:
            said[held] = knn_predict(exact[fit], label[fit], features[held]).argmax(1)
        return said

    def accuracy(said: np.ndarray) -> float:
        return float(np.mean([np.mean(said[label == one] == one) for one in np.unique(label)]))

    print(f"{model}, {plural(len(images), 'frame')} of {plural(len(set(group)), 'group')}, torch {torch.__version__}")  # noqa: T201
    columns = ("MB", "smallest cosine", "median cosine", "same kNN class", "kNN bal. acc.", "ms, one", "ms, of 16")
    print(f"| program | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")  # noqa: T201
    with TemporaryDirectory() as folder, torch.inference_mode():
        for form, precision in PROGRAMS:
            suffix = ".onnx" if form == "onnx" else ".pt2"
            try:
                done = export(network, Path(folder) / f"program{suffix}", form, precision=precision)
            except ExportError as error:
                print(f"| {form} {precision} | refused: {error} |")  # noqa: T201
                continue
            run = opened(done)
            found = np.concatenate([run(images[start : start + 16]) for start in range(0, len(images), 16)])
            each = cosines(found, exact)
            said = classes(found)
            print(  # noqa: T201
                f"| {suffix} {precision} | {rounded(done.file.stat().st_size / 1e6, 1)} | {rounded(each.min(), 4)} | "
                f"{rounded(float(np.median(each)), 4)} | {percent(float(np.mean(said == classes(exact))), 1)} | "
                f"{rounded(accuracy(said))} | {rounded(milliseconds(run, images[:1]), 1)} | "
                f"{rounded(milliseconds(run, images[:16]), 1)} |"
            )


if __name__ == "__main__":
    tyro.cli(main)
