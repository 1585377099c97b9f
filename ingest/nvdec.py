"""Decoding on an NVIDIA GPU (NVDEC), where CALR_DECODER=cuda asks for it.

It is a property of the machine, not of the site: the pictures are the same, or nearly so (docs/recordings.md), and
shards made either way can lie side by side. Codecs that the GPU does not decode are decoded by the processor.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import VideoFrame
    from av.codec.hwaccel import HWAccel

VARIABLE = "CALR_DECODER"
# How a GPU lays out a frame, and how the processor's decoder does. Colours are spread over pixels in another way when
# the one is turned into RGB directly: single pixels differ by more than 100.
_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le"}


class DecoderError(ValueError):
    """What CALR_DECODER asks for cannot be had; the message says why."""


def decoding_device() -> HWAccel | None:
    """What `ingest.video.VideoReader` is to decode on: None for the processor.

    Raises:
        DecoderError: CALR_DECODER is neither "cpu" nor "cuda", or there is no GPU to decode on.
    """
    wanted = os.environ.get(VARIABLE) or "cpu"
    if wanted == "cpu":
        return None
    if wanted != "cuda":
        raise DecoderError(f"{VARIABLE} is {wanted[:40]!r}; it must be cpu or cuda")
    try:
        answer = ctypes.CDLL("libcuda.so.1").cuInit(0)
    except OSError:
        raise DecoderError(f"{VARIABLE} is cuda, but there is no NVIDIA driver here; install it, or unset it") from None
    if answer:
        raise DecoderError(f"{VARIABLE} is cuda, but the NVIDIA driver finds no GPU (CUDA error {answer}); unset it")
    from av.codec.hwaccel import HWAccel

    return HWAccel("cuda", allow_software_fallback=True)


def as_the_processor_decodes(decoded: VideoFrame) -> VideoFrame:
    """The frame in the layout that the processor's decoder gives, of which all other steps know."""
    planar = _PLANAR.get(decoded.format.name)
    # One thread, as everywhere: several cut the frame, and differ at the cuts.
    return decoded if planar is None else decoded.reformat(format=planar, threads=1)
