"""The investigation that somebody works on while they search: what they have confirmed in it, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gallery_service.caller import Caller
from gallery_service.errors import NotFound
from gallery_service.investigations.schemas import Decision, Investigation, InvestigationSummary
from gallery_service.investigations.service import Investigations
from gallery_service.search.site_search import SiteSearch

_OFFERED = 12


@dataclass(frozen=True)
class OpenCase:
    """What the page that searches shows of investigations.

    Attributes:
        current: the one that is worked on; None: none is.
        decisions: of its tracklets, by id; of those that have their ids now, not of others that had them before.
        others: the newest open ones, to go on with.
    """

    current: Investigation | None
    decisions: Mapping[str, Decision]
    others: list[InvestigationSummary]


def open_case(site: SiteSearch, caller: Caller, investigation_id: str | None) -> OpenCase:
    """Look it up.

    Args:
        site: where.
        caller: who works on it.
        investigation_id: which; None or empty: none.

    Raises:
        NotFound: there is none of that id, or it is not theirs.
    """
    cases = Investigations(site, caller)
    current = cases.get(investigation_id) if investigation_id else None
    others = cases.page("open", None, _OFFERED).investigations
    hits = [] if current is None else current.hits
    decided = {hit.tracklet_id: hit.decision for hit in hits if hit.tracklet_id and hit.state == "present"}
    return OpenCase(current, decided, [one for one in others if one.investigation_id != investigation_id])


def query_of(cases: Investigations, investigation: Investigation, query_id: str) -> str | None:
    """A search as a query of the investigation, taken into it where it is not yet; None when the service no longer has
    it, which is no reason not to decide about what it found."""
    if query_id not in {query.query_id for query in investigation.query_list}:
        try:
            cases.keep_query(investigation.investigation_id, query_id)
        except NotFound:
            return None
    return query_id
