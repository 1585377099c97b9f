"""What the API answers. The keys of `SearchAnswer` and `Match` are relied on from outside."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Match(BaseModel):
    """One tracklet that looks like the query. Times are RFC 3339 in UTC, null when the recording does not say."""

    tracklet_id: str
    camera_id: str
    first_seen: str | None
    last_seen: str | None
    score: float = Field(description="Cosine of the query and the tracklet's mean, -1 to 1. Not a probability.")
    probability: float | None = Field(
        description="That it shows the same person as the query, 0 to 1, for matches in other cameras than the "
        "query's. Null while the site's model is not calibrated, where a camera shows too few people to compare with, "
        "and in the camera of the tracklet that was searched with."
    )
    crop_url: str
    clip_url: str | None = Field(description="Null when clips are off or the recording is gone.")


class SearchAnswer(BaseModel):
    """The best tracklets, best first, one entry per tracklet."""

    query_id: str
    site: str
    model_version: str
    matches: list[Match]
    notice: str | None = Field(
        description="Something the reader of this answer should know, null when there is nothing."
    )


class CameraInfo(BaseModel):
    """A camera and what the gallery holds of it."""

    camera_id: str
    tracklets: int
    crops: int
    first_seen: str | None
    last_seen: str | None
    position: tuple[float, float] | None = Field(
        description="x, y on the site's map in fractions of the picture, from its upper left; null when not stated."
    )
    heading: float | None = Field(description="Where it looks, degrees clockwise from the top of the map.")


class SiteSummary(BaseModel):
    """A served site in one line."""

    site: str
    cameras: int
    tracklets: int
    model_version: str | None = Field(description="Null while the site cannot be searched.")


class SiteList(BaseModel):
    """All served sites."""

    sites: list[SiteSummary]


class SiteInfo(BaseModel):
    """What can be searched at a site."""

    site: str
    timezone: str
    model_version: str
    cameras: list[CameraInfo]
    tracklets: int
    crops: int
    first_seen: str | None
    last_seen: str | None
    clips: bool
    purpose_required: bool = Field(description="Whether a search has to say why it is made.")
    map_url: str | None = Field(description="A picture of the place; null when the site has none.")
    proposes_boxes: bool = Field(description="Whether the site's detector can look at a single picture.")
    notice: str | None


class PersonBox(BaseModel):
    """Somebody in a picture."""

    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in fractions of the upright picture.")
    score: float = Field(description="The detector's, 0 to 1.")


class PersonBoxes(BaseModel):
    """The people in a picture, the surest first."""

    width: int = Field(description="Of the upright picture, in pixels.")
    height: int
    detector: str
    people: list[PersonBox]


class ErrorAnswer(BaseModel):
    """What went wrong and what to do: problem details as RFC 9457 has them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "site 'lobbi' is not served here; served are: lobby",
                }
            ]
        }
    )

    type: str
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="For a person to read.")


class Health(BaseModel):
    """Whether the service, and each of its sites, can answer."""

    status: str
    sites: dict[str, str] = Field(default_factory=dict, description="Per site 'ready', or what to do.")
    providers: dict[str, str] = Field(
        default_factory=dict, description="Per site what its model really runs on, as ONNX Runtime calls it."
    )
    models: dict[str, str] = Field(default_factory=dict, description="Per site the version that answers.")
    tracklets: dict[str, int] = Field(default_factory=dict, description="Per site how many can be found.")
