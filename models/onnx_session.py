"""ONNX Runtime sessions: which provider, how many threads, in which precision. The one place where it is decided, for
embedders and detectors alike."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import onnxruntime

Precision = Literal["default", "exact"]

_log = logging.getLogger(__name__)


class SessionError(ValueError):
    """An ONNX file that cannot be run here. The message names the file."""


def provider_order(threads: int | None = None) -> list[tuple[str, dict[str, str]]]:
    """The execution providers that this installation has, best first, with their options.

    CUDA, then OpenVINO, then the plain CPU provider. OpenVINO runs in bfloat16 where the CPU computes in it (6.5 times
    the speed of float32, measured with ResNet-50 at 256×128 on a CPU with AMX) and in float32 elsewhere (still ahead
    of the plain provider on depthwise convolutions: OSNet x0.25, 32 crops, 0.15 s against 0.43 s on 2 cores).

    Args:
        threads: for OpenVINO, which has its own count; None: all cores.
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    order: list[tuple[str, dict[str, str]]] = []
    if "CUDAExecutionProvider" in available:
        order.append(("CUDAExecutionProvider", {}))
    if "OpenVINOExecutionProvider" in available:
        # Tied to cores, as is the default, the threads of every process on this machine would share the first ones.
        settings: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": "bf16" if cpu_has_bfloat16() else "f32",
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        # The provider wants a JSON document as a string, not a path and not a mapping.
        order.append(
            ("OpenVINOExecutionProvider", {"device_type": "CPU", "load_config": json.dumps({"CPU": settings})})
        )
    order.append(("CPUExecutionProvider", {}))
    return order


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX). False where the kernel does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags


def make_session(
    path: str | Path, *, threads: int | None = None, precision: Precision = "default"
) -> onnxruntime.InferenceSession:
    """Open an ONNX file for inference.

    Args:
        path: the ``.onnx`` file.
        threads: CPU threads; None: all cores.
        precision: "default" takes the fastest provider, which may compute in bfloat16 or TF32; "exact" the plain CPU
            provider in float32, for comparing with another implementation.

    Raises:
        SessionError: the file is missing or the runtime refuses it.
    """
    import onnxruntime

    path = Path(path)
    if not path.is_file():
        raise SessionError(f"{path}: no such file")
    # The runtime chats on stderr about graph details that nobody can act on; what stops it arrives as an exception.
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    providers = provider_order(threads) if precision == "default" else [("CPUExecutionProvider", {})]
    if providers[0][0] == "CUDAExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
        # Finds the CUDA libraries that came with torch. What it has to say it prints, and standard output is for JSON.
        with contextlib.redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        # The runtime raises its own types, one per status code, without a common public base.
        raise SessionError(f"{path}: onnxruntime {onnxruntime.__version__} cannot open it ({error})") from error
    wanted, got = providers[0][0], session.get_providers()[0]
    if got != wanted:
        _log.warning("%s is installed but does not work here: computing with %s, which is slower", wanted, got)
    return session
