"""What the API takes and answers about investigations. Times are RFC 3339 in UTC."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Purpose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Notes = Annotated[str, StringConstraints(max_length=20_000)]
Note = Annotated[str, StringConstraints(max_length=2_000)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Status = Literal["open", "closed"]
Decision = Literal["confirmed", "rejected", "undecided"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewInvestigation(_Body):
    """What an investigation begins with."""

    title: Title
    purpose: Purpose = Field(description="Why, or the case's id; searches of the investigation are recorded with it.")
    notes: Notes = ""
    investigation_id: str | None = Field(
        None,
        pattern="^[0-9a-f]{32}$",
        description="Chosen by the client, so that sending the same again makes no second one.",
    )


class InvestigationChange(_Body):
    """What may be changed later; what is left out stays."""

    title: Title | None = None
    purpose: Purpose | None = None
    notes: Notes | None = None
    status: Status | None = None
    shared_with: list[Name] | None = Field(None, max_length=100, description="Names of users who may see it too.")
    revision: str | None = Field(
        None,
        description="As it was answered: when it is another one by now, nothing is changed (409). null: it may be any.",
    )


class QueryToKeep(_Body):
    """A search that was made a moment ago."""

    query_id: str


class HitDecision(_Body):
    """What somebody decided about a tracklet."""

    decision: Decision
    note: Note | None = Field(None, description="null: the note that is there stays.")
    query_id: str | None = Field(
        None,
        description="One of the investigation's queries, that it was found by. null: the one that is there stays, with "
        "its score and model.",
    )


class InvestigationSummary(BaseModel):
    """An investigation in one line. Counts are of what the caller may see."""

    investigation_id: str
    title: str
    purpose: str
    status: Status
    created_by: str
    created_at: str
    changed_at: str
    shared_with: list[str]
    confirmed: int
    rejected: int
    undecided: int
    queries: int
    may_edit: bool = Field(description="Whether the caller may add queries and decide about hits.")
    may_manage: bool = Field(description="Whether the caller may rename, share, close, open and delete it.")


class InvestigationPage(BaseModel):
    """Investigations, the newest first."""

    investigations: list[InvestigationSummary]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


class KeptQuery(BaseModel):
    """Something that was searched for."""

    query_id: str
    kind: Literal["image", "tracklet", "refined"]
    asked_by: str
    asked_at: str
    model_version: str
    tracklet_id: str | None
    crop_url: str | None = Field(description="Of the tracklet; null when there is none (any more).")
    images: int = Field(description="How many pictures were searched with.")
    image_urls: list[str] = Field(description="Of those that were kept.")
    filters: dict[str, Any]


class Hit(BaseModel):
    """A tracklet that somebody decided about."""

    hit_id: int
    state: Literal["present", "missing", "erased"] = Field(
        description="missing: its recording was ingested anew in another way, so there is no crop. erased: what was "
        "seen is gone for good; only the decision stays."
    )
    tracklet_id: str | None
    camera_id: str | None
    first_seen: str | None
    last_seen: str | None
    model_version: str = Field(description="That was live when the query it was found by was named.")
    score: float | None = Field(description="Cosine with the query it was found by, in that model's space.")
    query_id: str | None
    decision: Decision
    note: str
    decided_by: str
    decided_at: str
    crop_url: str | None
    clip_url: str | None


class Investigation(InvestigationSummary):
    """An investigation with all that the caller may see of it."""

    notes: str
    revision: str = Field(
        description="Of title, purpose, notes, status and sharing: another one when any of them is changed."
    )
    query_list: list[KeptQuery] = Field(description="Oldest first.")
    hits: list[Hit] = Field(description="The latest decision first.")


class Sighting(BaseModel):
    """A confirmed hit on the timeline."""

    hit_id: int
    state: Literal["present", "missing"] = Field(description="As of a hit.")
    tracklet_id: str
    camera_id: str
    first_seen: str | None
    last_seen: str | None
    gap_s: float | None = Field(
        description="Seconds since the sighting before ended; less than 0 where both were at once, null for the first."
    )
    crop_url: str | None
    clip_url: str | None


class CameraSightings(BaseModel):
    """A camera on the map, and what it saw."""

    camera_id: str
    position: tuple[float, float] | None
    heading: float | None
    sightings: int
    first_seen: str | None
    last_seen: str | None


class CameraMove(BaseModel):
    """From one camera to another."""

    model_config = ConfigDict(serialize_by_alias=True)

    begin_camera: str = Field(alias="from")
    end_camera: str = Field(alias="to")
    left: str
    arrived: str
    gap_s: float


class Timeline(BaseModel):
    """Where somebody was seen, in the order of time, and on the map."""

    sightings: list[Sighting]
    undated: list[Sighting]
    cameras: list[CameraSightings]
    moves: list[CameraMove]
    map_url: str | None
