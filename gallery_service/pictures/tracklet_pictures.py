"""What is shown of people: a tracklet's best crop, a clip of the recording round it, a training report. Each look is
recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gallery_service.audit.recently import Recently
from gallery_service.caller import Caller
from gallery_service.errors import NotFound
from gallery_service.pictures.clips import ClipCache, ClipRequest, centred_span, cut_clip
from gallery_service.pictures.training_reports import read_report
from gallery_service.search.live_gallery import LiveGallery
from gallery_service.storage.repository import StoredTracklet
from ingest.content_hash import RecordingFinder
from ingest.recording_file import RecordingPath

if TYPE_CHECKING:
    from ingest.shards import Shard

# Kinds of looks at a tracklet: in a list, by itself, moving; and at a training run's report.
_THUMBNAIL, _OPENED, _CLIP, _REPORT = "thumbnail", "opened", "clip", "report"


@dataclass(frozen=True)
class WantedClip:
    """A clip somebody wants: `ready`, or to be had from `cut`, which raises NotFound where there is nothing to show."""

    ready: bytes | None
    cut: Callable[[], bytes]


class TrackletPictures:
    """The pictures of one site's tracklets, for those who may see them.

    Args:
        gallery: of the site.
    """

    def __init__(self, gallery: LiveGallery) -> None:
        self._gallery = gallery
        self._clips = ClipCache(gallery.settings.clip_cache_bytes)
        self._clips_of: tuple[int, ...] | None = None
        self._recordings = RecordingFinder(gallery.workspace)
        self._recorded = Recently()

    def links(self, tracklet: StoredTracklet) -> tuple[str, str | None]:
        """Where a tracklet's crop is, and its clip: None when clips are off or the recording is gone."""
        base = f"/api/v1/sites/{self._gallery.name}/tracklets/{quote(tracklet.tracklet_id, safe='/')}"
        return f"{base}/crop", f"{base}/clip" if self._recording(tracklet) is not None else None

    def crop(self, caller: Caller, tracklet_id: str, opened: bool = False) -> bytes:
        """The best crop of a tracklet, as the JPEG that was stored.

        That somebody saw it is recorded, unless a search of theirs that was recorded has just shown it.

        Args:
            caller: who asks.
            tracklet_id: of what.
            opened: it is to be looked at by itself, which is recorded in any case.

        Raises:
            NotFound: there is none (any more), or the caller may not see its camera: the same error.
        """
        from ingest.shards import ShardError

        tracklet = self._gallery.tracklet(caller, tracklet_id)
        if tracklet.best_crop_offset is None or tracklet.best_crop_length is None:
            raise NotFound(f"tracklet {tracklet_id[:200]!r} has no crop")
        try:
            content = self._shard(tracklet).read_jpeg(tracklet.best_crop_offset, tracklet.best_crop_length)
        except ShardError:
            raise NotFound(f"the crop of tracklet {tracklet_id[:200]!r} is gone; it was erased or replaced") from None
        self._record_look(caller, "crop", tracklet, _OPENED if opened else _THUMBNAIL)
        return content

    def clip(self, caller: Caller, tracklet_id: str) -> bytes:
        """A clip of the recording round a tracklet, MP4; see `wanted_clip`."""
        wanted = self.wanted_clip(caller, tracklet_id)
        return wanted.ready or wanted.cut()

    def wanted_clip(self, caller: Caller, tracklet_id: str) -> WantedClip:
        """A clip of the recording round a tracklet, which takes a while to cut unless it is ready.

        Raises:
            NotFound: as `crop`; or clips are off, or the recording is gone.
        """
        tracklet, key, _ = self._to_cut(caller, tracklet_id)
        ready = self._clips.find(key)
        if ready is not None:
            self._record_look(caller, "clip", tracklet, _CLIP)
        return WantedClip(ready, partial(self._cut, caller, tracklet_id))

    def _cut(self, caller: Caller, tracklet_id: str) -> bytes:
        # Looked up again: it may have waited, and somebody may have been erased meanwhile, or while it is cut.
        while True:
            tracklet, key, request = self._to_cut(caller, tracklet_id)
            content = self._clips.get(key, partial(cut_clip, request))
            if self._to_cut(caller, tracklet_id)[1] == key:
                self._record_look(caller, "clip", tracklet, _CLIP)
                return content

    def _to_cut(self, caller: Caller, tracklet_id: str) -> tuple[StoredTracklet, tuple[object, ...], ClipRequest]:
        """Of what a clip is to be cut, the key that it is kept by, and how."""
        erasures = self.drop_clips()  # before anything is read that they change
        tracklet = self._gallery.tracklet(caller, tracklet_id)
        site = self._gallery.current_site()
        if not site.clips.enabled:
            raise NotFound(f"clips are off for this site; set 'clips: {{enabled: true}}' in {site.file.name}")
        recording = self._recording(tracklet)
        camera = next((camera for camera in site.cameras if camera.id == tracklet.camera_id), None)
        if recording is None or camera is None:
            raise NotFound("the recording this tracklet was cut from is gone; put it back to play clips")
        span = centred_span(tracklet.start_pts_s, tracklet.end_pts_s, site.clips.seconds)
        request = ClipRequest(
            recording=recording,
            start_s=span[0],
            end_s=span[1],
            mask=camera.mask,
            path=self._path(tracklet),
            max_width=self._gallery.settings.clip_max_width,
            sound_clock=self._shard(tracklet).sound_clock,
            erased=self._gallery.erased.regions(tracklet.recording_sha256),
        )
        # The mask and erasures are part of the key: a clip cut before must not be served after.
        return tracklet, (tracklet.shard, tracklet_id, span, recording, repr(camera.mask), erasures), request

    def training_report(self, caller: Caller, model_version: str, run_id: str | None) -> str:
        """The report of the training run that a model came from, HTML. It shows crops, so the look is recorded.

        Raises:
            NotFound: there is none.
            ErasuresUnreadable: nobody can say who was erased.
        """
        page = read_report(self._gallery.workspace, run_id, self._gallery.erased.recordings())
        if not self._recorded.has(caller.name, _REPORT, model_version):
            self._gallery.record(caller, "report", {"model_version": model_version, "training_run": run_id})
            self._recorded.add([(caller.name, _REPORT, model_version)])
        return page

    def shown(self, caller: Caller, tracklet_ids: Iterable[str]) -> None:
        """Note that a list of these was shown to somebody and recorded: its thumbnails need no entry of their own."""
        self._recorded.add((caller.name, _THUMBNAIL, tracklet_id) for tracklet_id in tracklet_ids)

    def drop_clips(self) -> tuple[int, ...]:
        """Forget the clips that were cut before somebody was erased; what `ErasedTracklets.stamp` is now."""
        stamp = self._gallery.erased.stamp()
        if stamp != self._clips_of:
            self._clips.clear()
            self._clips_of = stamp
        return stamp

    def record_look(self, caller: Caller, action: str, kind: str, thing: str, details: Mapping[str, Any]) -> None:
        """Record that somebody looks at a picture, before it is shown: what cannot be recorded is not looked at. Again
        within some minutes is the same look.

        Args:
            action: as the audit log has it.
            kind, thing: what tells the picture from all others.
            details: of the entry.
        """
        if self._recorded.has(caller.name, kind, thing):
            return
        self._gallery.record(caller, action, details)
        self._recorded.add([(caller.name, kind, thing)])

    def _record_look(self, caller: Caller, action: str, tracklet: StoredTracklet, kind: str) -> None:
        details = {"tracklet_id": tracklet.tracklet_id, "camera_id": tracklet.camera_id}
        self.record_look(caller, action, kind, tracklet.tracklet_id, details)

    def _shard(self, tracklet: StoredTracklet) -> Shard:
        from ingest.shards import open_shard

        return open_shard(self._gallery.workspace.shards / tracklet.shard)

    def _path(self, tracklet: StoredTracklet) -> list[tuple[float, float, float, float, float]]:
        from ingest.shards import ShardError

        try:
            table = self._shard(tracklet).tracklets()
        except ShardError:
            raise NotFound("the crops of this tracklet are gone; it was erased or replaced") from None
        names = table.column("tracklet_id").to_pylist()
        samples = table.column("path")[names.index(tracklet.tracklet_id)].as_py()
        return [(box["t"], box["x1"], box["y1"], box["x2"], box["y2"]) for box in samples]

    def _recording(self, tracklet: StoredTracklet) -> RecordingPath | None:
        """The recording's file, when clips are on and it still lies among the camera's, with the same content."""
        if not self._gallery.site.clips.enabled:
            return None
        return self._recordings.find(self._gallery.site, tracklet.camera_id, tracklet.recording_sha256)
