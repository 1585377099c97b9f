"""A small invented site: drawn people who walk through short recordings, their shards, and a random model.

Nothing is detected or trained, so building it takes a second or two; shards go through ingest's own writer, recordings
are real MP4 files, and the model is a real bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from ingest.content_hash import ContentHashes
from ingest.recording_time import RecordingStart
from ingest.shard_writer import ShardWriter
from ingest.shards import list_shards
from ingest.site import SiteConfig, load_site
from ingest.tracklets import Crop, Sighting, Tracklet
from ingest.workspace import Workspace
from models.atomic import publish_folder
from models.bundle import Bundle, ModelStore
from models.images import encode_jpeg

WIDTH, HEIGHT, FPS = 320, 240, 10
SECONDS = 12
START = datetime(2026, 3, 1, 8, 0, 0, tzinfo=UTC)
INPUT_SIZE = (64, 32)


@dataclass(frozen=True)
class Walk:
    """A person crosses the picture between two times, seconds from the beginning of the recording."""

    person: int
    begin_s: float
    end_s: float

    def box(self, t: float) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 at a time."""
        share = (t - self.begin_s) / (self.end_s - self.begin_s)
        x = round(20 + share * (WIDTH - 80))
        return x, 70, x + 40, 190


def colours(person: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """What a person wears: upper and lower colour, BGR."""
    generator = np.random.default_rng(person)
    upper, lower = (tuple(int(v) for v in generator.integers(30, 226, 3)) for _ in range(2))
    return upper, lower  # type: ignore[return-value]


def draw_person(image: NDArray[np.uint8], box: tuple[int, int, int, int], person: int, step: float = 0.0) -> None:
    """Draw somebody into a BGR picture."""
    x1, y1, x2, y2 = box
    upper, lower = colours(person)
    middle, height = (x1 + x2) // 2, y2 - y1
    head = y1 + height // 9
    swing = int(np.sin(step * 9) * height * 0.07)
    for side in (-1, 1):
        foot = (middle + side * (4 + swing), y2 - 3)
        cv2.line(image, (middle + side * 4, y1 + height // 2), foot, lower, max(3, height // 12), cv2.LINE_AA)
    cv2.ellipse(image, (middle, y1 + int(height * 0.36)), (int(height * 0.13), int(height * 0.2)), 0, 0, 360, upper, -1)
    cv2.circle(image, (middle, head), height // 11, (150, 180, 215), -1, cv2.LINE_AA)


def frame_at(camera: int, walks: list[Walk], t: float) -> NDArray[np.uint8]:
    """A camera's picture at a time, BGR (HEIGHT, WIDTH, 3)."""
    image = np.full((HEIGHT, WIDTH, 3), (168 - 20 * camera, 172, 160 + 15 * camera), np.uint8)
    cv2.rectangle(image, (0, 180), (WIDTH, HEIGHT), (120, 124, 128 - 10 * camera), -1)
    cv2.rectangle(image, (200, 30), (300, 120), (90 + 20 * camera, 100, 110), -1)
    for walk in walks:
        if walk.begin_s <= t <= walk.end_s:
            draw_person(image, walk.box(t), walk.person, t)
    return image


def write_recording(path: Path, camera: int, walks: list[Walk], seconds: float = SECONDS) -> None:
    """Encode a camera's recording as MP4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(round(seconds * FPS)):
            picture = av.VideoFrame.from_ndarray(frame_at(camera, walks, number / FPS), format="bgr24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def make_tracklet(number: int, camera: int, walk: Walk, crops: int = 4) -> Tracklet:
    """What ingest would make of a walk."""

    def sighting(t: float) -> Sighting:
        return Sighting(round(t * FPS), t, np.array(walk.box(t), np.float32), 0.9)

    times = np.round(np.linspace(walk.begin_s, walk.end_s, crops), 3).tolist()
    pictures = []
    for rank, t in enumerate(times):
        x1, y1, x2, y2 = walk.box(t)
        noise = np.random.default_rng([number, camera, rank]).integers(-8, 9, (y2 - y1, x2 - x1, 3))
        crop = np.clip(frame_at(camera, [walk], t)[y1:y2, x1:x2].astype(int) + noise, 0, 255).astype(np.uint8)
        quality = 0.4 + 0.1 * (rank == crops // 2) + 0.05 * number
        pictures.append(Crop(sighting(t), quality, encode_jpeg(crop)))
    path = [sighting(t) for t in np.arange(walk.begin_s, walk.end_s + 1e-9, 0.5).tolist()]
    if path[-1].pts_s != walk.end_s:
        path.append(sighting(walk.end_s))
    return Tracklet(number, sighting(walk.begin_s), sighting(walk.end_s), len(path), len(path), True, path, pictures)


def add_shard(
    workspace: Workspace,
    camera: int,
    walks: list[Walk],
    *,
    sha256: str,
    start: datetime | None = START,
    settings: str = "a",
    generation: int = 1,
    crops: int = 4,
    first: int = 1,
    replaces: Sequence[str] = (),
) -> Path:
    """Publish a shard of these walks, whose tracklets are numbered from `first`; its folder."""
    camera_id, video_id = f"cam{camera}", sha256[:12]
    folder = workspace.shards / camera_id
    folder.mkdir(parents=True, exist_ok=True)
    shard_id = f"{video_id}-{settings}"
    temporary = folder / f".tmp-{shard_id}"
    source = RecordingStart(start, "container") if start else RecordingStart(None, "unknown")
    writer = ShardWriter(temporary, camera_id, video_id, source)
    for number, walk in enumerate(walks, first):
        writer.add(make_tracklet(number, camera, walk, crops))
    writer.finish(
        {
            "camera_id": camera_id,
            "video_id": video_id,
            "video_sha256": sha256,
            "video_name": "day.mp4",
            "generation": generation,
            "replaces": list(replaces),
            "start": None if start is None else start.isoformat(),
            "duration_s": float(SECONDS),
            "settings": {"invented": settings},
            "counts": {"tracklets": len(walks), "crops": crops * len(walks)},
        }
    )
    publish_folder(temporary, folder / shard_id)
    return folder / shard_id


def ingest_anew(workspace: Workspace) -> None:
    """Cut the recording of camera 1 otherwise: the id of its first tracklet is another person's then."""
    (shard,) = list_shards(workspace, "cam1")
    walks = [Walk(4, 0.1, 1.3), *walks_of(1)[1:]]
    start = START + timedelta(minutes=10)
    add_shard(workspace, 1, walks, sha256=shard.video_sha256, start=start, settings="b", generation=2)


def add_recording(site: SiteConfig, camera: int, walks: list[Walk], name: str = "day", **shard: object) -> Path:
    """Write a recording, remember its hash as ingest does, and publish its shard; the recording's path."""
    workspace = Workspace(site)
    path = site.folder / "recordings" / f"cam{camera}" / f"{name}.mp4"
    write_recording(path, camera, walks)
    hashes = ContentHashes(workspace)
    sha256 = hashes.sha256(path)
    hashes.save()
    add_shard(workspace, camera, walks, sha256=sha256, **shard)  # type: ignore[arg-type]
    return path


def add_model(site: SiteConfig, seed: int = 1) -> Bundle:
    """Add a random OSNet x0.25 to the site's models and promote it."""
    import torch

    from models.reid import build_reid

    torch.manual_seed(seed)
    store = ModelStore(Workspace(site).models)
    bundle = store.add(build_reid("osnet_x0_25").eval(), INPUT_SIZE)
    return store.promote(bundle.version)


def write_site(folder: Path, cameras: int = 2, clips: bool = True, name: str = "toy") -> SiteConfig:
    """Write a site.yaml and load it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": 1,
        "name": name,
        "timezone": "Europe/Berlin",
        "cameras": [{"id": f"cam{n}", "videos": [f"recordings/cam{n}/*.mp4"]} for n in range(1, cameras + 1)],
        "clips": {"enabled": clips, "seconds": 4},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_site(str(folder))


def walks_of(camera: int, people: int = 5) -> list[Walk]:
    """Everybody crosses every camera, one after the other, at other times in each."""
    return [Walk(person, 0.5 + 2.0 * person, 3.0 + 2.0 * person - 0.2 * camera) for person in range(people)]


def build_site(folder: Path, cameras: int = 2, clips: bool = True, name: str = "toy") -> SiteConfig:
    """A whole site with recordings, shards and a model, not indexed. The last camera has one more shard, of which
    neither the time is known nor the recording left."""
    site = write_site(folder, cameras, clips, name)
    for camera in range(1, cameras + 1):
        add_recording(site, camera, walks_of(camera), start=START + timedelta(minutes=10 * camera))
    lost = pseudo_sha256("lost recording")
    add_shard(Workspace(site), cameras, walks_of(cameras, 3), sha256=lost, start=None)
    add_model(site)
    return site


def pseudo_sha256(text: str) -> str:
    """A content hash for a recording that does not exist."""
    return hashlib.sha256(text.encode()).hexdigest()


def query_crop(person: int, camera: int = 1) -> NDArray[np.uint8]:
    """A picture of somebody that is in no shard, BGR."""
    walk = Walk(person, 0.0, 10.0)
    x1, y1, x2, y2 = walk.box(3.3)
    return np.ascontiguousarray(frame_at(camera, [walk], 3.3)[y1:y2, x1:x2])
