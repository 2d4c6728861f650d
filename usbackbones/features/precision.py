"""Decide whether bfloat16 is worth it on this machine."""

from pathlib import Path

import torch


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 here: a CUDA device that supports it, or a CPU with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_has_bf16()


def emulates_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed here by way of fp32, which takes many times longer than fp32 itself."""
    return device.type == "cpu" and not computes_in_bf16(device)


def _cpu_has_bf16() -> bool:
    info = Path("/proc/cpuinfo")
    return info.is_file() and any(flag in info.read_text() for flag in ("avx512_bf16", "amx_bf16"))
