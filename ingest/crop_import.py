"""Crops that somebody else cut out, as shards, so that a site can be trained and searched from crops alone.

What a recording would tell is missing: boxes are the pictures themselves, nothing can be played, and times are unknown
unless the layout states seconds. Tracklets without times are put one after the other on the shard's clock, so that no
two of a camera seem to have been seen at the same time, which would make them two people.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ingest.crop_layouts import LaidOutCrop, read_layout
from ingest.crop_quality import view
from ingest.erasures import load_erasures
from ingest.recording import JPEG_QUALITY, MAX_CROPS, MIN_CROP_PX
from ingest.recording_time import RecordingStart
from ingest.shard_writer import ShardWriter
from ingest.shards import TEMPORARY_PREFIX, Shard, list_shards
from ingest.site import SITE_FILE, SITE_NAME, SiteConfig, SiteError, load_site, parse_site, sites_folder
from ingest.tracklets import OpenTracklet, Sighting, Tracklet
from ingest.workspace import Workspace
from models.atomic import publish_folder, write_text
from models.images import ImageError, decode_image, encode_jpeg

METHOD = "import-1"
STEP_S = 0.1  # between the crops of a tracklet whose times are unknown: as far apart as ingest looks at frames
APART_S = 10.0  # between two tracklets
MOST_UNREADABLE = 0.05  # share of a camera's pictures


class ImportFailed(ValueError):  # noqa: N818 it is what happened
    """The crops cannot be imported; the message says why and what to do."""


@dataclass(frozen=True)
class Imported:
    """What became of one camera's crops: its shard, whether it is new, pictures skipped by reason."""

    shard: Shard
    new: bool
    skipped: dict[str, int]


def import_crops(
    site_ref: str, folder: Path, layout: str, on_step: Callable[[int, int], None] = lambda done, total: None
) -> list[Imported]:
    """Write a shard for every camera of a folder of crops.

    Args:
        site_ref: name or folder of the site; one that does not exist is made, with the folder's cameras.
        folder: of the crops.
        layout: `ingest.crop_layouts.LAYOUTS`.
        on_step: told (pictures done, all).

    Returns:
        One entry per camera. The same folder again changes nothing; a folder that has changed replaces what was
        imported from it before.

    Raises:
        LayoutError, SiteError, WorkspaceBusy, ImportFailed: ValueErrors that say what to do.
    """
    crops = read_layout(folder, layout)
    cameras = {camera: list(of_camera) for camera, of_camera in groupby(crops, key=lambda crop: crop.camera)}
    site = _site(site_ref, list(cameras))
    for camera in cameras:
        site.camera(camera)  # says which ones there are
    workspace = Workspace(site)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        on_step(done, len(crops))

    with workspace.lock():
        return [_import_camera(workspace, folder, layout, camera, own, advance) for camera, own in cameras.items()]


def _site(ref: str, cameras: list[str]) -> SiteConfig:
    named = SITE_NAME.fullmatch(ref) is not None
    folder = (sites_folder() / ref) if named else Path(ref).expanduser()
    try:
        return load_site(ref)
    except SiteError:
        if (folder / SITE_FILE).exists():
            raise
    content = {
        "schema": 1,
        "name": ref if named else folder.resolve().name,
        "cameras": [{"id": camera, "videos": []} for camera in cameras],
    }
    parse_site(content, folder / SITE_FILE)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SITE_FILE, yaml.safe_dump(content, sort_keys=False))
    return load_site(ref)


def _import_camera(
    workspace: Workspace, folder: Path, layout: str, camera: str, crops: list[LaidOutCrop], advance: Callable[[], None]
) -> Imported:
    content = _content_hash(folder, layout, crops)
    shard_id = f"{content[:16]}-{hashlib.sha256(METHOD.encode()).hexdigest()[:12]}"
    imported = [shard for shard in list_shards(workspace, camera) if shard.summary["detector"] == METHOD]
    same = [shard for shard in imported if shard.shard_id == shard_id]
    place = _place(folder)
    old = [s for s in imported if s.summary["settings"].get("folder") == place and s.shard_id != shard_id]
    if same:
        for _ in crops:
            advance()
        _remove(old)
        return Imported(same[0], False, same[0].summary["rejected"]["detections"])
    erased = {erasure.video_sha256 for erasure in load_erasures(workspace.erasures)}
    if erased & {content, *(shard.video_sha256 for shard in old)}:
        raise ImportFailed(
            f"camera {camera}: crops imported from {folder} were erased since; take them out of the folder, and import "
            "it under another name"
        )
    final = workspace.shards / camera / shard_id
    temporary = final.with_name(TEMPORARY_PREFIX + shard_id)
    if temporary.exists():
        shutil.rmtree(temporary)  # left by an import that was stopped
    try:
        _write(temporary, camera, content, folder, layout, crops, advance)
        publish_folder(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _remove(old)
    shard = next(shard for shard in list_shards(workspace, camera) if shard.shard_id == shard_id)
    return Imported(shard, True, shard.summary["rejected"]["detections"])


def _remove(shards: list[Shard]) -> None:
    for shard in shards:
        doomed = shard.path.with_name(TEMPORARY_PREFIX + shard.shard_id)
        shard.path.rename(doomed)  # a folder that is half removed must not look like a shard
        shutil.rmtree(doomed)


def _content_hash(folder: Path, layout: str, crops: list[LaidOutCrop]) -> str:
    whole = hashlib.sha256(f"{METHOD} {layout}\n".encode())
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        hashes = pool.map(lambda crop: hashlib.sha256(crop.file.read_bytes()).hexdigest(), crops)
        for crop, digest in zip(crops, hashes, strict=True):
            name = crop.file.relative_to(folder)
            whole.update(f"{name}\n{crop.tracklet}\n{crop.seconds}\n{crop.person}\n{digest}\n".encode())
    return whole.hexdigest()


def _place(folder: Path) -> str:
    """Tells folders of one name apart, without keeping where they lie."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


def _write(
    target: Path,
    camera: str,
    content: str,
    folder: Path,
    layout: str,
    crops: list[LaidOutCrop],
    advance: Callable[[], None],
) -> None:
    writer = ShardWriter(target, camera, content[:16], RecordingStart(None, "unknown"))
    skipped: Counter[str] = Counter()
    people: dict[str, dict[str, Any]] = {}
    end_s = 0.0
    pictures = _decoded(crops, skipped, advance)
    for number, (_, of_tracklet) in enumerate(groupby(pictures, key=lambda item: item[0].tracklet)):
        tracklet, person = _tracklet(number, list(of_tracklet), end_s)
        end_s = tracklet.last.pts_s + APART_S
        name = writer.add(tracklet)
        if person is not None:
            people[name] = {"person_id": person, "purity": 1.0, "boxes": tracklet.detections}
    lost = sum(skipped.values())
    if lost > MOST_UNREADABLE * len(crops):
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        raise ImportFailed(
            f"camera {camera}: {lost} of {len(crops)} pictures cannot be used ({reasons}); nothing imported"
        )
    writer.finish(
        {
            "shard_id": f"{content[:16]}-{hashlib.sha256(METHOD.encode()).hexdigest()[:12]}",
            "generation": 1,
            "camera_id": camera,
            "video_id": content[:16],
            "video_sha256": content,
            "video_name": f"{folder.resolve().name} ({layout})",
            "duration_s": 0.0,
            "start": None,
            "time_source": "unknown",
            "settings": {
                "method": METHOD,
                "crops": [MAX_CROPS, JPEG_QUALITY, MIN_CROP_PX],
                "folder": _place(folder),
            },
            "detector": METHOD,
            "decode": {"truncated": False, "damaged": 0, "pts_estimated": 0},
            "counts": {
                "frames": 0,
                "frames_looked_at": 0,
                "detections": len(crops) - lost,
                "tracklets": writer.tracklets,
                "crops": writer.crops,
            },
            "rejected": {"detections": dict(sorted(skipped.items())), "tracklets": {}},
            # Nothing was detected here, so there is nothing to judge but whose tracklets these are.
            "ground_truth": {"sha256": content, "detection": {"tp": 0, "fp": 0, "fn": 0}, "tracklets": people}
            if people
            else None,
        }
    )


Picture = tuple[LaidOutCrop, NDArray[np.uint8], bytes]


def _decoded(crops: list[LaidOutCrop], skipped: Counter[str], advance: Callable[[], None]) -> Iterator[Picture]:
    """The pictures that can be used, with the JPEG to keep: the file itself where it is one."""
    for crop in crops:
        data = crop.file.read_bytes()
        advance()
        try:
            image = decode_image(data, what=crop.file.name)
        except ImageError:
            skipped["unreadable"] += 1
            continue
        if min(image.shape[:2]) < MIN_CROP_PX:
            skipped["too small"] += 1
            continue
        yield crop, image, data if data[:3] == b"\xff\xd8\xff" else encode_jpeg(image, JPEG_QUALITY)


def _tracklet(number: int, pictures: list[Picture], after_s: float) -> tuple[Tracklet, int | None]:
    open_ = OpenTracklet(number, STEP_S, 1)
    times = _times([crop.seconds for crop, _, _ in pictures], after_s)
    for position, ((_, image, jpeg), pts_s) in enumerate(zip(pictures, times, strict=True)):
        height, width = image.shape[:2]
        box = np.asarray([0, 0, width, height], np.float32)
        sighting = Sighting(position, pts_s, box, 1.0)
        open_.add(sighting)
        # No border: the picture says nothing about what it was cut out of.
        seen = view(image, box + 10, np.zeros((0, 4), np.float32), (width + 20, height + 20))
        open_.offer_crop(sighting, seen.quality(1.0), partial(bytes, jpeg))
    people = {crop.person for crop, _, _ in pictures}
    return open_.finish(MAX_CROPS), people.pop() if len(people) == 1 else None


def _times(stated: list[float | None], after_s: float) -> list[float]:
    """When each crop of a tracklet was taken, in seconds: as stated, or `STEP_S` apart from `after_s` on.

    Crops of one stated time (whole seconds, mostly) are spread over the time to the next one, at most a second.
    """
    known = [second for second in stated if second is not None]
    if len(known) < len(stated):
        return [after_s + position * STEP_S for position in range(len(stated))]
    times: list[float] = []
    moments = sorted(set(known))
    for moment, following in zip(moments, [*moments[1:], moments[-1] + 1.0], strict=True):
        count = known.count(moment)
        step = min(following - moment, 1.0) / count
        times += [moment + number * step for number in range(count)]
    return times
