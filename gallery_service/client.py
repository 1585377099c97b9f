"""A client for programs: the API's addresses as methods, its answers as the classes of `gallery_service.schemas`.

with GalleryClient("http://127.0.0.1:8000", key="calr_...") as gallery:
    answer = gallery.search("lobby", [Path("crop.jpg").read_bytes()], cameras=["corridor"], purpose="case 7")
    for match in answer.matches:
        print(match.camera_id, match.first_seen, match.score, match.probability)
    jpeg = gallery.download(answer.matches[0].crop_url)
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from gallery_service.investigations.schemas import (
    Decision,
    Hit,
    Investigation,
    InvestigationPage,
    InvestigationSummary,
    Status,
    Timeline,
)
from gallery_service.schemas import PersonBoxes, SearchAnswer, SiteInfo, SiteList, SiteSummary

_Answer = TypeVar("_Answer", bound=BaseModel)


class GalleryProblem(ValueError):  # noqa: N818 the name RFC 9457 has for it
    """The service refused, and says why.

    Attributes:
        status: HTTP's.
        retry_after_s: when it may go well, where the service says so.
        request_id: by which the service's log knows the request.
    """

    def __init__(self, status: int, detail: str, retry_after_s: float | None, request_id: str | None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status, self.retry_after_s, self.request_id = status, retry_after_s, request_id


class GalleryClient:
    """Talks to one service. Not to be shared between threads.

    Args:
        url: such as http://127.0.0.1:8000.
        key: an API key; None where no user is configured.
        timeout_s: for an answer.
        transport: of httpx, for tests.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def sites(self) -> list[SiteSummary]:
        """The sites that you may see."""
        return self._ask(SiteList, "GET", "/api/v1/sites").sites

    def site(self, site: str) -> SiteInfo:
        """What can be searched at a site."""
        return self._ask(SiteInfo, "GET", self._path(site))

    def search(
        self,
        site: str,
        images: Sequence[bytes],
        *,
        boxes: Sequence[tuple[float, float, float, float]] | None = None,
        **how: Any,
    ) -> SearchAnswer:
        """Where else was the person in these images?

        Args:
            images: JPEG, PNG, WebP or BMP files of one person.
            boxes: a part of each image, x1, y1, x2, y2 in fractions of it; None: all of each.
            how: `top_k`, `cameras`, `exclude_cameras`, `since`, `until`, `rerank`, `min_quality`, `purpose`,
                `investigation`, as the API has them; None is left out.

        Raises:
            GalleryProblem: the service refused.
            httpx.HTTPError: it cannot be reached.
        """
        query = _given(how)
        if boxes is not None:
            query["box"] = [",".join(f"{side:.6g}" for side in box) for box in boxes]
        files = [("image", (f"{number}", image)) for number, image in enumerate(images)]
        return self._ask(SearchAnswer, "POST", self._path(site, "search"), params=query, files=files)

    def search_tracklet(self, site: str, tracklet_id: str, **how: Any) -> SearchAnswer:
        """Where else was the person of this tracklet? See `search`."""
        path = self._path(site, "tracklets", tracklet_id, "search")
        return self._ask(SearchAnswer, "POST", path, params=_given(how))

    def people(self, site: str, frame: bytes) -> PersonBoxes:
        """The people in a frame, to choose a box from."""
        return self._ask(PersonBoxes, "POST", self._path(site, "detections"), files={"image": ("frame", frame)})

    def begin_investigation(
        self, site: str, title: str, purpose: str, notes: str = "", investigation_id: str | None = None
    ) -> Investigation:
        """Begin an investigation.

        Args:
            investigation_id: 32 hex digits of your own. With the same ones again, after a broken connection, it is the
                same investigation; None: new ones.
        """
        new = {"title": title, "purpose": purpose, "notes": notes}
        new["investigation_id"] = investigation_id or uuid.uuid4().hex
        return self._ask(Investigation, "POST", self._path(site, "investigations"), json=new)

    def investigations(
        self, site: str, status: Status | None = None, page_size: int | None = None
    ) -> Iterator[InvestigationSummary]:
        """Those that you may see, the newest first, asked for page by page.

        Args:
            page_size: how many with each request; None: as many as the service likes.
        """
        asked: dict[str, Any] = _given({"status": status, "limit": page_size})
        while True:
            page = self._ask(InvestigationPage, "GET", self._path(site, "investigations"), params=asked)
            yield from page.investigations
            if page.next is None:
                return
            asked["cursor"] = page.next

    def investigation(self, site: str, investigation_id: str) -> Investigation:
        """An investigation with its queries and hits."""
        return self._ask(Investigation, "GET", self._path(site, "investigations", investigation_id))

    def decide(
        self,
        site: str,
        investigation_id: str,
        tracklet_id: str,
        decision: Decision,
        note: str | None = None,
        query_id: str | None = None,
    ) -> Hit:
        """Confirm or reject a tracklet; the same again changes nothing.

        Args:
            note: why; None: the note that is there stays.
            query_id: of the search that found it; None: the one that is there stays.
        """
        path = self._path(site, "investigations", investigation_id, "hits", tracklet_id)
        return self._ask(Hit, "PUT", path, json={"decision": decision, "note": note, "query_id": query_id})

    def search_refined(self, site: str, investigation_id: str, **how: Any) -> SearchAnswer:
        """Search with all that was confirmed, away from what was rejected. See `search`."""
        path = self._path(site, "investigations", investigation_id, "search")
        return self._ask(SearchAnswer, "POST", path, params=_given(how))

    def timeline(self, site: str, investigation_id: str) -> Timeline:
        """Where and when the person of an investigation was seen."""
        return self._ask(Timeline, "GET", self._path(site, "investigations", investigation_id, "timeline"))

    def download(self, url: str) -> bytes:
        """What a match's `crop_url` or `clip_url` leads to."""
        return self._send("GET", url).content

    def _path(self, site: str, *rest: str) -> str:
        return "/".join(["/api/v1/sites", quote(site, safe=""), *(quote(part, safe="/") for part in rest)])

    def _ask(self, kind: type[_Answer], method: str, path: str, **more: Any) -> _Answer:
        return kind.model_validate_json(self._send(method, path, **more).content)

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer = self._http.request(method, path, **more)
        if answer.is_success:
            return answer
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):  # something between us and the service
            detail = answer.text[:300] or answer.reason_phrase
        retry = answer.headers.get("retry-after", "")
        raise GalleryProblem(
            answer.status_code, detail, float(retry) if retry.isdecimal() else None, answer.headers.get("x-request-id")
        )


def _given(how: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in how.items() if value is not None}
