"""What a running service must not show any more, from the moment that `erasures.jsonl` says so.

Until the shards are rewritten and the gallery has been brought up to date, rows, vectors and pictures of who was erased
are still there. So whoever reads rows leaves out what this names. When the file cannot be understood nothing is shown.

A recording that was ingested anew, with another detector, has its tracklets numbered anew, and until the gallery is
indexed its rows are those of before. So an id alone says nothing: a row is told from others by its time, too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from gallery_service.errors import GalleryError
from ingest.erasures import ErasedRegions, Erasure, ErasureError, load_erasures
from ingest.forgetting import loss_of
from ingest.shards import Shard, ShardError, open_shard
from ingest.workspace import Workspace


class ErasuresUnreadable(GalleryError):  # noqa: N818 a state of the workspace
    """Nobody can say who was erased."""

    status = 503


class Row(Protocol):
    """What has to be known of a tracklet's row."""

    @property
    def tracklet_id(self) -> str: ...
    @property
    def camera_id(self) -> str: ...
    @property
    def recording_sha256(self) -> str: ...
    @property
    def start_pts_s(self) -> float: ...
    @property
    def end_pts_s(self) -> float: ...


_Tracklet = tuple[str, float, float]
"""Id, start and end."""


@dataclass(frozen=True)
class _State:
    stamp: tuple[int, ...]
    erasures: dict[str, list[Erasure]]


class ErasedTracklets:
    """Looks at `erasures.jsonl` whenever it is asked, which costs a stat. Safe to use from several threads.

    Args:
        workspace: of the site.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._state = _State((), {})
        self._kept: dict[tuple[str, str], tuple[tuple[int, ...], frozenset[_Tracklet]]] = {}

    def stamp(self) -> tuple[int, ...]:
        """Changes whenever somebody was erased.

        Raises:
            ErasuresUnreadable: the file cannot be understood.
        """
        return self._now().stamp

    def recordings(self) -> set[str]:
        """The sha256 of the recordings of which something was erased."""
        return set(self._now().erasures)

    def regions(self, recording_sha256: str) -> ErasedRegions:
        """What was erased of a recording."""
        return ErasedRegions(self._now().erasures.get(recording_sha256, []))

    def among(self, rows: Iterable[Row]) -> set[str]:
        """The ids of the tracklets among these that were erased: their recording's shard keeps none of that id and
        time, and an erasure reaches into it. Others that a shard had which is superseded are hidden with them until
        the gallery is indexed.

        Raises:
            ErasuresUnreadable: the file cannot be understood.
        """
        state = self._now()
        return {
            row.tracklet_id
            for row in rows
            if row.recording_sha256 in state.erasures
            and (row.tracklet_id, row.start_pts_s, row.end_pts_s)
            not in self._remaining(state, row.camera_id, row.recording_sha256)
            and any(line.during(row.start_pts_s, row.end_pts_s) for line in state.erasures[row.recording_sha256])
        }

    def _now(self) -> _State:
        with self._lock:
            path = self._workspace.erasures
            try:
                found = path.stat()
                stamp: tuple[int, ...] = (found.st_mtime_ns, found.st_size, found.st_ino)
            except FileNotFoundError:
                stamp = (0,)
            if stamp != self._state.stamp:
                by_recording: dict[str, list[Erasure]] = {}
                try:
                    for erasure in load_erasures(path):
                        by_recording.setdefault(erasure.video_sha256, []).append(erasure)
                except ErasureError as error:
                    raise ErasuresUnreadable(f"nothing can be shown: {error}") from None
                self._state = _State(stamp, by_recording)
            return self._state

    def _remaining(self, state: _State, camera_id: str, recording_sha256: str) -> frozenset[_Tracklet]:
        """The tracklets of a camera's recording that may be shown: those of its shard, as it is or as it will be."""
        folder = self._workspace.shards / camera_id
        try:
            stamp = (*state.stamp, folder.stat().st_mtime_ns)
        except FileNotFoundError:
            stamp = state.stamp
        key = (camera_id, recording_sha256)
        with self._lock:
            known = self._kept.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        for last in (False, True):
            try:
                shard = self._newest(camera_id, recording_sha256)
                remaining = frozenset() if shard is None else _remaining(shard, state.erasures[recording_sha256])
                break
            except (ShardError, OSError):
                if last:  # damaged; else it was replaced just now
                    return frozenset()
        with self._lock:
            self._kept[key] = (stamp, remaining)
        return remaining

    def _newest(self, camera_id: str, recording_sha256: str) -> Shard | None:
        """The shard of a recording, found by its name: asked while a page waits."""
        folder = self._workspace.shards / camera_id
        paths = [path for path in folder.glob("[!.]*") if recording_sha256.startswith(path.name.partition("-")[0])]
        shards = [shard for shard in map(open_shard, paths) if shard.video_sha256 == recording_sha256]
        return max(shards, key=lambda shard: shard.generation, default=None)


def _remaining(shard: Shard, erasures: list[Erasure]) -> frozenset[_Tracklet]:
    loss = loss_of(shard, erasures)
    gone = frozenset() if loss is None else loss.tracklets
    table = shard.tracklets()
    columns = (table[name].to_pylist() for name in ("tracklet_id", "start_pts_s", "end_pts_s"))
    return frozenset(row for row in zip(*columns, strict=True) if row[0] not in gone)
