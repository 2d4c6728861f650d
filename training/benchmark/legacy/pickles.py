"""The five folds of lung frames that USCL, HiCo and MetaLR share: covid_data1.pkl to covid_data5.pkl.

Each file is a pickle of (X_train, y_train, X_test, y_test), X [N, 3, H, W] with equal channels of 0 to 255. A pickle
can run any code when it is loaded; this reader builds numpy arrays and refuses everything else.
"""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.data.errors import CorpusError

CLASSES = ("covid", "pneumonia", "regular")
_ALLOWED = {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


class Fold(NamedTuple):
    """One fold: frames uint8 [N, H, W] and labels int [N] of its authors' training and test part."""

    train: np.ndarray
    train_label: np.ndarray
    test: np.ndarray
    test_label: np.ndarray


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are read")
        return super().find_class(module, name)


def read_folds(folder: Path) -> list[Fold]:
    """The five folds of a folder.

    Raises:
        CorpusError: if a file is missing, holds anything but arrays, or is laid out differently.
    """
    return [_read(folder / f"covid_data{number}.pkl") for number in range(1, 6)]


def _read(file: Path) -> Fold:
    if not file.is_file():
        raise CorpusError(f"{file} is missing: give the folder that holds covid_data1.pkl to covid_data5.pkl")
    try:
        with file.open("rb") as stream:
            content = _Arrays(stream).load()
        x_train, y_train, x_test, y_test = map(np.asarray, content)
        return Fold(_gray(x_train), _labels(y_train, x_train), _gray(x_test), _labels(y_test, x_test))
    except (pickle.UnpicklingError, ValueError, TypeError, EOFError, AttributeError, IndexError) as error:
        raise CorpusError(f"{file} is no fold of (X_train, y_train, X_test, y_test): {error}") from error


def _gray(frames: np.ndarray) -> np.ndarray:
    if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
        raise ValueError(f"frames are {list(frames.shape)} and not [N, 3, H, W]")
    if not (np.isfinite(frames).all() and frames.min() >= 0 and 1 < frames.max() <= 255):
        raise ValueError(f"gray values are from {frames.min()} to {frames.max()} and not from 0 to 255")
    return frames.mean(axis=1).round().astype(np.uint8)


def _labels(labels: np.ndarray, frames: np.ndarray) -> np.ndarray:
    if labels.shape != (len(frames),) or not set(labels.tolist()) <= set(range(len(CLASSES))):
        raise ValueError(f"labels are {list(labels.shape)} of {sorted(set(labels.ravel().tolist()))[:5]}")
    return labels.astype(int)
