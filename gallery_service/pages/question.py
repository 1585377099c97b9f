"""What the page's form asks for, and how it is asked: the same calls as the API's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gallery_service.caller import Caller
from gallery_service.errors import BadQuery
from gallery_service.investigations.service import Investigations
from gallery_service.schemas import SearchAnswer
from gallery_service.search.query_pictures import QueryPicture
from gallery_service.search.site_search import SearchRequest, SiteSearch


@dataclass(frozen=True)
class Question:
    """Whom to look for.

    Attributes:
        pictures: of one person.
        tracklet_id: a hit of an earlier answer, which goes before the pictures.
        refined: everything that the investigation has confirmed, which goes before both.
        investigation: that keeps this search as one of its queries; None: none.
        keep_pictures: keep them in the investigation, too.
    """

    pictures: Sequence[QueryPicture]
    tracklet_id: str | None
    refined: bool
    investigation: str | None
    keep_pictures: bool

    @property
    def kind(self) -> str:
        """As the metrics count searches."""
        return "refined" if self.refined else "tracklet" if self.tracklet_id else "image"

    def ask(self, site: SiteSearch, caller: Caller, request: SearchRequest) -> SearchAnswer:
        """Search.

        Raises:
            BadQuery: there is nothing to look for.
            ImageError, GalleryError: as the search.
        """
        if self.investigation is not None:
            cases = Investigations(site, caller)
            if self.refined:
                return cases.search_refined(self.investigation, request)
            if self.tracklet_id is not None:
                return cases.search_tracklet(self.investigation, self.tracklet_id, request)
            if self.pictures:
                return cases.search_pictures(self.investigation, self.pictures, request, self.keep_pictures)
        elif self.tracklet_id is not None:
            return site.search_tracklet(caller, self.tracklet_id, request)
        elif self.pictures:
            return site.search_pictures(caller, self.pictures, request, "the picture")
        raise BadQuery("There is nothing to look for yet: choose a picture of one person.")
