"""Where tensors live: the choice of a device, and what is worth recording of it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hf_mlops.base.errors import BadRequest

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        BadRequest: an unknown name, or `cuda` on a machine without it.
    """
    if name not in DEVICES:
        raise BadRequest(f"unknown device {name!r}; allowed: {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise BadRequest("device 'cuda' was asked for, but torch sees no CUDA device here; allowed: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def fast_products() -> Iterator[None]:
    """Lets float32 matrix products round their factors: to bfloat16 where the CPU multiplies it, to TF32 on a GPU.

    Sums stay float32. For training, where it changes nothing that was measured but the time (docs/results.md); what is
    measured or sampled is computed without it.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def describe_device(device: torch.device) -> dict[str, str]:
    """Name, driver and peak memory so far (MB), as text for run tags."""
    if device.type == "cuda":
        import pynvml

        pynvml.nvmlInit()
        return {
            "device.name": torch.cuda.get_device_name(device),
            "device.driver": str(pynvml.nvmlSystemGetDriverVersion()),
            "device.peak_memory_mb": f"{torch.cuda.max_memory_allocated(device) / 1e6:.0f}",
        }
    import psutil

    memory = psutil.Process().memory_info()
    peak = getattr(memory, "peak_wset", None) or _peak_resident_bytes()
    return {
        "device.name": platform.processor() or platform.machine(),
        "device.driver": f"torch {torch.__version__}, {torch.get_num_threads()} threads",
        "device.peak_memory_mb": f"{peak / 1e6:.0f}",
    }


def _peak_resident_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
