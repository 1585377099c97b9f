"""models.images: hostile bytes, odd colour modes, rotation."""

from __future__ import annotations

import io
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.images import ImageError, decode_image, encode_jpeg


def scene(height: int = 24, width: int = 16) -> np.ndarray:
    """RGB, all four corners different, smooth enough for JPEG."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack((y * 255 // (height - 1), x * 255 // (width - 1), np.full_like(x, 90)), axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, so that the header can lie."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_come_back_as_bgr(kind: str) -> None:
    rgb = scene()
    out = decode_image(encoded(Image.fromarray(rgb), kind), what="x")
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out[:, :, ::-1], rgb)


def test_webp_lossless() -> None:
    rgb = scene()
    out = decode_image(encoded(Image.fromarray(rgb), "WEBP", lossless=True), what="x")
    np.testing.assert_array_equal(out[:, :, ::-1], rgb)


def test_jpeg_agrees_with_opencv() -> None:
    data = encode_jpeg(scene(80, 40)[:, :, ::-1].copy())
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decode_image(data, what="x").astype(int) - reference.astype(int)).max() <= 2


def test_huge_png_is_refused_from_its_header() -> None:
    # 60,000 × 60,000 would be 10.8 GB. A few rows of pixels are in the file, so a decoder would start.
    data = png(60_000, 60_000, 8, 2, b"\0" * (180_001 * 3))
    assert len(data) < 2_000
    with pytest.raises(ImageError, match=r"upload\.png: far too large|upload\.png: 60,000"):
        decode_image(data, what="upload.png")


def test_huge_png_costs_no_memory() -> None:
    data = png(60_000, 60_000, 8, 2, b"\0" * (180_001 * 3))
    program = (
        "import sys, resource\n"
        "from models.images import decode_image, ImageError\n"
        "import PIL.Image\n"
        "data = sys.stdin.buffer.read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode_image(data, what='x')\n"
        "except ImageError: pass\n"
        "else: raise SystemExit('accepted')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True)
    assert int(done.stdout) < 50_000  # kilobytes


def test_the_limit_is_on_pixels_and_named() -> None:
    data = encoded(Image.new("RGB", (101, 100)), "PNG")
    assert decode_image(data, what="x", max_pixels=10_100).shape == (100, 101, 3)
    with pytest.raises(ImageError, match=r"101 × 100 pixels.*10,099"):
        decode_image(data, what="x", max_pixels=10_099)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_between_our_limit_and_pillows() -> None:
    # 100 million pixels: Pillow only warns there, the limit here is lower.
    with pytest.raises(ImageError, match=r"10,000 × 10,000"):
        decode_image(png(10_000, 10_000, 8, 2, b""), what="x")


def test_a_jpeg_of_endless_scans_is_refused_at_once() -> None:
    """A progressive JPEG whose last scan comes again and again: a few bytes each, a pass over the picture each."""
    buffer = io.BytesIO()
    Image.new("RGB", (512, 512), (90, 120, 30)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    assert decode_image(data, what="x").shape == (512, 512, 3)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 5000 + data[-2:]
    with pytest.raises(ImageError, match="more than 100 scans"):
        decode_image(bomb, what="x")


def test_transparency_costs_no_more_than_a_few_copies() -> None:
    code = (
        "import io, resource, sys, numpy as np\n"
        "from PIL import Image\n"
        "from models.images import decode_image\n"
        "buffer = io.BytesIO(); Image.new('RGBA', (4000, 4000), (9, 9, 9, 9)).save(buffer, 'PNG', compress_level=1)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "decode_image(buffer.getvalue(), what='x')\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 5 * 64, "MiB; one RGBA copy has 64"


def test_truncated_jpeg_is_refused_at_every_length() -> None:
    data = encode_jpeg(scene(64, 48)[:, :, ::-1].copy())
    for length in range(0, len(data) - 2, 7):
        with pytest.raises(ImageError, match=r"^crop 7: "):
            decode_image(data[:length], what="crop 7")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    upright = scene()
    # What a camera that notes this orientation stores for the upright scene (EXIF 2.32, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(data, what="x")[:, :, ::-1], upright)
    jpeg = encoded(Image.fromarray(np.ascontiguousarray(stored)), "JPEG", exif=exif, quality=100, subsampling=0)
    assert np.abs(decode_image(jpeg, what="x")[:, :, ::-1].astype(int) - upright).max() <= 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_cost_the_image() -> None:
    rgb = scene()
    data = encoded(Image.fromarray(rgb), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage", quality=100)
    assert decode_image(data, what="x").shape == rgb.shape


def test_greyscale() -> None:
    grey = scene()[:, :, 0]
    out = decode_image(encoded(Image.fromarray(grey), "PNG"), what="x")
    np.testing.assert_array_equal(out, np.repeat(grey[:, :, None], 3, axis=2))


def test_one_bit_and_palette() -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[:4] = 255
    for mode in ("1", "P"):
        out = decode_image(encoded(Image.fromarray(rgb).convert(mode), "PNG"), what="x")
        np.testing.assert_array_equal(out, rgb)


def test_sixteen_bit_greyscale_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 514, 0x8080, 65535, 300]], dtype=np.uint16)
    rows = b"\0" + values.astype(">u2").tobytes()
    out = decode_image(png(6, 1, 16, 0, rows), what="x")
    np.testing.assert_array_equal(out[0, :, 0], [0, 1, 2, 0x80, 255, 1])
    np.testing.assert_array_equal(out[:, :, 0], out[:, :, 2])


def test_sixteen_bit_colour() -> None:
    values = np.array([[0xFF00, 0x8000, 0x0000]], dtype=">u2")
    out = decode_image(png(1, 1, 16, 2, b"\0" + values.tobytes()), what="x")
    np.testing.assert_allclose(out[0, 0].astype(int), [0, 0x80, 0xFF], atol=1)


def test_transparent_becomes_black() -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., :3] = 200
    rgba[0, :, 3] = 255
    rgba[1, 0, 3] = 128
    out = decode_image(encoded(Image.fromarray(rgba), "PNG"), what="x")
    assert out[0].min() == 200
    np.testing.assert_allclose(out[1, 0].astype(int), 100, atol=1)
    assert out[1, 1].max() == 0


def test_transparent_palette_becomes_black() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([250, 250, 250, 10, 20, 30])
    image.putpixel((1, 0), 1)
    out = decode_image(encoded(image, "PNG", transparency=0), what="x")
    np.testing.assert_array_equal(out[0], [[0, 0, 0], [30, 20, 10]])


def test_cmyk_jpeg() -> None:
    rgb = scene(32, 32)
    data = encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=100, subsampling=0)
    assert np.abs(decode_image(data, what="x")[:, :, ::-1].astype(int) - rgb).max() <= 6


def test_other_formats_are_refused() -> None:
    for kind in ("GIF", "TIFF", "ICO"):
        with pytest.raises(ImageError, match=r"not an image; send a JPEG"):
            decode_image(encoded(Image.new("RGB", (16, 16)), kind), what="x")


def test_empty_and_text() -> None:
    with pytest.raises(ImageError, match=r"the upload: the file is empty"):
        decode_image(b"", what="the upload")
    with pytest.raises(ImageError, match=r"the upload: not an image"):
        decode_image(b"<html>404</html>", what="the upload")


MAGIC = (
    b"",
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\x20\x00\x00\x00WEBPVP8 ",
    b"RIFF\x20\x00\x00\x00WEBPVP8X",
    b"BM",
)


@given(st.sampled_from(MAGIC), st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_bytes_give_an_image_or_an_image_error(magic: bytes, body: bytes) -> None:
    try:
        out = decode_image(magic + body, what="x")
    except ImageError:
        return
    assert out.ndim == 3


_SEEDS = {kind: encoded(Image.fromarray(scene()), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP")}


@given(
    st.sampled_from(sorted(_SEEDS)),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 10_000),
)
@settings(max_examples=400, deadline=None)
def test_damaged_images_give_an_image_or_an_image_error(kind: str, edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(_SEEDS[kind])
    for place, value in edits:
        data[place % len(data)] = value
    try:
        out = decode_image(bytes(data[: max(1, cut % (2 * len(data)))]), what="x", max_pixels=1_000_000)
    except ImageError as error:
        assert str(error).startswith("x: ")
        return
    assert out.dtype == np.uint8
    assert out.shape[2] == 3
    assert out.shape[0] * out.shape[1] <= 1_000_000


def test_encode_jpeg_refuses_what_is_no_image() -> None:
    for array in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match=r"cannot encode"):
            encode_jpeg(array)  # type: ignore[arg-type]


def test_encode_jpeg_quality() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(encode_jpeg(noise, 30)) < len(encode_jpeg(noise, 95))
    assert np.abs(decode_image(encode_jpeg(scene(64, 64)), what="x").astype(int) - scene(64, 64)).mean() < 3


def test_no_file_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_jpeg(scene()))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
    try:
        for _ in range(400):
            decode_image(path.read_bytes(), what="x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
