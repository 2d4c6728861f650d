"""A test whose optional package is not installed skips and says so, and never stops the collection of the others."""

from collections.abc import Generator
from pathlib import Path

import pytest

OPTIONAL = {
    "pydicom": "dicom",
    "openjpeg": "dicom",
    "rle": "dicom",
    "jpeg_ls": "dicom",
    "nibabel": "nifti",
    "pyarrow": "parquet",
    "cv2": "train",
    "matplotlib": "train",
    "sklearn": "bench",
    "scipy": "dense",
    "pycocotools": "dense",
    "segmentation_models_pytorch": "dense",
    "torchmetrics": "dense",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "lightly": "speed",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
} | dict.fromkeys(
    ("SimpleITK", "gdcm", "hypothesis", "lightning", "transformers", "pdoc", "nbclient", "nbformat", "ipykernel"),
    "test",
)
"""The extra of setup.cfg with each module that a test, or what it tests, may lack. No other module may be missing."""


def lacking(error: BaseException | None) -> str:
    """What to install for an error, as a reason to skip; empty if the error is another one, or ours about one."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            top = error.name.partition(".")[0]
            if top in OPTIONAL:
                return f"needs {top}: pip install 'usbackbones[{OPTIONAL[top]}]'"
        error = error.__cause__ or error.__context__  # `pytest.raises` met another error than it waited for
    return ""


class OptionalModule(pytest.Module):
    """A test module whose imports may be missing."""

    def _getobj(self) -> object:
        try:
            return super()._getobj()
        except self.CollectError as error:
            if reason := lacking(error):
                pytest.skip(reason, allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> OptionalModule:
    """Collect every test module this way."""
    return OptionalModule.from_parent(parent, path=module_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Fixtures may need such a package."""
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """And so may what a test calls."""
    return (yield from _skipping())


def _skipping() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if reason := lacking(error):
            pytest.skip(reason)
        raise
