"""An investigation as one file to hand over: a zip of report.html, investigation.json and the crops.

Names in the zip are numbers, and the report loads nothing from outside it.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gallery_service.investigations.schemas import Hit, Investigation, Timeline

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_export(
    investigation: Investigation,
    timeline: Timeline,
    zone: ZoneInfo,
    exported_by: str,
    crop: Callable[[Hit], bytes | None],
) -> IO[bytes]:
    """Write the zip.

    Args:
        investigation, timeline: as its reader may see them.
        zone: of the site; the report's times are in it.
        exported_by: a name.
        crop: a hit's JPEG; None when there is none (any more). Asked for hits that are not rejected.

    Returns:
        An open temporary file without a name, at its beginning; closing it deletes it.
    """

    def local(moment: str | None) -> str:
        if moment is None:
            return "unknown"
        return datetime.fromisoformat(moment).astimezone(zone).isoformat(" ", "seconds")

    file = tempfile.TemporaryFile()  # noqa: SIM115 the caller closes it
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            names: Mapping[int, str] = _write_crops(archive, investigation, crop)
            exported_at = datetime.now(UTC).isoformat()
            content = {
                "schema": 1,
                "exported_by": exported_by,
                "exported_at": exported_at,
                "investigation": investigation.model_dump(),
                "timeline": timeline.model_dump(),
                "crops": names,
            }
            archive.writestr("investigation.json", json.dumps(content, indent=1, ensure_ascii=False))
            page = _TEMPLATES.get_template("investigations/report.html").render(
                investigation=investigation,
                timeline=timeline,
                hits={hit.hit_id: hit for hit in investigation.hits},
                crops=names,
                zone=zone.key,
                exported_by=exported_by,
                exported_at=exported_at,
                local=local,
            )
            archive.writestr("report.html", page)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _write_crops(
    archive: zipfile.ZipFile, investigation: Investigation, crop: Callable[[Hit], bytes | None]
) -> dict[int, str]:
    names = {}
    for hit in investigation.hits:
        # Whoever was rejected is somebody else, whose picture has no place in a file that is handed over.
        content = None if hit.decision == "rejected" else crop(hit)
        if content is not None:
            names[hit.hit_id] = f"crops/{hit.hit_id:06d}.jpg"
            archive.writestr(zipfile.ZipInfo(names[hit.hit_id]), content)  # JPEGs do not get smaller
    return names
