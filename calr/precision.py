"""Where training computes and in which number format."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor


def send(tensor: Tensor, device: str | torch.device) -> Tensor:
    """The tensor on a device, without waiting for what that computes."""
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Precision:
    """Device and format of the network's passes; losses, clustering and the optimiser are always float32.

    Attributes:
        device: "cpu" or "cuda".
        bf16: run the network under bfloat16 autocast.
    """

    device: str
    bf16: bool

    def autocast(self, cache: bool = True) -> AbstractContextManager[object]:
        """Context for a forward pass. cache: keep converted weights until the context ends."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=cache)

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor on the device."""
        return send(tensor, self.device)

    def keep(self, images: Tensor) -> Tensor:
        """The images on the device, if they leave half of its free memory to the network."""
        if self.device != "cuda" or 2 * images.nbytes > torch.cuda.mem_get_info()[0]:
            return images
        return images.to(self.device)


def best_precision() -> Precision:
    """CUDA with bfloat16 where there is a GPU; on a CPU bfloat16 only where it has instructions for it (AVX-512 BF16 or
    AMX), because emulated bfloat16 is slower than float32."""
    if torch.cuda.is_available():
        return Precision("cuda", torch.cuda.is_bf16_supported())
    has_bf16 = bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return Precision("cpu", has_bf16)


def leave_one_core() -> None:
    """Compute on all processor cores but one (at least one), unless OMP_NUM_THREADS says otherwise.

    Threads of a tensor operation wait for each other by spinning. With as many threads as cores, anything else that
    runs makes every operation wait for the thread that was put aside: a training step of OSNet x0.25 (64 crops of
    256 × 128, 2 cores) took 0.6 s on an idle machine and 3 to 11 s beside one other process; with one thread 1.1 s.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
