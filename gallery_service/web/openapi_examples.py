"""An example of everything that the API takes and answers as JSON, for its description. The site is invented."""

from __future__ import annotations

from typing import Any

_MODEL = "osnet_x0_25-3f9a1c22"
_TRACKLET = "corridor/9f2c41d07be3/17"
_URL = f"/api/v1/sites/lobby/tracklets/{_TRACKLET}"
_QUERY = "5b1f0c3e8a5d4b7f9d2e6a1c0f3b8d47"
_CASE = "c0ffee00c0ffee00c0ffee00c0ffee00"
_FIRST, _LAST = "2026-03-01T07:12:04.200000Z", "2026-03-01T07:12:09.800000Z"
_ASKED = "2026-03-02T09:30:00.000000Z"

_SEEN = {"first_seen": _FIRST, "last_seen": _LAST}
_LINKS = {"crop_url": f"{_URL}/crop", "clip_url": f"{_URL}/clip"}
_MATCH = {"tracklet_id": _TRACKLET, "camera_id": "corridor", **_SEEN, "score": 0.7421, "probability": 0.91, **_LINKS}
_PLACED = {"position": [0.62, 0.35], "heading": 90.0}
_SITE = {"site": "lobby", "cameras": 2, "tracklets": 1840, "model_version": _MODEL}
_SUMMARY = {
    "investigation_id": _CASE,
    "title": "Lost child, Saturday",
    "purpose": "case 7",
    "status": "open",
    "created_by": "ines",
    "created_at": _ASKED,
    "changed_at": _ASKED,
    "shared_with": ["otto"],
    "confirmed": 1,
    "rejected": 0,
    "undecided": 0,
    "queries": 1,
    "may_edit": True,
    "may_manage": True,
}
_KEPT_QUERY: dict[str, Any] = {
    "query_id": _QUERY,
    "kind": "image",
    "asked_by": "ines",
    "asked_at": _ASKED,
    "model_version": _MODEL,
    "tracklet_id": None,
    "crop_url": None,
    "images": 1,
    "image_urls": [],
    "filters": {"top_k": 20, "cameras": ["corridor"]},
}
_HIT = {
    "hit_id": 1,
    "state": "present",
    "tracklet_id": _TRACKLET,
    "camera_id": "corridor",
    **_SEEN,
    "model_version": _MODEL,
    "score": 0.7421,
    "query_id": _QUERY,
    "decision": "confirmed",
    "note": "red rucksack",
    "decided_by": "ines",
    "decided_at": _ASKED,
    **_LINKS,
}
_ERASURE = {
    "erasure_id": "e-20260302T093000-1f0a9c44",
    "asked_at": "2026-03-02T09:30:00+00:00",
    "by": "ada",
    "reason": "asked for by letter",
    "tracklets": 1,
    "crops": 4,
    "state": "done",
    "clean": True,
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "AuditPage": {
        "entries": [
            {
                "id": 4711,
                "at": _ASKED,
                "who": "ines",
                "via": "session",
                "action": "crop",
                "purpose": None,
                "details": {"tracklet_id": _TRACKLET, "camera_id": "corridor"},
                "hash": "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab",
            }
        ],
        "next": "4711",
    },
    "ErasureAnswer": {"dry_run": False, "tracklets": [_TRACKLET], "crops": 4, "remarks": [], "erasures": [_ERASURE]},
    "ErasureList": {"erasures": [_ERASURE], "next": None},
    "Health": {
        "status": "ready",
        "sites": {"lobby": "ready"},
        "providers": {"lobby": "OpenVINOExecutionProvider"},
        "models": {"lobby": _MODEL},
        "tracklets": {"lobby": 1840},
    },
    "Hit": _HIT,
    "HitDecision": {"decision": "confirmed", "note": "red rucksack", "query_id": _QUERY},
    "Investigation": {
        **_SUMMARY,
        "notes": "Last seen at the stairs.",
        "revision": "8f14e45fceea167a5a36dedd4bea2543",
        "query_list": [_KEPT_QUERY],
        "hits": [_HIT],
    },
    "InvestigationChange": {"status": "closed"},
    "InvestigationPage": {"investigations": [_SUMMARY], "next": None},
    "KeptQuery": _KEPT_QUERY,
    "Me": {"name": "ines", "role": "investigator", "rights": {"lobby": ["corridor", "entrance"]}},
    "NewInvestigation": {"title": "Lost child, Saturday", "purpose": "case 7", "investigation_id": _CASE},
    "PersonBoxes": {
        "width": 1920,
        "height": 1080,
        "detector": "yolov8n",
        "people": [{"box": [0.41, 0.22, 0.49, 0.71], "score": 0.93}],
    },
    "QueryToKeep": {"query_id": _QUERY},
    "SearchAnswer": {
        "query_id": _QUERY,
        "site": "lobby",
        "model_version": _MODEL,
        "matches": [_MATCH],
        "notice": None,
    },
    "SiteInfo": {
        "site": "lobby",
        "timezone": "Europe/Berlin",
        "model_version": _MODEL,
        "cameras": [{"camera_id": "corridor", "tracklets": 1840, "crops": 7112, **_SEEN, **_PLACED}],
        "tracklets": 1840,
        "crops": 7112,
        **_SEEN,
        "clips": True,
        "purpose_required": False,
        "map_url": "/api/v1/sites/lobby/map",
        "proposes_boxes": True,
        "notice": None,
    },
    "SiteList": {"sites": [_SITE]},
    "Timeline": {
        "sightings": [
            {
                "hit_id": 1,
                "state": "present",
                "tracklet_id": _TRACKLET,
                "camera_id": "corridor",
                **_SEEN,
                "gap_s": None,
                **_LINKS,
            }
        ],
        "undated": [],
        "cameras": [{"camera_id": "corridor", **_PLACED, "sightings": 1, **_SEEN}],
        "moves": [
            {
                "from": "corridor",
                "to": "entrance",
                "left": _LAST,
                "arrived": "2026-03-01T07:12:31.000000Z",
                "gap_s": 21.2,
            }
        ],
        "map_url": "/api/v1/sites/lobby/map",
    },
}
"""By the name of a schema."""
