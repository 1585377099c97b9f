"""Decoding on a GPU: the pictures are the processor's, and a machine without one says so."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from ingest.nvdec import VARIABLE, DecoderError, as_the_processor_decodes, decoding_device
from ingest.video import VideoReader
from tests.ingest.conftest import write_cameras
from tests.ingest.corpus import CASES, write_corpus
from tests.ingest.test_pipeline import run, write_site


def test_the_processor_decodes_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert decoding_device() is None
    for value in ("", "cpu"):
        monkeypatch.setenv(VARIABLE, value)
        assert decoding_device() is None


def test_without_a_driver_or_a_gpu_it_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoGpu:
        @staticmethod
        def cuInit(_: int) -> int:
            return 100

    def no_driver(_: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setenv(VARIABLE, "cuda")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: NoGpu)
    with pytest.raises(DecoderError, match=r"is cuda, but the NVIDIA driver finds no GPU \(CUDA error 100\)"):
        decoding_device()
    monkeypatch.setattr(ctypes, "CDLL", no_driver)
    with pytest.raises(DecoderError, match="no NVIDIA driver here; install it, or unset it"):
        decoding_device()


def test_a_wrong_value_stops_the_run_and_blames_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_site(tmp_path / "site", write_cameras(tmp_path / "recordings", 1, 2.0))
    monkeypatch.setenv(VARIABLE, "vulkan")
    status, _, error = run(tmp_path / "site")
    assert status == 1
    assert "CALR_DECODER is 'vulkan'; it must be cpu or cuda" in error
    monkeypatch.delenv(VARIABLE)
    status, _, error = run(tmp_path / "site")
    assert status == 0, error


@pytest.mark.parametrize(
    ("planar", "gpu", "full_range"),
    [
        ("yuv420p", "nv12", False),
        ("yuvj420p", "nv12", True),
        ("yuv420p10le", "p010le", False),
        ("yuv420p10le", "p010le", True),
    ],
)
def test_a_gpus_layout_gives_the_same_pixels(planar: str, gpu: str, full_range: bool) -> None:
    """A frame as the GPU hands it over, made by putting one of the processor's into its layout, which loses nothing."""
    random = np.random.default_rng(1)
    for height, width in ((360, 640), (362, 642)):
        blocks = random.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8)
        pixels = np.ascontiguousarray(blocks.repeat(5, 0).repeat(5, 1)[:height, :width])
        frame = av.VideoFrame.from_ndarray(pixels, "bgr24").reformat(format=planar, threads=1)
        if full_range:
            frame.color_range = ColorRange.JPEG
        handed_over = frame.reformat(format=gpu, threads=1)
        handed_over.color_range, handed_over.colorspace = frame.color_range, frame.colorspace
        wanted = frame.reformat(format="bgr24", threads=1).to_ndarray()
        np.testing.assert_array_equal(
            as_the_processor_decodes(handed_over).reformat(format="bgr24", threads=1).to_ndarray(), wanted
        )
        assert as_the_processor_decodes(frame) is frame


@pytest.mark.gpu
def test_a_gpu_decodes_what_the_processor_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor gets whole frames from: codecs, containers and faults.

    Exactly, but where a codec's standard leaves its transform's rounding open: an H200 differed by 8 levels at most.
    """
    monkeypatch.setenv(VARIABLE, "cuda")
    compared = 0
    write_corpus(tmp_path / "corpus")
    for case in CASES:
        path = tmp_path / "corpus" / case.name
        try:
            theirs = VideoReader(path)
        except ValueError:
            continue
        with theirs, VideoReader(path, device=decoding_device()) as ours:
            for a, b in itertools.zip_longest(theirs.frames(), ours.frames()):
                if theirs.counts.damaged or theirs.counts.truncated:
                    break
                assert (a.index, a.pts_s) == (b.index, b.pts_s), case.name
                open_rounding = theirs.info.codec in ("mpeg4", "mpeg2video", "mjpeg")
                np.testing.assert_allclose(
                    a.image.astype(int), b.image, atol=10 if open_rounding else 0, rtol=0, err_msg=case.name
                )
                compared += 1
    assert compared > 500
