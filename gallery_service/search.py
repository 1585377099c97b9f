"""One served site: search by a crop or by a tracklet, the crops and clips of what was found, and the record of it all.

A running service notices a new index run, a promoted model and a changed site.yaml by itself: before every request it
compares one row, one small file and one modification time with what it has loaded.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gallery_service.audit.recently import Recently
from gallery_service.audit.trail import AuditTrail
from gallery_service.caller import Caller, Role
from gallery_service.clips import ClipCache, ClipRequest, centred_span, cut_clip
from gallery_service.databases.gallery import gallery_database
from gallery_service.erasure.erased_tracklets import ErasedTracklets
from gallery_service.errors import BadQuery, DatabaseUnavailable, NotFound, NotIndexed, SegmentError
from gallery_service.filters import SearchFilters, format_moment, make_filters
from gallery_service.investigations.refinement import Evidence
from gallery_service.investigations.repository import InvestigationRepository
from gallery_service.loaded_gallery import LoadedGallery, load_gallery
from gallery_service.model_versions import model_versions
from gallery_service.person_boxes import BoxProposer
from gallery_service.probability import probabilities
from gallery_service.query_pictures import QueryPicture, embed_person
from gallery_service.recall_probe import RecallProbe
from gallery_service.recent_queries import AskedQuery, RecentQueries
from gallery_service.repository import GalleryRepository, StoredTracklet, VisibleGallery
from gallery_service.schemas import CameraInfo, Match, PersonBoxes, SearchAnswer, SiteInfo, SiteSummary
from gallery_service.settings import ServiceSettings
from gallery_service.site_map import Picture, SiteMapPicture
from gallery_service.training_reports import read_report
from ingest.content_hash import RecordingFinder
from ingest.recording_file import RecordingPath
from ingest.site import SiteConfig, SiteError, load_site
from ingest.workspace import Workspace
from models.bundle import ModelStore

if TYPE_CHECKING:
    from ingest.shards import Shard
    from models.bundle import Bundle
    from models.embedder import Embedder

MAX_TOP_K = 2000
DEFAULT_TOP_K = 20
MAX_PURPOSE = 500
# Re-ranking compares the candidates with each other; fewer than this and they say little about one another.
_RERANK_CANDIDATES = 100
# A gallery that cannot be loaded is not tried again with every request, unless something changes.
_AFTER_FAILURE_S = 5.0
# Times what loading took, where that was long: while an index run adds shard after shard, it must not take up all time.
_PAUSE_AFTER_LOADING = 5.0

# Kinds of looks at a tracklet: in a list, by itself, moving; and at a training run's report.
_THUMBNAIL, _OPENED, _CLIP, _REPORT = "thumbnail", "opened", "clip", "report"

_log = logging.getLogger("gallery_service")


@dataclass(frozen=True)
class SearchRequest:
    """How a client asks, apart from what it looks for; see the search API in the design for the meaning.

    Attributes:
        top_k: 1 to `MAX_TOP_K`.
        cameras, exclude_cameras: camera ids, an entry may hold several separated by commas.
        since, until: RFC 3339 with offset.
        rerank: order the best candidates by k-reciprocal re-ranking; the score stays the cosine.
        min_quality: only tracklets whose best crop is at least that good, 0..1.
        purpose: why, for the record of searches.
        investigation: its id, when the search is part of one; for the record.
    """

    top_k: int = DEFAULT_TOP_K
    cameras: Sequence[str] = ()
    exclude_cameras: Sequence[str] = ()
    since: str | None = None
    until: str | None = None
    rerank: bool = False
    purpose: str | None = None
    min_quality: float | None = None
    investigation: str | None = None


@dataclass(frozen=True)
class WantedClip:
    """A clip somebody wants: `ready`, or to be had from `cut`, which raises NotFound where there is nothing to show."""

    ready: bytes | None
    cut: Callable[[], bytes]


class SiteSearch:
    """One site's gallery, ready to be asked. Safe to use from several threads.

    Args:
        site: from `ingest.site.load_site`.
        settings: limits.
        ref: how the site was named on the command line, for the commands that messages tell people to run.
    """

    def __init__(self, site: SiteConfig, settings: ServiceSettings, ref: str | None = None) -> None:
        self.settings = settings
        self._ref = ref or site.name
        self._site = site
        self._site_changed = site.file.stat().st_mtime_ns
        self._workspace = Workspace(site)
        self._erased = ErasedTracklets(self._workspace)
        self._clips = ClipCache(settings.clip_cache_bytes)
        self._clips_of: tuple[int, ...] | None = None
        self._hidden: tuple[weakref.ref[LoadedGallery], tuple[int, ...], NDArray[np.int64]] | None = None
        self._boxes = BoxProposer(settings.max_image_pixels)
        self._map = SiteMapPicture()
        self._recordings = RecordingFinder(self._workspace)
        self._recorded = Recently()
        self._repository: GalleryRepository | None = None
        self._database = gallery_database(self._workspace)
        self._opened: Hashable | None = None
        self._loaded: LoadedGallery | None = None
        self._look_again = 0.0
        self._tried: tuple[int, str | None] | None = None
        self._failed_until = 0.0
        self._opening = threading.Lock()
        self._refreshing = threading.Lock()
        self.embedding = threading.Lock()
        """Held while pictures from outside are decoded and embedded: the one thing that a client can make expensive."""
        self.recent_queries = RecentQueries()
        self.waiting = 0
        """Searches whose pictures wait to be embedded; a gauge, not exact under contention."""
        self.observe: Callable[[str, float], None] = lambda stage, seconds: None
        """Told how long a part of a search took."""
        self._probe = RecallProbe()

    @property
    def name(self) -> str:
        """The site's name."""
        return self._site.name

    @property
    def site(self) -> SiteConfig:
        """The site as site.yaml has it now."""
        return self._site

    @property
    def audit(self) -> AuditTrail:
        """Who did what at this site.

        Raises:
            NotIndexed: there is no gallery yet.
        """
        return self._open().audit

    def record(self, caller: Caller, action: str, details: Mapping[str, Any], purpose: str | None = None) -> None:
        """Write an entry of the audit log; see `GalleryRepository.record`."""
        self._open().record(caller, action, details, purpose)

    def close(self) -> None:
        """Close the database."""
        if self._repository is not None:
            self._repository.close()
        self._database.close()

    # Searching.

    def search_image(
        self, caller: Caller, image: bytes, request: SearchRequest, what: str = "the uploaded image"
    ) -> SearchAnswer:
        """Find the tracklets that look like the person in an image; see `search_pictures`."""
        return self.search_pictures(caller, [QueryPicture(image)], request, what)

    def search_pictures(
        self,
        caller: Caller,
        pictures: Sequence[QueryPicture],
        request: SearchRequest,
        what: str = "the uploaded image",
    ) -> SearchAnswer:
        """Find the tracklets that look like the person in some pictures.

        Args:
            caller: who asks; only what they may see is found.
            pictures: of one person, at least one. They are not kept.
            request: filters and bounds.
            what: how an error names a picture.

        Raises:
            ImageError: the bytes are not an image that is accepted.
            GalleryError: a filter is wrong, or the site has no gallery yet.
        """
        gallery = self.refresh()
        filters = self._filters(caller, gallery, request)
        self.waiting += 1
        try:
            with self._timed("wait"):
                self.embedding.acquire()
        finally:
            self.waiting -= 1
        try:
            query = embed_person(gallery.embedder, pictures, what, self.settings.max_image_pixels, self._timed)
        finally:
            self.embedding.release()
        return self._answer(caller, gallery, query, request, filters, pictures=pictures)

    def search_tracklet(self, caller: Caller, tracklet_id: str, request: SearchRequest) -> SearchAnswer:
        """Find the tracklets that look like a tracklet of the gallery, which itself is left out.

        Raises:
            GalleryError: there is no such tracklet, a filter is wrong, or the site has no gallery yet.
        """
        gallery = self.refresh()
        filters = self._filters(caller, gallery, request, [tracklet_id])
        tracklet = self._stored(caller, tracklet_id)
        row = gallery.row(tracklet)
        if row is None:
            raise NotFound(self._no_tracklet(tracklet_id))
        query = gallery.index.vectors(np.array([row], np.int64))[0]
        return self._answer(caller, gallery, query, request, filters, tracklet=tracklet)

    def search_evidence(
        self, caller: Caller, gallery: LoadedGallery, evidence: Evidence, request: SearchRequest, known: Sequence[str]
    ) -> SearchAnswer:
        """Find the tracklets that look like somebody of whom more is known than one picture.

        Args:
            caller: who asks; only what they may see is found.
            gallery: from `refresh`, whose model the evidence is of.
            evidence: vectors.
            request: filters and bounds.
            known: tracklets to leave out, since somebody has decided about them.

        Raises:
            GalleryError: a filter is wrong.
        """
        filters = self._filters(caller, gallery, request, known)
        return self._answer(caller, gallery, evidence.prototype(), request, filters, evidence=evidence)

    def propose_boxes(self, frame: bytes) -> PersonBoxes:
        """Where people stand in a frame, so that one of them can be searched for; see `BoxProposer.propose`."""
        site = self.current_site()
        return self._boxes.propose(frame, site.detector, site.folder)

    def _filters(
        self, caller: Caller, gallery: LoadedGallery, request: SearchRequest, exclude_tracklets: Iterable[str] = ()
    ) -> SearchFilters:
        if not 1 <= request.top_k <= MAX_TOP_K:
            raise BadQuery(f"top_k is {request.top_k}; ask for 1 to {MAX_TOP_K}")
        if request.purpose is not None and len(request.purpose) > MAX_PURPOSE:
            raise BadQuery(f"purpose is longer than {MAX_PURPOSE} characters; shorten it")
        if self._site.audit.purpose == "required" and not (request.purpose or "").strip():
            raise BadQuery("purpose: this site wants to know why somebody searches; say it, such as with a case number")
        known = dict.fromkeys([*(camera.id for camera in self._site.cameras), *gallery.columns.camera_ids])
        seen = [camera_id for camera_id in known if caller.sees(self.name, camera_id)]
        return make_filters(
            seen,
            request.cameras,
            request.exclude_cameras,
            request.since,
            request.until,
            request.min_quality,
            exclude_tracklets,
        )

    def _findable(self, caller: Caller, gallery: LoadedGallery, filters: SearchFilters) -> NDArray[np.bool_] | None:
        """Which rows a search may find: what the filters and the caller's rights let through, without who was erased
        since the gallery was loaded."""
        allowed = gallery.columns.allowed(filters, caller.cameras(self.name))
        stamp = self._erased.stamp()
        known = self._hidden
        if known is None or known[0]() is not gallery or known[1] != stamp:
            rows = (gallery.columns.row(name) for name in self._open().erased_tracklets())
            # Weakly: a gallery that another has taken the place of must not stay in memory.
            known = weakref.ref(gallery), stamp, np.array([row for row in rows if row is not None], np.int64)
            self._hidden = known
        if not len(known[2]):
            return allowed
        allowed = np.ones(len(gallery.index), np.bool_) if allowed is None else allowed
        allowed[known[2]] = False
        return allowed

    def _answer(
        self,
        caller: Caller,
        gallery: LoadedGallery,
        query: NDArray[np.float32],
        request: SearchRequest,
        filters: SearchFilters,
        pictures: Sequence[QueryPicture] = (),
        tracklet: StoredTracklet | None = None,
        evidence: Evidence | None = None,
    ) -> SearchAnswer:
        reorders = request.rerank or evidence is not None
        wanted = max(request.top_k, _RERANK_CANDIDATES) if reorders else request.top_k
        with self._timed("search"):
            allowed = self._findable(caller, gallery, filters)
            rows, scores = gallery.index.search(query, wanted, allowed)
        if reorders and len(rows) > 1:
            candidates = gallery.index.vectors(rows)
            order = (
                _rerank_order(query, candidates) if evidence is None or request.rerank else evidence.order(candidates)
            )
            rows, scores = rows[order], scores[order]
        rows, scores = rows[: request.top_k], scores[: request.top_k]
        found = [(gallery.columns.tracklet_ids[row], gallery.shards[row]) for row in rows]
        with self._timed("rows"):
            stored = self.visible(caller).tracklets([tracklet_id for tracklet_id, _ in found])
        own_row = None if tracklet is None else gallery.row(tracklet)
        likely = probabilities(gallery, query, rows, scores, caller.cameras(self.name), own_row)
        query_id, asked_at = uuid.uuid4().hex, time.time_ns() // 1000
        asked = json.dumps(
            {
                "cameras": sorted(filters.cameras),
                "exclude_cameras": sorted(filters.exclude_cameras),
                "since": format_moment(filters.since),
                "until": format_moment(filters.until),
                "min_quality": filters.min_quality,
                "top_k": request.top_k,
                "rerank": request.rerank,
                "investigation": request.investigation,
            },
            sort_keys=True,
        )
        answer = SearchAnswer(
            query_id=query_id,
            site=self.name,
            model_version=gallery.bundle.version,
            matches=[
                self._match(stored[tracklet_id], float(score), probability)
                for (tracklet_id, shard), score, probability in zip(found, scores, likely, strict=True)
                # Else forgotten, or its id was given to another, since the index was loaded.
                if tracklet_id in stored and stored[tracklet_id].shard == shard
            ],
            notice=self._notice(gallery),
        )
        shown = [match.tracklet_id for match in answer.matches]
        # Before anything is shown: a search that cannot be recorded does not happen.
        self._open().record(
            caller,
            "search",
            {
                "query_id": query_id,
                "model_version": gallery.bundle.version,
                "query_image_sha256": [picture.fingerprint for picture in pictures],
                "query_tracklet_id": None if tracklet is None else tracklet.tracklet_id,
                "filters": json.loads(asked),
                "shown": shown,
            },
            request.purpose,
        )
        self._recorded.add((caller.name, _THUMBNAIL, tracklet_id) for tracklet_id in shown)
        self.recent_queries.keep(
            AskedQuery(
                query_id=query_id,
                kind="refined" if evidence is not None else "image" if tracklet is None else "tracklet",
                asked_by=caller.name,
                asked_at=asked_at,
                model_version=gallery.bundle.version,
                vector=query,
                pictures=len(pictures),
                tracklet=tracklet,
                filters=asked,
            )
        )
        return answer

    def _match(self, tracklet: StoredTracklet, score: float, probability: float | None) -> Match:
        crop_url, clip_url = self.links(tracklet)
        return Match(
            tracklet_id=tracklet.tracklet_id,
            camera_id=tracklet.camera_id,
            first_seen=format_moment(tracklet.first_seen),
            last_seen=format_moment(tracklet.last_seen),
            score=round(score, 6),
            probability=probability,
            crop_url=crop_url,
            clip_url=clip_url,
        )

    def links(self, tracklet: StoredTracklet) -> tuple[str, str | None]:
        """Where a tracklet's crop is, and its clip: None when clips are off or the recording is gone."""
        base = f"/api/v1/sites/{self.name}/tracklets/{quote(tracklet.tracklet_id, safe='/')}"
        return f"{base}/crop", f"{base}/clip" if self._recording(tracklet) is not None else None

    def _notice(self, gallery: LoadedGallery) -> str | None:
        command = f"python -m gallery_service index {self._ref}"
        if gallery.current_model not in (None, gallery.bundle.version):
            return (
                f"Model {gallery.current_model} is live but has not indexed this site yet; this answer is from "
                f"{gallery.bundle.version}. Run '{command}'."
            )
        if gallery.left_out:
            return f"{gallery.left_out} tracklets are not searchable yet. Run '{command}'."
        if len(self._site.cameras) == 1:
            return "This site has one camera. Finding a person in another camera needs at least two."
        return None

    # What is shown of a match.

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

        tracklet = self._stored(caller, tracklet_id)
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

    def recent_query(self, caller: Caller, query_id: str) -> AskedQuery | None:
        """A search that this caller made a moment ago, unless it started from somebody who was erased since."""
        asked = self.recent_queries.get(query_id, caller.name)
        started_from = None if asked is None else asked.tracklet
        return None if started_from is not None and self._erased.among([started_from]) else asked

    def wanted_clip(self, caller: Caller, tracklet_id: str) -> WantedClip:
        """A clip of the recording round a tracklet, which takes a while to cut unless it is ready.

        Raises:
            NotFound: as `crop`; or clips are off, or the recording is gone.
        """
        tracklet = self._stored(caller, tracklet_id)
        site = self.current_site()
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
            max_width=self.settings.clip_max_width,
            sound_clock=self._shard(tracklet).sound_clock,
            erased=self._erased.regions(tracklet.recording_sha256),
        )
        # The mask and erasures are part of the key: a clip cut before must not be served after.
        erasures = self._drop_clips()
        key = (tracklet.shard, tracklet_id, span, recording, repr(camera.mask), erasures)

        def cut() -> bytes:
            content = self._clips.get(key, lambda: cut_clip(request))
            self._record_look(caller, "clip", tracklet, _CLIP)
            return content

        ready = self._clips.find(key)
        if ready is not None:
            self._record_look(caller, "clip", tracklet, _CLIP)
        return WantedClip(ready, cut)

    def training_report(self, caller: Caller, model_version: str, run_id: str | None) -> str:
        """The report of the training run that a model came from, HTML. It shows crops, so the look is recorded.

        Raises:
            NotFound: there is none.
            ErasuresUnreadable: nobody can say who was erased.
        """
        page = read_report(self._workspace, run_id, self._erased.recordings())
        if not self._recorded.has(caller.name, _REPORT, model_version):
            self.record(caller, "report", {"model_version": model_version, "training_run": run_id})
            self._recorded.add([(caller.name, _REPORT, model_version)])
        return page

    def _record_look(self, caller: Caller, action: str, tracklet: StoredTracklet, kind: str) -> None:
        """Before it is shown: what cannot be recorded is not looked at."""
        if self._recorded.has(caller.name, kind, tracklet.tracklet_id):
            return
        details = {"tracklet_id": tracklet.tracklet_id, "camera_id": tracklet.camera_id}
        self._open().record(caller, action, details)
        self._recorded.add([(caller.name, kind, tracklet.tracklet_id)])

    def visible(self, caller: Caller) -> VisibleGallery:
        """The gallery's rows as a caller sees them.

        Raises:
            NotIndexed: there is no gallery yet.
        """
        return self._open().seen_by(caller.cameras(self.name))

    def _stored(self, caller: Caller, tracklet_id: str) -> StoredTracklet:
        """A tracklet that the caller may look at: of their cameras, and where they only view, of an investigation."""
        found = self.visible(caller).tracklets([tracklet_id]).get(tracklet_id)
        if found is None or not (caller.may(Role.INVESTIGATOR) or self._is_investigated(caller, found)):
            raise NotFound(self._no_tracklet(tracklet_id))
        return found

    def _is_investigated(self, caller: Caller, tracklet: StoredTracklet) -> bool:
        return InvestigationRepository(self.database(), caller, self.name, self.audit).names(tracklet)

    def _no_tracklet(self, tracklet_id: str) -> str:
        return f"site '{self.name}' has no tracklet {tracklet_id[:200]!r}; it may have been erased or ingested anew"

    def _shard(self, tracklet: StoredTracklet) -> Shard:
        from ingest.shards import open_shard

        return open_shard(self._workspace.shards / tracklet.shard)

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
        if not self._site.clips.enabled:
            return None
        return self._recordings.find(self._site, tracklet.camera_id, tracklet.recording_sha256)

    # What the site is.

    def current_site(self) -> SiteConfig:
        """The site, read again where site.yaml has changed."""
        with self._refreshing:
            self._reread_site()
            return self._site

    @property
    def map_url(self) -> str | None:
        """Where the map of the site is; None when it has none."""
        return f"/api/v1/sites/{self.name}/map" if self._site.map else None

    def map_picture(self) -> Picture:
        """The map of the site; see `SiteMapPicture.read`."""
        return self._map.read(self.current_site())

    def info(self, caller: Caller) -> SiteInfo:
        """Cameras, counts, times and model, as far as the caller sees the site.

        Raises:
            NotIndexed: there is no gallery yet.
        """
        gallery = self.refresh()
        seen = self.visible(caller).cameras()
        held = {camera.camera_id: camera for camera in seen}
        site = self._site
        written = {camera.id: camera for camera in site.cameras}
        cameras = []
        for camera_id in gallery.columns.camera_ids:
            if not caller.sees(self.name, camera_id):
                continue
            camera, placed = held.get(camera_id), written.get(camera_id)
            cameras.append(
                CameraInfo(
                    camera_id=camera_id,
                    tracklets=camera.tracklets if camera else 0,
                    crops=camera.crops if camera else 0,
                    first_seen=format_moment(camera.first_seen) if camera else None,
                    last_seen=format_moment(camera.last_seen) if camera else None,
                    position=placed.position if placed else None,
                    heading=placed.heading if placed else None,
                )
            )
        return SiteInfo(
            site=self.name,
            timezone=self._site.timezone,
            model_version=gallery.bundle.version,
            cameras=cameras,
            tracklets=sum(camera.tracklets for camera in cameras),
            crops=sum(camera.crops for camera in cameras),
            first_seen=format_moment(min((one.first_seen for one in seen if one.first_seen is not None), default=None)),
            last_seen=format_moment(max((one.last_seen for one in seen if one.last_seen is not None), default=None)),
            clips=site.clips.enabled,
            purpose_required=site.audit.purpose == "required",
            map_url=self.map_url,
            proposes_boxes=site.detector.weights is not None,
            notice=self._notice(gallery),
        )

    def summary(self, caller: Caller) -> SiteSummary:
        """The site in one line, also while it cannot be searched."""
        try:
            info = self.info(caller)
        except NotIndexed:
            cameras = sum(caller.sees(self.name, camera.id) for camera in self._site.cameras)
            return SiteSummary(site=self.name, cameras=cameras, tracklets=0, model_version=None)
        return SiteSummary(
            site=self.name, cameras=len(info.cameras), tracklets=info.tracklets, model_version=info.model_version
        )

    @property
    def searchable_tracklets(self) -> int:
        """How many tracklets the loaded index holds."""
        return 0 if self._loaded is None else len(self._loaded.index)

    @property
    def answering(self) -> tuple[str, str] | None:
        """The loaded model's version and what it runs on."""
        loaded = self._loaded
        return None if loaded is None else (loaded.bundle.version, loaded.embedder.provider)

    def recall(self) -> float:
        """Recall@10 of the index, probed now and then; NaN while nothing can be searched."""
        return float("nan") if self._loaded is None else self._probe.recall(self._loaded)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(stage, time.perf_counter() - began)

    # Keeping up with what changes on disk.

    def keep_up(self) -> None:
        """Let go of what was erased, and load the gallery anew when it has changed, without anybody asking.

        Raises:
            ErasuresUnreadable: nobody can say who was erased.
        """
        self._drop_clips()
        self.recent_queries.forget(self._erased.among)
        with suppress(NotIndexed):  # whoever asks is told
            self.refresh()

    def _drop_clips(self) -> tuple[int, ...]:
        """Forget the clips that were cut before somebody was erased; what `ErasedTracklets.stamp` is now."""
        stamp = self._erased.stamp()
        if stamp != self._clips_of:
            self._clips.clear()
            self._clips_of = stamp
        return stamp

    def refresh(self) -> LoadedGallery:
        """What can be searched now, loaded anew when it has changed.

        Raises:
            NotIndexed: the site has no gallery yet; the message names the command to run.
            DatabaseUnavailable: its rows cannot be reached.
        """
        with self._refreshing:
            self._reread_site()
            loaded = self._loaded
            if loaded is not None and time.monotonic() < self._look_again:
                return loaded
            started = time.monotonic()
            try:
                self._loaded = loaded = self._load()
            except (NotIndexed, DatabaseUnavailable):
                raise
            except (ValueError, OSError, SQLAlchemyError) as error:
                # A segment that vanished under a running index command, a model or a database that was damaged since:
                # what is loaded is whole.
                if loaded is None:
                    raise NotIndexed(f"site '{self.name}' cannot be searched: {error}") from None
                _log.warning("keeping the gallery loaded before: %s", error)
                self._failed_until = time.monotonic() + _AFTER_FAILURE_S
            took = time.monotonic() - started
            if took > 1:
                self._look_again = time.monotonic() + _PAUSE_AFTER_LOADING * took
            return loaded

    def _load(self) -> LoadedGallery:
        """The gallery as it is on disk now: the loaded one where that has not changed."""
        repository = self._open()
        current = ModelStore(self._workspace.models).current_version()
        loaded, state = self._loaded, (repository.generation(), current)
        if loaded is not None:
            unchanged = state == (loaded.generation, loaded.current_model)
            if unchanged or (state == self._tried and time.monotonic() < self._failed_until):
                return loaded
        self._tried = state
        version = model_versions(ModelStore(self._workspace.models), repository).serving
        if version is None:
            raise NotIndexed(self._no_gallery())
        previous = self._loaded
        if previous is not None and previous.bundle.version == version:
            bundle, embedder = previous.bundle, previous.embedder
        else:
            bundle, embedder = self._load_model(version)
        cameras = [camera.id for camera in self._site.cameras]
        while True:
            try:
                return load_gallery(
                    self._workspace.gallery, repository, bundle, embedder, cameras, current, before=previous
                )
            except SegmentError as error:
                # Replaced by a compaction since the rows were read, or damaged: then the rest is searched on, and the
                # index command makes it again.
                if repository.remove_segments([error.name]):
                    _log.warning("%s", error)

    def _load_model(self, version: str) -> tuple[Bundle, Embedder]:
        from models.embedder import Embedder

        bundle = ModelStore(self._workspace.models).load(version)
        return bundle, Embedder(bundle, threads=self.settings.threads)

    def database(self) -> Engine:
        """The site's database, for what is kept beside the gallery.

        Raises:
            NotIndexed: there is no gallery yet.
        """
        return self._open().engine

    def _open(self) -> GalleryRepository:
        with self._opening:
            identity = self._database.identity()
            if identity is None:
                raise NotIndexed(self._no_gallery())
            # A gallery that was moved away or put back from a backup is another one, whatever its rows count.
            if self._repository is None or self._opened != identity:
                if self._repository is not None:
                    self._repository.close()
                self._repository, self._loaded = GalleryRepository(self._database.open(), self._erased), None
                self._opened = identity
            return self._repository

    def _no_gallery(self) -> str:
        return f"site '{self.name}' has no gallery yet: run 'python -m gallery_service index {self._ref}'"

    def _reread_site(self) -> None:
        """Take up a changed site.yaml: a mask drawn or clips turned off must hold from now on, not from a restart."""
        try:
            changed = self._site.file.stat().st_mtime_ns
            if changed == self._site_changed:
                return
            self._site_changed = changed
            site = load_site(str(self._site.folder))
        except (OSError, SiteError) as error:
            _log.warning("keeping the site as it was read before: %s", error)
            return
        if site.name == self._site.name:
            self._site = site


def _rerank_order(query: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.int64]:
    from models.matching.rerank import k_reciprocal_rerank

    distance = np.asarray(k_reciprocal_rerank(query[None], candidates))[0]
    # Stable: equals keep the order of their cosines.
    return np.argsort(np.round(distance, 6), kind="stable")
