"""The picture of the place that cameras and sightings are drawn on, as site.yaml names it.

What is served is never the file itself: it is read as an image and written anew, so that whatever else lies at that
path, or behind the picture in the file, stays where it is.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import cv2
import numpy as np

from gallery_service.errors import NotFound
from ingest.site import SiteConfig
from models.images import ImageError, decode_image, encode_jpeg

_MAX_BYTES = 32 * 1024 * 1024
_MAX_PIXELS = 40_000_000
_LONGEST_SIDE = 2048
_WHITE = 255


@dataclass(frozen=True)
class Picture:
    """An image file for a browser."""

    content: bytes
    media_type: str


class SiteMapPicture:
    """A site's map, kept in memory until the file changes."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, ...], Picture] | None = None
        self._reading = threading.Lock()

    def read(self, site: SiteConfig) -> Picture:
        """The map of a site, its longest side `_LONGEST_SIDE` at most.

        Raises:
            NotFound: site.yaml names none, or it is no picture inside the site's folder; the message says what to do.
        """
        if site.map is None:
            raise NotFound("this site has no map; set 'map: {image: plan.png}' in site.yaml")
        name = site.map.image
        try:
            path = site.resolve(name).resolve(strict=True)
            state = path.stat()
            if not path.is_relative_to(site.folder.resolve()) or not path.is_file():
                raise NotFound(f"the map {name!r} is no file below the site's folder; put the picture itself there")
            if state.st_size > _MAX_BYTES:
                raise NotFound(f"the map {name!r} is larger than {_MAX_BYTES // 1024 // 1024} MiB; make it smaller")
            with self._reading:
                key = (path, state.st_mtime_ns, state.st_size, state.st_ino)
                if self._kept is None or self._kept[0] != key:
                    self._kept = key, _encoded(path.read_bytes(), name)
                return self._kept[1]
        except OSError as error:
            raise NotFound(
                f"the map {name!r} cannot be read ({error.strerror}); put it below the site's folder"
            ) from None
        except ImageError as error:
            raise NotFound(f"{error}; put a PNG or JPEG there") from None


def _encoded(content: bytes, name: str) -> Picture:
    # Plans are often drawn on nothing: that is paper, not darkness.
    image = decode_image(content, what=f"the map {name!r}", max_pixels=_MAX_PIXELS, background=_WHITE)
    scale = _LONGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    # A photograph as PNG is many times as large, a drawing as JPEG has smudged lines.
    if content.startswith(b"\xff\xd8"):
        return Picture(encode_jpeg(image, 90), "image/jpeg")
    return Picture(cv2.imencode(".png", image)[1].tobytes(), "image/png")
