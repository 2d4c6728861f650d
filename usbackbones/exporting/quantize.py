"""An ONNX program in 8-bit whole numbers, and how far reduced features agree with the model's.

Static quantisation by ONNX Runtime: weights with a scale for each channel, activations with ranges from the least to
the greatest value that the calibration shows, both uint8. With signed weights an x86-64 processor without VNNI adds
products in 16 bits, which overflow without a word: a program that was right where it was written would be wrong there.
A program is a quarter as large, and faster where the processor multiplies 8-bit numbers itself (VNNI on x86-64, dot
products on ARM).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

_BATCH = 8


def quantize(program: Path, out: Path, inputs: np.ndarray) -> None:
    """Write an ONNX program in 8-bit whole numbers; it takes and gives what the original does.

    Args:
        program: the original, .onnx, with one input.
        out: the file to write.
        inputs: [N, ...], what the ranges are learned from: of the kind and variety that will be met.
    """
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"]).get_inputs()[0].name

    class Batches(CalibrationDataReader):
        """The calibration inputs, as ONNX Runtime wants them."""

        def __init__(self) -> None:
            self.left: Iterator[dict[str, np.ndarray]] = (
                {name: inputs[start : start + _BATCH]} for start in range(0, len(inputs), _BATCH)
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch; None after the last."""
            return next(self.left, None)

    fused = out.with_name(f"fused-{out.name}")
    try:
        # Batch norms vanish into convolutions here; left alone, each would be rounded on its own.
        quant_pre_process(program, fused, skip_symbolic_shape=True)
        quantize_static(
            fused,
            out,
            Batches(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8,
        )
    finally:
        fused.unlink(missing_ok=True)


def cosines(features: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Cosine of each row of features with the same row as the model gives it, float64 [N]; 1 is the same direction.

    The mean row of `exact` is taken off both first: what follows a ReLU shares one large direction, next to which all
    cosines are about 1 and say nothing. Not a number where a feature is none.

    Args:
        features: float [N, D], of a program.
        exact: float [N, D], of the model, N >= 2.
    """
    mean = exact.mean(axis=0, dtype=np.float64)
    a, b = features - mean, exact - mean
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
