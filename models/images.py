"""Images from outside: bytes in, pixels out, and nothing but :class:`ImageError` in between."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

_EXIF_ORIENTATION = 0x0112
# A progressive JPEG comes in about ten scans; each costs a pass over the whole picture, however few bytes it has.
_MOST_SCANS = 100


class ImageError(ValueError):
    """Bytes that are not an image we accept. The message names the image and says what is wrong with it."""


def decode_image(data: bytes, *, what: str, max_pixels: int = 40_000_000, background: int = 0) -> npt.NDArray[np.uint8]:
    """Decode a JPEG, PNG, WebP or BMP file.

    The size is read from the header and checked before any pixel is decoded, so a small file that claims to be huge
    costs nothing, and neither does a JPEG of thousands of scans. EXIF rotation is applied; greyscale becomes three
    equal channels; 16 bits become 8; what is transparent shows the background; only the first frame is read.

    Args:
        data: the file's bytes, not trusted.
        what: how the error names the image ("crop 17 of shard x", "the uploaded file").
        max_pixels: the largest width × height accepted.
        background: grey level 0..255 behind what is transparent; black, as masked areas are everywhere in the product.

    Returns:
        (H, W, 3) uint8, channels in the order blue, green, red.

    Raises:
        ImageError: whatever is wrong with the bytes.
    """
    if not data:
        raise ImageError(f"{what}: the file is empty; send a JPEG, PNG, WebP or BMP image")
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width < 1 or height < 1 or width * height > max_pixels:
                raise ImageError(_size_message(what, width, height, max_pixels))
            if image.format == "JPEG" and data.count(b"\xff\xda") > _MOST_SCANS:
                raise ImageError(f"{what}: a JPEG of more than {_MOST_SCANS} scans; save it again and resend")
            image.load()
            pixels = _to_bgr(image, background)
            return _upright(pixels, _orientation(image))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{what}: not an image; send a JPEG, PNG, WebP or BMP image") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{what}: far too large; at most {max_pixels:,} pixels are accepted") from None
    except Exception as error:
        # Decoders meet hostile bytes here and raise half a dozen types (OSError, SyntaxError, struct.error,
        # MemoryError ...); to the caller they all mean one thing.
        reason = str(error) or type(error).__name__
        raise ImageError(f"{what}: the image is damaged ({reason}); save it again and resend") from error


def encode_jpeg(bgr: npt.NDArray[np.uint8], quality: int = 95) -> bytes:
    """Encode (H, W, 3) uint8 BGR as JPEG. ``quality`` is 1 (smallest) to 100. Raises ImageError when that is not an
    image."""
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.size == 0:
        raise ImageError(f"cannot encode an array of shape {bgr.shape} and type {bgr.dtype}; need (H, W, 3) uint8")
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    if not done:
        raise ImageError(f"JPEG encoding of an image of shape {bgr.shape} failed")
    return bytes(encoded.tobytes())


def _size_message(what: str, width: int, height: int, max_pixels: int) -> str:
    return f"{what}: {width:,} × {height:,} pixels; at least 1 and at most {max_pixels:,} in all are accepted"


def _to_bgr(image: Image.Image, background: int) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if image.mode.startswith("I"):
        # 16-bit greyscale. Pillow's own conversion to 8 bits clips instead of scaling.
        grey = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
        grey8 = ((grey + 128) // 257).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(grey8[:, :, None], 3, axis=2))
    if image.has_transparency_data:
        # Laid over it in 8 bits; arithmetic in wider numbers would take ten times the memory.
        below = Image.new("RGBA", image.size, (background, background, background, 255))
        rgb = np.asarray(Image.alpha_composite(below, image.convert("RGBA")).convert("RGB"))
    else:
        rgb = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # Pixels are fine, the camera's notes are not: better an image that may lie on its side than none.
        return 1


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    # EXIF 2.32, tag 0x0112: what has to be done to the stored pixels so that the scene stands upright.
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
