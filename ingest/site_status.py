"""How a site's ingest stands: for every camera what is in, what that covers, what was left behind, what is to come."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ingest.content_hash import ContentHashes
from ingest.coverage import Span, covered, gaps, timeline
from ingest.recording_file import StoreError, identity, in_store
from ingest.set_aside import Failure, SetAside
from ingest.shards import Shard, left_out_shards, list_shards
from ingest.site import Camera, SiteConfig, camera_videos
from ingest.workspace import Workspace
from models.atomic import write_bytes

CELLS = 48
"""Parts of a timeline."""
_SHOWN = 24  # crops of a camera on the page


@dataclass
class CameraStatus:
    """How a camera stands.

    Attributes:
        camera: its id.
        recordings: that are in.
        hours: of recording that are in.
        untimed: recordings of which nobody knows when they were made; they are on no timeline.
        coverage: spans of time that recordings cover, UTC, in order.
        tracklets, crops: counts.
        rejected: by what it was ("detections", "crops", "tracklets"), counts by reason.
        failures: recordings that failed.
        queue: recordings that lie there and are not in; those that failed or were left out are not among them.
        left_out: recordings that are in, but not used as site.yaml is now.
    """

    camera: str
    recordings: int = 0
    hours: float = 0.0
    untimed: int = 0
    coverage: list[Span] = field(default_factory=list)
    tracklets: int = 0
    crops: int = 0
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    queue: int = 0
    left_out: int = 0

    @property
    def gaps(self) -> list[Span]:
        """What lies open between recordings."""
        return gaps(self.coverage)

    def as_json(self) -> dict[str, Any]:
        """For `--json`; moments as RFC 3339."""
        return {
            "camera": self.camera,
            "recordings": self.recordings,
            "hours": round(self.hours, 4),
            "untimed": self.untimed,
            "coverage": [[begin.isoformat(), end.isoformat()] for begin, end in self.coverage],
            "gaps": [[begin.isoformat(), end.isoformat()] for begin, end in self.gaps],
            "tracklets": self.tracklets,
            "crops": self.crops,
            "rejected": self.rejected,
            "failures": [vars(failure) for failure in self.failures],
            "queue": self.queue,
            "left_out": self.left_out,
        }


@dataclass
class SiteStatus:
    """How a site stands: its cameras, and the time from the first moment to the last of any of them, if known."""

    site: str
    timezone: str
    cameras: list[CameraStatus]

    @property
    def whole(self) -> Span | None:
        """From the first recorded moment to the last."""
        spans = [span for camera in self.cameras for span in camera.coverage]
        return (min(begin for begin, _ in spans), max(end for _, end in spans)) if spans else None

    def timeline(self, camera: CameraStatus) -> list[float]:
        """How much of each of `CELLS` parts of the whole time the camera covers; empty where no time is known."""
        return timeline(camera.coverage, self.whole, CELLS) if self.whole is not None else []

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        cameras = [camera.as_json() for camera in self.cameras]
        return {"schema": 1, "site": self.site, "timezone": self.timezone, "cameras": cameras}


def site_status(site: SiteConfig) -> SiteStatus:
    """Look at what lies in the workspace and among the recordings. Reads no video and changes nothing.

    Raises:
        ShardError: a folder among the shards is none.
    """
    workspace = Workspace(site)
    shards = list_shards(workspace)
    left_out = Counter(shard.camera_id for shard, _ in left_out_shards(workspace))
    hashes, aside = ContentHashes(workspace), SetAside(workspace)
    cameras = []
    for camera in site.cameras:
        own = [shard for shard in shards if shard.camera_id == camera.id]
        cameras.append(_camera(camera, own, left_out[camera.id], hashes, aside))
    return SiteStatus(site.name, site.timezone, cameras)


def _camera(camera: Camera, shards: list[Shard], left_out: int, hashes: ContentHashes, aside: SetAside) -> CameraStatus:
    status = CameraStatus(camera.id, recordings=len(shards), left_out=left_out)
    spans = []
    rejected: dict[str, Counter[str]] = {}
    for shard in shards:
        summary = shard.summary
        status.hours += summary["duration_s"] / 3600
        status.tracklets += summary["counts"]["tracklets"]
        status.crops += summary["counts"]["crops"]
        for what, reasons in summary["rejected"].items():
            rejected.setdefault(what, Counter()).update(reasons)
        if summary["start"] is None:
            status.untimed += 1
        else:
            begin = datetime.fromisoformat(summary["start"])
            spans.append((begin, begin + timedelta(seconds=summary["duration_s"])))
    status.coverage = covered(spans)
    status.rejected = {what: dict(sorted(reasons.items())) for what, reasons in sorted(rejected.items()) if reasons}
    status.failures = aside.of(camera.id)
    done = {shard.video_sha256 for shard in shards}
    failed = {name if in_store(name := failure.path) else identity(Path(name)) for failure in status.failures}
    try:
        recordings = camera_videos(camera)
    except StoreError as error:
        recordings = []
        status.failures.append(Failure(camera.id, ", ".join(video.path for video in camera.videos), str(error), 1))
    for recording in recordings:
        known = hashes.known(recording.path)
        if known not in done and identity(recording.path) not in failed:
            status.queue += 1
    return status


def write_page(site: SiteConfig, status: SiteStatus) -> Path:
    """The status as one self-contained page with crops of every camera: `ingest.html` in the workspace."""
    from jinja2 import Environment, PackageLoader

    workspace = Workspace(site)
    shards = list_shards(workspace)
    cameras = [
        {
            "status": camera,
            "timeline": status.timeline(camera),
            "crops": _some_crops([shard for shard in shards if shard.camera_id == camera.camera]),
        }
        for camera in status.cameras
    ]
    template = Environment(loader=PackageLoader("ingest", "templates"), autoescape=True).get_template("status.html")
    page = template.render(site=status.site, whole=status.whole, zone=site.zone, cameras=cameras)
    path = workspace.root / "ingest.html"
    write_bytes(path, page.encode("utf-8"))
    return path


def _some_crops(shards: list[Shard]) -> list[dict[str, Any]]:
    """The best crop of tracklets spread evenly over all of a camera's, with when it was taken."""
    total = sum(int(shard.summary["counts"]["tracklets"]) for shard in shards)
    step = max(1, -(-total // _SHOWN))
    chosen, number = [], 0
    for shard in shards:
        wanted = [n for n in range(int(shard.summary["counts"]["tracklets"])) if (number + n) % step == 0]
        number += int(shard.summary["counts"]["tracklets"])
        if not wanted:
            continue
        ids = shard.tracklets()["tracklet_id"].to_pylist()
        best: dict[str, dict[str, Any]] = {}
        for row in shard.crops().to_pylist():
            if row["tracklet_id"] not in best or row["quality"] > best[row["tracklet_id"]]["quality"]:
                best[row["tracklet_id"]] = row
        for row in (best[ids[n]] for n in wanted if ids[n] in best):
            jpeg = base64.b64encode(shard.read_jpeg(row["offset"], row["length"])).decode()
            taken = row["captured_at"]
            chosen.append({"image": f"data:image/jpeg;base64,{jpeg}", "taken": taken, "seconds": row["pts_s"]})
    return sorted(chosen, key=lambda crop: (crop["taken"] is None, crop["taken"], crop["seconds"]))
