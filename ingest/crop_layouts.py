"""Folders of person crops that somebody else cut out: which camera, which tracklet, in which order.

| layout | files | tracklets |
|---|---|---|
| folder-per-camera | `<camera>/a.jpg`, or `<camera>/<tracklet>/a.jpg` | the inner folder; a file right in the camera's is one of its own |
| market1501-names | `0002_c1s1_000451_03.jpg`, in any sub-folder | every file is one of its own |
| mars-names | `0001C1T0001F001.jpg`, in any sub-folder | person, camera and T number together |
| csv | a table `crops.csv` with the columns file, camera and, if known, tracklet, seconds, person_id | as stated |
"""  # noqa: E501 a table

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
TABLE = "crops.csv"


class LayoutError(ValueError):
    """A folder that is not laid out as was said; the message names the files."""


@dataclass(frozen=True)
class LaidOutCrop:
    """One crop.

    Attributes:
        file: of the picture.
        camera: id.
        tracklet: crops of a camera that name the same one show the same person.
        seconds: on the camera's clock, so that tracklets that overlap are two people; None when unknown.
        person: true identity, None when unknown. For judging only.
    """

    file: Path
    camera: str
    tracklet: str
    seconds: float | None = None
    person: int | None = None


def read_layout(folder: Path, layout: str) -> list[LaidOutCrop]:
    """The crops of a folder, sorted by camera, tracklet, time and name.

    Raises:
        LayoutError: unknown layout, no pictures, or names that do not fit it (which, and how many).
    """
    if layout not in LAYOUTS:
        raise LayoutError(f"unknown layout '{layout}'; known: {', '.join(LAYOUTS)}")
    if not folder.is_dir():
        raise LayoutError(f"{folder}: no such folder")
    crops = LAYOUTS[layout](folder)
    if not crops:
        raise LayoutError(f"{folder}: holds no picture ({', '.join(IMAGES)})")
    return sorted(crops, key=lambda crop: (crop.camera, crop.tracklet, crop.seconds or 0.0, crop.file))


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file())


def _by_name(
    pattern: str, crop: Callable[[Path, re.Match[str]], LaidOutCrop | None]
) -> Callable[[Path], list[LaidOutCrop]]:
    compiled = re.compile(pattern)

    def read(folder: Path) -> list[LaidOutCrop]:
        found, odd = [], []
        for path in _pictures(folder):
            match = compiled.match(path.name)
            if match is None:
                odd.append(path.name)
            elif (laid_out := crop(path, match)) is not None:
                found.append(laid_out)
        _complain(folder, odd, "names give no camera")
        return found

    return read


def _complain(folder: Path, odd: Iterable[str], what: str) -> None:
    odd = list(odd)
    if odd:
        shown = ", ".join(odd[:3]) + (", ..." if len(odd) > 3 else "")
        raise LayoutError(f"{folder}: {len(odd)} file {what} ({shown}); is this the right --layout?")


def _market(path: Path, match: re.Match[str]) -> LaidOutCrop | None:
    person = int(match[1])
    # -1 is Market-1501's junk; 0 are its distractors, who are nobody in particular.
    return None if person < 0 else LaidOutCrop(path, f"c{match[2]}", path.stem, person=person if person > 0 else -1)


def _mars(path: Path, match: re.Match[str]) -> LaidOutCrop | None:
    # Junk is 00-1, distractors are 0000. Frames are numbered within a tracklet: that is an order, not a time.
    if match[1] == "00-1":
        return None
    person = int(match[1])
    return LaidOutCrop(path, f"C{match[2]}", f"{match[1]}T{match[3]}", person=person if person > 0 else -1)


def _camera_folders(folder: Path) -> list[LaidOutCrop]:
    crops, odd = [], []
    for path in _pictures(folder):
        parts = path.relative_to(folder).parts
        if len(parts) == 2:
            crops.append(LaidOutCrop(path, parts[0], path.name))
        elif len(parts) == 3:
            crops.append(LaidOutCrop(path, parts[0], f"{parts[1]}/"))
        else:
            odd.append("/".join(parts))
    _complain(folder, odd, "paths are not <camera>/file or <camera>/<tracklet>/file")
    return crops


def _table(folder: Path) -> list[LaidOutCrop]:
    table = folder / TABLE
    crops = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"file", "camera"} <= set(reader.fieldnames or ()):
                raise LayoutError(f"{table}: needs the columns file and camera")
            for row in reader:
                where = f"{table}, line {reader.line_num}"
                name, camera = (row["file"] or "").strip(), (row["camera"] or "").strip()
                path = folder / name
                if not name or not camera:
                    raise LayoutError(f"{where}: file or camera is empty")
                if not path.resolve().is_relative_to(folder.resolve()):
                    raise LayoutError(f"{where}: {name} lies outside the folder")
                if not path.is_file():
                    raise LayoutError(f"{where}: there is no {name}")
                person = _number(row.get("person_id"), f"{where}, person_id")
                crops.append(
                    LaidOutCrop(
                        path,
                        camera,
                        (row.get("tracklet") or "").strip() or name,
                        _number(row.get("seconds"), f"{where}, seconds"),
                        None if person is None else int(person),
                    )
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LayoutError(f"{table}: cannot be read: {error}") from None
    timed = {crop.camera for crop in crops if crop.seconds is not None}
    for crop in crops:
        if crop.seconds is None and crop.camera in timed:
            raise LayoutError(f"{table}: camera {crop.camera} has crops with and without seconds; give all or none")
    return crops


def _number(text: str | None, where: str) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LayoutError(f"{where}: {text[:40]!r} is not a number")
    return value


LAYOUTS: dict[str, Callable[[Path], list[LaidOutCrop]]] = {
    "folder-per-camera": _camera_folders,
    "market1501-names": _by_name(r"(-?\d+)_c(\d+)", _market),
    "mars-names": _by_name(r"(\d{4}|00-1)C(\d)T(\d{4})F\d+", _mars),
    "csv": _table,
}
