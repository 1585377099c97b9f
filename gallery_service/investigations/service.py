"""Investigations of one site on behalf of one caller: what may be done, and how rows become answers."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gallery_service.caller import Caller, Role
from gallery_service.errors import BadQuery, Conflict, Forbidden, NotFound
from gallery_service.investigations import schemas
from gallery_service.investigations.export import write_export
from gallery_service.investigations.refinement import Evidence
from gallery_service.investigations.repository import Case, InvestigationRepository
from gallery_service.investigations.tables import HitRow, QueryRow
from gallery_service.investigations.timeline import Placed, Seen, moves, place
from gallery_service.schemas import SearchAnswer
from gallery_service.search.filters import format_moment
from gallery_service.search.loaded_gallery import LoadedGallery
from gallery_service.search.query_pictures import QueryPicture, embed_person
from gallery_service.search.recent_queries import AskedQuery
from gallery_service.search.site_info import map_url
from gallery_service.search.site_search import SearchRequest, SiteSearch
from gallery_service.storage.repository import StoredTracklet
from ingest.site import Camera
from models.images import encode_jpeg

DEFAULT_PAGE = 50
MAX_PAGE = 200
# Of a kept query picture; the model looks at less.
_KEPT_SIDE = 768


class Investigations:
    """The investigations that a caller may see at a site.

    Args:
        site: where.
        caller: who asks.
    """

    def __init__(self, site: SiteSearch, caller: Caller) -> None:
        self._site = site
        self._caller = caller
        self._repository = InvestigationRepository(site.database(), caller, site.name, site.audit, site.erased)

    # Whole investigations.

    def begin(self, new: schemas.NewInvestigation) -> tuple[schemas.Investigation, bool]:
        """Begin an investigation; with an id that is there already, that one and False.

        Raises:
            Forbidden: the caller is no investigator.
        """
        if not self._caller.may(Role.INVESTIGATOR):
            raise Forbidden("only investigators and admins begin investigations; ask one of them to share one with you")
        now = _now()
        wanted = new.investigation_id or uuid.uuid4().hex
        columns = {
            "investigation_id": wanted,
            "title": new.title,
            "purpose": new.purpose,
            "notes": new.notes,
            "status": "open",
            "created_by": self._caller.name,
            "created_at": now,
            "changed_at": now,
        }
        added = self._repository.add(columns)
        return self.get(wanted), added

    def get(self, investigation_id: str) -> schemas.Investigation:
        """An investigation with its queries and hits.

        Raises:
            NotFound: there is none, or the caller may not see it.
        """
        case = self._repository.get(investigation_id)
        queries = self._repository.queries(investigation_id)
        hits = self._repository.hits(investigation_id)
        present = self._present([*hits, *(query for query, _ in queries)])
        return schemas.Investigation(
            **self._summary(case).model_dump(),
            notes=case.row.notes,
            revision=case.revision,
            query_list=[self._query(investigation_id, row, kept, present) for row, kept in queries],
            hits=[self._hit(row, present) for row in hits],
        )

    def page(self, status: str | None, cursor: str | None, limit: int) -> schemas.InvestigationPage:
        """Some investigations, the newest first.

        Args:
            status: only these; None: all.
            cursor: `next` of the page before.
            limit: at most this many, up to `MAX_PAGE`.

        Raises:
            BadQuery: the cursor is none.
        """
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 16):
            raise BadQuery(f"cursor: {cursor[:60]!r} is not one; use the 'next' of the page before")
        found = self._repository.page(status, None if cursor is None else int(cursor), limit + 1)
        more = len(found) > limit
        return schemas.InvestigationPage(
            investigations=[self._summary(case) for case in found[:limit]],
            next=str(found[limit - 1].row.number) if more else None,
        )

    def change(self, investigation_id: str, change: schemas.InvestigationChange) -> schemas.Investigation:
        """Rename, describe, share, close or open an investigation.

        Raises:
            NotFound: as `get`.
            Forbidden: the caller neither began it nor is an admin.
            Conflict: somebody else did, since the revision that the change is of.
        """
        self._managed(investigation_id)
        columns = change.model_dump(exclude_none=True, exclude={"shared_with", "revision"})
        self._repository.change(investigation_id, _now(), columns, change.shared_with, change.revision)
        return self.get(investigation_id)

    def remove(self, investigation_id: str) -> None:
        """Delete an investigation with all it holds.

        Raises:
            NotFound, Forbidden: as `change`.
        """
        self._managed(investigation_id)
        self._repository.remove(investigation_id)

    # Queries.

    def search_pictures(
        self, investigation_id: str, pictures: Sequence[QueryPicture], request: SearchRequest, keep: bool
    ) -> SearchAnswer:
        """`SiteSearch.search_pictures`, kept as a query of the investigation.

        Args:
            investigation_id: which.
            pictures, request: what to search for.
            keep: keep the pictures, too: the part that was looked at.

        Raises:
            NotFound, Forbidden, Conflict: there is no such investigation, or the caller may not add to it now.
        """
        case = self._editable(investigation_id)
        answer = self._site.search_pictures(self._caller, pictures, _request_of(case, request))
        kept = [self._kept_picture(picture) for picture in pictures] if keep else []
        self._keep(investigation_id, self._recent(answer.query_id), kept)
        return answer

    def search_tracklet(self, investigation_id: str, tracklet_id: str, request: SearchRequest) -> SearchAnswer:
        """`SiteSearch.search_tracklet`, kept as a query of the investigation.

        Raises:
            NotFound, Forbidden, Conflict: as `search_pictures`.
        """
        case = self._editable(investigation_id)
        answer = self._site.search_tracklet(self._caller, tracklet_id, _request_of(case, request))
        self._keep(investigation_id, self._recent(answer.query_id), [])
        return answer

    def keep_query(self, investigation_id: str, query_id: str) -> schemas.KeptQuery:
        """Take a search that the caller made in the last hour into the investigation.

        Raises:
            NotFound, Forbidden, Conflict: as `search_pictures`; or the service no longer has that search.
        """
        self._editable(investigation_id)
        asked = self._recent(query_id)
        self._keep(investigation_id, asked, [])
        queries = self._repository.queries(investigation_id)
        row, kept = next((one for one in queries if one[0].query_id == query_id), (None, []))
        if row is None:
            raise NotFound("somebody removed this query again a moment ago")
        return self._query(investigation_id, row, kept, self._present([row]))

    def remove_query(self, investigation_id: str, query_id: str) -> None:
        """Remove a query, its vector and its pictures; hits that it found stay.

        Raises:
            NotFound, Forbidden, Conflict: as `search_pictures`; or there is no such query.
        """
        self._editable(investigation_id)
        self._repository.remove_query(investigation_id, query_id, _now())

    def picture(self, investigation_id: str, query_id: str, number: int) -> bytes:
        """A kept query picture, JPEG.

        Raises:
            NotFound: it was not kept, or the caller may not see the investigation.
        """
        content = self._repository.picture(investigation_id, query_id, number)
        details = {"investigation": investigation_id, "query_id": query_id, "number": number}
        look = "query-picture"
        self._site.pictures.record_look(self._caller, look, look, f"{investigation_id}/{query_id}/{number}", details)
        return content

    def search_refined(self, investigation_id: str, request: SearchRequest) -> SearchAnswer:
        """Search again with all that was confirmed, away from what was rejected; neither is in the answer.

        Raises:
            NotFound, Forbidden, Conflict: as `search_pictures`; or there is nothing to search with.
        """
        case = self._editable(investigation_id)
        gallery = self._site.refresh()
        hits = self._repository.hits(investigation_id)
        queries = [row for row, _ in self._repository.queries(investigation_id)]
        present = self._present([*hits, *queries])
        if any(gallery.row(tracklet) is None for tracklet in present.values()):
            gallery = self._site.refresh(outdated=True)  # else what was confirmed would not count
        decided: dict[str, list[StoredTracklet]] = {"confirmed": [], "rejected": [], "undecided": []}
        for hit in hits:
            if hit.tracklet_id is not None and _is_present(hit, present):
                decided[hit.decision].append(present[hit.tracklet_id])
        shown = self._query_vectors(gallery, investigation_id, queries, present)
        shown += self._vectors(gallery, decided["confirmed"])
        rejected = self._vectors(gallery, decided["rejected"])
        if not shown:
            raise Conflict(
                "there is nothing to search with: confirm a hit, or add a query made with the model that is live now"
            )
        evidence = Evidence(np.stack(shown), np.array(rejected, np.float32).reshape(-1, len(shown[0])))
        searched = [present[row.tracklet_id] for row in queries if row.tracklet_id and _is_present(row, present)]
        known = [tracklet.tracklet_id for tracklet in [*decided["confirmed"], *decided["rejected"], *searched]]
        cameras = {tracklet.camera_id for tracklet in [*decided["confirmed"], *searched]}
        request = _request_of(case, request)
        answer = self._site.search_evidence(self._caller, gallery, evidence, request, known, cameras)
        self._keep(investigation_id, self._recent(answer.query_id), [])
        return answer

    # Hits.

    def decide(self, investigation_id: str, tracklet_id: str, decision: schemas.HitDecision) -> schemas.Hit:
        """Confirm or reject a tracklet, or take that back.

        Raises:
            NotFound, Forbidden, Conflict: as `search_pictures`; or there is no such tracklet or query.
        """
        self._editable(investigation_id)
        present = self._site.visible(self._caller).tracklets([tracklet_id])
        tracklet = present.get(tracklet_id)
        if tracklet is None:
            raise NotFound(f"site '{self._site.name}' has no tracklet {tracklet_id[:200]!r}")
        gallery = self._site.refresh()
        score = None
        if decision.query_id is not None:
            known = {row.query_id: row for row, _ in self._repository.queries(investigation_id)}
            if decision.query_id not in known:
                raise NotFound(
                    f"this investigation has no query {decision.query_id[:60]!r}; add that search to it first"
                )
            score = self._score(gallery, known[decision.query_id], tracklet)
        now = _now()
        row = self._repository.put_hit(
            investigation_id,
            now,
            _tracklet_columns(tracklet) | {"first_seen": tracklet.first_seen, "last_seen": tracklet.last_seen},
            {
                "model_version": gallery.bundle.version,
                "query_id": decision.query_id,
                "score": score,
                "decision": decision.decision,
                "note": decision.note,
                "decided_by": self._caller.name,
                "decided_at": now,
            },
        )
        return self._hit(row, present)

    def decide_again(
        self, investigation_id: str, hit_id: int, tracklet_id: str, decision: schemas.HitDecision
    ) -> schemas.Hit:
        """Decide otherwise about a hit that was looked at a while ago. Both ids may have been given again: that of the
        tracklet when its recording is ingested anew, that of the hit when it was the last and was taken out.

        Raises:
            NotFound, Forbidden, Conflict: as `search_pictures`; or there is no such hit, or it is missing or erased.
        """
        self._editable(investigation_id)
        hit = self._hit_of(investigation_id, hit_id)
        if hit is None or hit.tracklet_id != tracklet_id or hit.state != "present":
            raise NotFound("what this hit showed is not there any more; load the page again")
        return self.decide(investigation_id, tracklet_id, decision)

    def remove_tracklet(self, investigation_id: str, tracklet_id: str) -> None:
        """Take a hit out again. An id that was given again means the tracklet that has it now.

        Raises:
            NotFound, Forbidden, Conflict: as `search_pictures`; or it is no hit.
        """
        self._editable(investigation_id)
        now = self._site.visible(self._caller).tracklets([tracklet_id])
        hits = [row for row in self._repository.hits(investigation_id) if row.tracklet_id == tracklet_id]
        meant = [row.hit_id for row in hits if not now or _is_present(row, now)]
        if not meant:
            raise NotFound(f"this investigation has no hit {tracklet_id[:200]!r}")
        self._repository.remove_hits(investigation_id, _now(), meant)

    def remove_gone(self, investigation_id: str, hit_id: int) -> None:
        """Take out a hit that is missing or erased: no tracklet's id names it.

        Raises:
            NotFound, Forbidden, Conflict: as `search_pictures`; or there is no such hit.
        """
        self._editable(investigation_id)
        hit = self._hit_of(investigation_id, hit_id)
        if hit is None or hit.state == "present":
            raise NotFound(f"this investigation has no hit {hit_id} that is missing or erased")
        self._repository.remove_hits(investigation_id, _now(), [hit_id])

    def _hit_of(self, investigation_id: str, hit_id: int) -> schemas.Hit | None:
        rows = [row for row in self._repository.hits(investigation_id) if row.hit_id == hit_id]
        present = self._present(rows)
        return next((self._hit(row, present) for row in rows), None)

    # Where and when.

    def timeline(self, investigation_id: str) -> schemas.Timeline:
        """The confirmed hits in the order of time, and on the map.

        Raises:
            NotFound: as `get`.
        """
        rows = [row for row in self._repository.hits(investigation_id) if row.decision == "confirmed"]
        present = self._present(rows)
        hits = {row.hit_id: self._hit(row, present) for row in rows if row.erased_at is None}
        placed, undated = place(
            Seen(row.hit_id, row.camera_id, row.first_seen, row.last_seen)
            for row in rows
            if row.hit_id in hits and row.camera_id is not None
        )
        site = self._site.current_site()
        return schemas.Timeline(
            sightings=[_sighting(hits[one.seen.hit_id], one.gap_us) for one in placed],
            undated=[_sighting(hits[seen.hit_id], None) for seen in undated],
            cameras=[
                _camera_sightings(camera, placed, undated)
                for camera in site.cameras
                if self._caller.sees(site.name, camera.id)
            ],
            moves=[
                schemas.CameraMove.model_validate(
                    {
                        "from": move.begin_camera,
                        "to": move.end_camera,
                        "left": _moment(move.left),
                        "arrived": _moment(move.arrived),
                        "gap_s": (move.arrived - move.left) / 1e6,
                    }
                )
                for move in moves(placed)
            ],
            map_url=map_url(self._site),
        )

    def export(self, investigation_id: str) -> IO[bytes]:
        """All that the caller sees of the investigation, as a zip; see `write_export`.

        Raises:
            NotFound: as `get`.
        """
        investigation = self.get(investigation_id)
        shown = [hit.tracklet_id for hit in investigation.hits if hit.tracklet_id is not None]
        # Before anything is read: what cannot be recorded does not leave.
        self._repository.record_export(investigation_id, shown)

        def crop(hit: schemas.Hit) -> bytes | None:
            if hit.state != "present" or hit.tracklet_id is None:
                return None
            try:
                return self._site.pictures.crop(self._caller, hit.tracklet_id)
            except NotFound:  # erased since
                return None

        zone = self._site.site.zone
        return write_export(investigation, self.timeline(investigation_id), zone, self._caller.name, crop)

    # What the caller may do.

    def _may_work(self, case: Case) -> bool:
        # Whoever may see an investigation works on it, but for viewers.
        return case.row.status == "open" and self._caller.may(Role.INVESTIGATOR)

    def _may_manage(self, case: Case) -> bool:
        own = case.row.created_by == self._caller.name and self._caller.may(Role.INVESTIGATOR)
        return own or self._caller.may(Role.ADMIN)

    def _editable(self, investigation_id: str) -> Case:
        case = self._repository.get(investigation_id)
        if not self._caller.may(Role.INVESTIGATOR):
            raise Forbidden("viewers look at investigations but do not change them; ask an investigator")
        if case.row.status != "open":
            raise Conflict("this investigation is closed; open it again to change what it holds")
        return case

    def _managed(self, investigation_id: str) -> None:
        if not self._may_manage(self._repository.get(investigation_id)):
            raise Forbidden("only whoever began this investigation, and admins, may do that")

    # Vectors.

    def _present(self, rows: Iterable[HitRow | QueryRow]) -> dict[str, StoredTracklet]:
        named = [row.tracklet_id for row in rows if row.tracklet_id is not None]
        return self._site.visible(self._caller).tracklets(named)

    def _vectors(self, gallery: LoadedGallery, tracklets: Iterable[StoredTracklet]) -> list[NDArray[np.float32]]:
        rows = [row for tracklet in tracklets if (row := gallery.row(tracklet)) is not None]
        return list(gallery.index.vectors(np.array(rows, np.int64))) if rows else []

    def _query_vectors(
        self,
        gallery: LoadedGallery,
        investigation_id: str,
        queries: Iterable[QueryRow],
        present: dict[str, StoredTracklet],
    ) -> list[NDArray[np.float32]]:
        """What was searched for, in the space of the model that is live now: its own vectors as they are, those of
        another model anew from the tracklet or from the kept pictures; what has neither is left out."""
        found: list[NDArray[np.float32]] = []
        for query in queries:
            if query.vector is None:
                continue
            if query.model_version == gallery.bundle.version:
                found.append(np.frombuffer(query.vector, np.float32))
            elif query.tracklet_id is not None:
                if _is_present(query, present):
                    found += self._vectors(gallery, [present[query.tracklet_id]])
            else:
                found += self._embedded_again(gallery, investigation_id, query)
        return found

    def _embedded_again(
        self, gallery: LoadedGallery, investigation_id: str, query: QueryRow
    ) -> list[NDArray[np.float32]]:
        pictures = []
        for number in range(query.pictures):
            try:
                pictures.append(QueryPicture(self._repository.picture(investigation_id, query.query_id, number)))
            except NotFound:
                return []
        if not pictures:
            return []
        with self._site.embedding:
            return [embed_person(gallery.embedder, pictures, "a kept picture", self._site.settings.max_image_pixels)]

    def _score(self, gallery: LoadedGallery, query: QueryRow, tracklet: StoredTracklet) -> float | None:
        vectors = self._vectors(gallery, [tracklet])
        if query.vector is None or query.model_version != gallery.bundle.version or not vectors:
            return None
        cosine = np.frombuffer(query.vector, np.float32).astype(np.float64) @ vectors[0].astype(np.float64)
        return round(float(np.clip(cosine, -1, 1)), 6)

    def _kept_picture(self, picture: QueryPicture) -> bytes:
        import cv2

        pixels = picture.pixels("the uploaded image", self._site.settings.max_image_pixels)
        scale = _KEPT_SIDE / max(pixels.shape[:2])
        if scale < 1:
            size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        return encode_jpeg(pixels)

    def _recent(self, query_id: str) -> AskedQuery:
        asked = self._site.recent_query(self._caller, query_id)
        if asked is None:
            raise NotFound("that search is not at hand any more; search again, then add it")
        return asked

    def _keep(self, investigation_id: str, asked: AskedQuery, pictures: Sequence[bytes]) -> None:
        tracklet = asked.tracklet
        self._repository.add_query(
            investigation_id,
            _now(),
            {
                "query_id": asked.query_id,
                "kind": asked.kind,
                "asked_by": asked.asked_by,
                "asked_at": asked.asked_at,
                "model_version": asked.model_version,
                "vector": None if asked.kind == "refined" else asked.vector.astype("<f4").tobytes(),
                "pictures": asked.pictures,
                **(dict.fromkeys(_TRACKLET) if tracklet is None else _tracklet_columns(tracklet)),
                "filters": asked.filters,
            },
            pictures,
        )

    # Rows as answers.

    def _summary(self, case: Case) -> schemas.InvestigationSummary:
        row = case.row
        return schemas.InvestigationSummary.model_validate(
            {
                "investigation_id": row.investigation_id,
                "title": row.title,
                "purpose": row.purpose,
                "status": row.status,
                "created_by": row.created_by,
                "created_at": _moment(row.created_at),
                "changed_at": _moment(row.changed_at),
                "shared_with": case.shared_with,
                **{name: case.decisions.get(name, 0) for name in ("confirmed", "rejected", "undecided")},
                "queries": case.queries,
                "may_edit": self._may_work(case),
                "may_manage": self._may_manage(case),
            }
        )

    def _query(
        self, investigation_id: str, row: QueryRow, kept: Sequence[int], present: dict[str, StoredTracklet]
    ) -> schemas.KeptQuery:
        base = f"/api/v1/sites/{self._site.name}/investigations/{investigation_id}/queries/{row.query_id}/images"
        found = present.get(row.tracklet_id) if row.tracklet_id and _is_present(row, present) else None
        return schemas.KeptQuery.model_validate(
            {
                "query_id": row.query_id,
                "kind": row.kind,
                "asked_by": row.asked_by,
                "asked_at": _moment(row.asked_at),
                "model_version": row.model_version,
                "tracklet_id": row.tracklet_id,
                "crop_url": None if found is None else self._site.pictures.links(found)[0],
                "images": row.pictures,
                "image_urls": [f"{base}/{number}" for number in kept],
                "filters": self._told_filters(json.loads(row.filters)),
            }
        )

    def _told_filters(self, filters: dict[str, Any]) -> dict[str, Any]:
        """Without the cameras that the caller may not know of."""
        seen: dict[str, Any] = {
            name: [camera for camera in filters[name] if self._caller.sees(self._site.name, camera)]
            for name in ("cameras", "exclude_cameras")
            if name in filters
        }
        return {**filters, **seen}

    def _hit(self, row: HitRow, present: dict[str, StoredTracklet]) -> schemas.Hit:
        there = _is_present(row, present)
        crop_url, clip_url = (
            self._site.pictures.links(present[row.tracklet_id]) if there and row.tracklet_id else (None, None)
        )
        return schemas.Hit.model_validate(
            {
                "hit_id": row.hit_id,
                "state": "erased" if row.erased_at is not None else "present" if there else "missing",
                "tracklet_id": row.tracklet_id,
                "camera_id": row.camera_id,
                "first_seen": format_moment(row.first_seen),
                "last_seen": format_moment(row.last_seen),
                "model_version": row.model_version,
                "score": row.score,
                "query_id": row.query_id,
                "decision": row.decision,
                "note": row.note,
                "decided_by": row.decided_by,
                "decided_at": _moment(row.decided_at),
                "crop_url": crop_url,
                "clip_url": clip_url,
            }
        )


_TRACKLET = ("tracklet_id", "camera_id", "recording_sha256", "start_pts_s", "end_pts_s")


def _tracklet_columns(tracklet: StoredTracklet) -> dict[str, object]:
    return {name: getattr(tracklet, name) for name in _TRACKLET}


def _is_present(row: HitRow | QueryRow, present: dict[str, StoredTracklet]) -> bool:
    """Whether the gallery still has this tracklet, and not another one that got its id."""
    found = None if row.tracklet_id is None else present.get(row.tracklet_id)
    return found is not None and (found.start_pts_s, found.end_pts_s) == (row.start_pts_s, row.end_pts_s)


def _request_of(case: Case, request: SearchRequest) -> SearchRequest:
    return replace(request, purpose=request.purpose or case.row.purpose, investigation=case.row.investigation_id)


def _camera_sightings(camera: Camera, placed: Sequence[Placed], undated: Sequence[Seen]) -> schemas.CameraSightings:
    dated = [one for one in placed if one.seen.camera_id == camera.id]
    return schemas.CameraSightings(
        camera_id=camera.id,
        position=camera.position,
        heading=camera.heading,
        sightings=len(dated) + sum(seen.camera_id == camera.id for seen in undated),
        first_seen=format_moment(min((one.begin for one in dated), default=None)),
        last_seen=format_moment(max((one.end for one in dated), default=None)),
    )


def _sighting(hit: schemas.Hit, gap_us: int | None) -> schemas.Sighting:
    assert hit.tracklet_id is not None
    assert hit.camera_id is not None
    assert hit.state != "erased"
    return schemas.Sighting(
        hit_id=hit.hit_id,
        state=hit.state,
        tracklet_id=hit.tracklet_id,
        camera_id=hit.camera_id,
        first_seen=hit.first_seen,
        last_seen=hit.last_seen,
        gap_s=None if gap_us is None else gap_us / 1e6,
        crop_url=hit.crop_url,
        clip_url=hit.clip_url,
    )


def _moment(microseconds: int) -> str:
    written = format_moment(microseconds)
    assert written is not None
    return written


def _now() -> int:
    return time.time_ns() // 1000
