"""Features of frames, computed once: kept under a hash of the weights and of the frames."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from usbackbones._files import atomic_write
from usbackbones.probing.probes import embed


def features(model: nn.Module, frames: np.ndarray, folder: Path | None = None, bf16: bool = False) -> np.ndarray:
    """Pooled features float32 [N, D], from the folder if they are there.

    Args:
        model: any timm model.
        frames: uint8 [N, H, W].
        folder: where features are kept; None keeps nothing.
        bf16: compute in bfloat16.
    """
    if folder is None:
        return embed(model, frames, bf16=bf16)
    file = folder / f"features-{weights_hash(model)}-{frames_hash(frames)}{'-bf16' * bf16}.npz"
    if not file.is_file():
        found = embed(model, frames, bf16=bf16)
        with atomic_write(file) as stream:
            np.savez(stream, features=found)
    with np.load(file, allow_pickle=False) as arrays:
        return arrays["features"]


def weights_hash(model: nn.Module) -> str:
    """16 hex digits of all that decides a network's features: layers, weights, and how frames reach it."""
    network: Any = model
    seen = {key: network.pretrained_cfg.get(key) for key in ("input_size", "mean", "std", "interpolation")}
    seen |= {key: network.pretrained_cfg.get(key) for key in ("crop_mode", "crop_pct")}
    digest = hashlib.sha256(f"{model!r} {getattr(model, 'global_pool', '')} {seen}".encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def frames_hash(frames: np.ndarray) -> str:
    """16 hex digits of the frames and their shape."""
    digest = hashlib.sha256(str(frames.shape).encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()[:16]
