"""Search one site by pictures of a person, by a tracklet or by what an investigation knows; each is recorded."""

from __future__ import annotations

import json
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gallery_service.caller import Caller
from gallery_service.errors import BadQuery, NotFound, NotIndexed
from gallery_service.investigations.refinement import Evidence
from gallery_service.pictures.site_map import SiteMapPicture
from gallery_service.pictures.tracklet_pictures import TrackletPictures
from gallery_service.schemas import Match, PersonBoxes, SearchAnswer
from gallery_service.search.filters import SearchFilters, format_moment, make_filters
from gallery_service.search.live_gallery import LiveGallery
from gallery_service.search.loaded_gallery import LoadedGallery
from gallery_service.search.person_boxes import BoxProposer
from gallery_service.search.probability import probabilities
from gallery_service.search.query_pictures import QueryPicture, embed_person
from gallery_service.search.recent_queries import AskedQuery, RecentQueries
from gallery_service.search.site_info import notice
from gallery_service.settings import ServiceSettings
from gallery_service.storage.repository import StoredTracklet
from ingest.site import SiteConfig

MAX_TOP_K = 2000
DEFAULT_TOP_K = 20
MAX_PURPOSE = 500
# Re-ranking compares the candidates with each other; fewer than this and they say little about one another.
_RERANK_CANDIDATES = 100


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
class _Found:
    """What a search has found in one gallery.

    Attributes:
        query: what was searched for, float32 (D,).
        filters: what was searched.
        rows, scores: of the gallery, the best first.
        stored: who they are; None for one that is gone, or whose id was given to another, since the gallery was loaded.
        tracklet: that was searched for, if it was one.
        own_cameras: that saw what was searched for, as far as that is known.
    """

    gallery: LoadedGallery
    query: NDArray[np.float32]
    filters: SearchFilters
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    stored: list[StoredTracklet | None]
    tracklet: StoredTracklet | None
    own_cameras: Collection[str]


class SiteSearch(LiveGallery):
    """One site's gallery, ready to be asked. Safe to use from several threads; for the arguments see `LiveGallery`.

    Attributes:
        pictures: crops and clips of what is found.
        map: of the site.
        embedding: held while pictures from outside are decoded and embedded: the one thing that a client can make
            expensive.
        waiting: searches whose pictures wait to be embedded; a gauge, not exact under contention.
        observe: told how long a part of a search took.
        recent_queries: what was asked a moment ago, for an investigation that takes it up.
    """

    def __init__(self, site: SiteConfig, settings: ServiceSettings, ref: str | None = None) -> None:
        super().__init__(site, settings, ref)
        self.pictures = TrackletPictures(self)
        self.map = SiteMapPicture()
        self.embedding = threading.Lock()
        self.waiting = 0
        self.observe: Callable[[str, float], None] = lambda stage, seconds: None
        self.recent_queries = RecentQueries()
        self._boxes = BoxProposer(settings.max_image_pixels)
        self._hidden: tuple[weakref.ref[LoadedGallery], tuple[int, ...], NDArray[np.int64]] | None = None

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
        queries: dict[str, NDArray[np.float32]] = {}

        def search(gallery: LoadedGallery) -> _Found:
            filters = self._filters(caller, gallery, request)
            version = gallery.bundle.version
            if version not in queries:
                queries[version] = self._embedded(gallery, pictures, what)
            return self._find(caller, gallery, queries[version], request, filters)

        found = self._up_to_date(self.refresh(), search)
        assert found is not None
        return self._answer(caller, found, request, pictures=pictures)

    def _embedded(self, gallery: LoadedGallery, pictures: Sequence[QueryPicture], what: str) -> NDArray[np.float32]:
        self.waiting += 1
        try:
            with self._timed("wait"):
                self.embedding.acquire()
        finally:
            self.waiting -= 1
        try:
            return embed_person(gallery.embedder, pictures, what, self.settings.max_image_pixels, self._timed)
        finally:
            self.embedding.release()

    def search_tracklet(self, caller: Caller, tracklet_id: str, request: SearchRequest) -> SearchAnswer:
        """Find the tracklets that look like a tracklet of the gallery, which itself is left out.

        Raises:
            GalleryError: there is no such tracklet, a filter is wrong, or the site has no gallery yet.
        """

        def search(gallery: LoadedGallery) -> _Found | None:
            filters = self._filters(caller, gallery, request, [tracklet_id])
            tracklet = self.tracklet(caller, tracklet_id)
            row = gallery.row(tracklet)
            if row is None:
                return None
            query = gallery.index.vectors(np.array([row], np.int64))[0]
            return self._find(
                caller, gallery, query, request, filters, tracklet=tracklet, own_cameras=[tracklet.camera_id]
            )

        found = self._up_to_date(self.refresh(), search)
        if found is None:
            raise NotFound(self.no_tracklet(tracklet_id))
        return self._answer(caller, found, request)

    def search_evidence(
        self,
        caller: Caller,
        gallery: LoadedGallery,
        evidence: Evidence,
        request: SearchRequest,
        known: Sequence[str],
        cameras: Collection[str],
    ) -> SearchAnswer:
        """Find the tracklets that look like somebody of whom more is known than one picture.

        Args:
            caller: who asks; only what they may see is found.
            gallery: from `refresh`, whose model the evidence is of.
            evidence: vectors.
            request: filters and bounds.
            known: tracklets to leave out, since somebody has decided about them.
            cameras: that saw what the evidence shows, as far as that is known.

        Raises:
            GalleryError: a filter is wrong.
        """
        query = evidence.prototype()

        def search(current: LoadedGallery) -> _Found:
            if current.bundle.version != gallery.bundle.version:
                current = gallery  # the evidence says nothing to another model
            filters = self._filters(caller, current, request, known)
            return self._find(caller, current, query, request, filters, evidence, own_cameras=cameras)

        found = self._up_to_date(gallery, search)
        assert found is not None
        return self._answer(caller, found, request)

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
        stamp = self.erased.stamp()
        known = self._hidden
        if known is None or known[0]() is not gallery or known[1] != stamp:
            rows = (gallery.columns.row(name) for name in self.repository().erased_tracklets())
            # Weakly: a gallery that another has taken the place of must not stay in memory.
            known = weakref.ref(gallery), stamp, np.array([row for row in rows if row is not None], np.int64)
            self._hidden = known
        if not len(known[2]):
            return allowed
        allowed = np.ones(len(gallery.index), np.bool_) if allowed is None else allowed
        allowed[known[2]] = False
        return allowed

    def _up_to_date(self, gallery: LoadedGallery, search: Callable[[LoadedGallery], _Found | None]) -> _Found | None:
        """What a search finds; in the gallery of now, where this one turns out to be outdated: there, who is gone takes
        up a place, and who has a new shard is not recognised.

        Args:
            gallery: to search first.
            search: None when the gallery lacks what is searched for.
        """
        found = search(gallery)
        if found is not None and None not in found.stored:
            return found
        # Also where it stays the same one: trying to load may take a while, in which somebody may be erased.
        return search(self.refresh(outdated=True))

    def _find(
        self,
        caller: Caller,
        gallery: LoadedGallery,
        query: NDArray[np.float32],
        request: SearchRequest,
        filters: SearchFilters,
        evidence: Evidence | None = None,
        tracklet: StoredTracklet | None = None,
        own_cameras: Collection[str] = (),
    ) -> _Found:
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
        ids = [gallery.columns.tracklet_ids[row] for row in rows]
        with self._timed("rows"):
            known = self.visible(caller).tracklets(ids)
        stored = [
            known[tracklet_id] if tracklet_id in known and known[tracklet_id].shard == gallery.shards[row] else None
            for tracklet_id, row in zip(ids, rows, strict=True)
        ]
        return _Found(gallery, query, filters, rows, scores, stored, tracklet, own_cameras)

    def _answer(
        self,
        caller: Caller,
        found: _Found,
        request: SearchRequest,
        pictures: Sequence[QueryPicture] = (),
    ) -> SearchAnswer:
        gallery, filters, tracklet = found.gallery, found.filters, found.tracklet
        seen = caller.cameras(self.name)
        likely = probabilities(gallery, found.query, found.rows, found.scores, seen, found.own_cameras)
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
                self._match(stored, float(score), probability)
                for stored, score, probability in zip(found.stored, found.scores, likely, strict=True)
                if stored is not None
            ],
            notice=notice(self, gallery),
        )
        shown = [match.tracklet_id for match in answer.matches]
        # Before anything is shown: a search that cannot be recorded does not happen.
        self.record(
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
        self.pictures.shown(caller, shown)
        self.recent_queries.keep(
            AskedQuery(
                query_id=query_id,
                kind="image" if pictures else "refined" if tracklet is None else "tracklet",
                asked_by=caller.name,
                asked_at=asked_at,
                model_version=gallery.bundle.version,
                vector=found.query,
                pictures=len(pictures),
                tracklet=tracklet,
                filters=asked,
            )
        )
        return answer

    def _match(self, tracklet: StoredTracklet, score: float, probability: float | None) -> Match:
        crop_url, clip_url = self.pictures.links(tracklet)
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

    def recent_query(self, caller: Caller, query_id: str) -> AskedQuery | None:
        """A search that this caller made a moment ago, unless it started from somebody who was erased since, or of a
        camera that they may no longer see."""
        asked = self.recent_queries.get(query_id, caller.name)
        if asked is None or asked.tracklet is None:
            return asked
        there = caller.sees(self.name, asked.tracklet.camera_id) and not self.erased.among([asked.tracklet])
        return asked if there else None

    def keep_up(self) -> None:
        """Let go of what was erased, and load the gallery anew when it has changed, without anybody asking.

        Raises:
            ErasuresUnreadable: nobody can say who was erased.
        """
        self.pictures.drop_clips()
        self.recent_queries.forget(self.erased.among)
        with suppress(NotIndexed):  # whoever asks is told
            self.refresh()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(stage, time.perf_counter() - began)


def _rerank_order(query: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.int64]:
    from models.matching.rerank import k_reciprocal_rerank

    distance = np.asarray(k_reciprocal_rerank(query[None], candidates))[0]
    # Stable: equals keep the order of their cosines.
    return np.argsort(np.round(distance, 6), kind="stable")
