"""What a site is, for somebody who sees some of its cameras."""

from __future__ import annotations

from gallery_service.caller import Caller
from gallery_service.errors import NotIndexed
from gallery_service.schemas import CameraInfo, SiteInfo, SiteSummary
from gallery_service.search.filters import format_moment
from gallery_service.search.live_gallery import LiveGallery
from gallery_service.search.loaded_gallery import LoadedGallery


def describe_site(live: LiveGallery, caller: Caller) -> SiteInfo:
    """Cameras, counts, times and model, as far as the caller sees the site.

    Raises:
        NotIndexed: there is no gallery yet.
    """
    gallery = live.refresh()
    seen = live.visible(caller).cameras()
    held = {camera.camera_id: camera for camera in seen}
    site = live.site
    written = {camera.id: camera for camera in site.cameras}
    cameras = []
    for camera_id in gallery.columns.camera_ids:
        if not caller.sees(live.name, camera_id):
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
        site=live.name,
        timezone=site.timezone,
        model_version=gallery.bundle.version,
        cameras=cameras,
        tracklets=sum(camera.tracklets for camera in cameras),
        crops=sum(camera.crops for camera in cameras),
        first_seen=format_moment(min((one.first_seen for one in seen if one.first_seen is not None), default=None)),
        last_seen=format_moment(max((one.last_seen for one in seen if one.last_seen is not None), default=None)),
        clips=site.clips.enabled,
        purpose_required=site.audit.purpose == "required",
        map_url=map_url(live),
        proposes_boxes=site.detector.weights is not None,
        notice=notice(live, gallery),
    )


def summarise_site(live: LiveGallery, caller: Caller) -> SiteSummary:
    """The site in one line, also while it cannot be searched."""
    try:
        info = describe_site(live, caller)
    except NotIndexed:
        cameras = sum(caller.sees(live.name, camera.id) for camera in live.site.cameras)
        return SiteSummary(site=live.name, cameras=cameras, tracklets=0, model_version=None)
    return SiteSummary(
        site=live.name, cameras=len(info.cameras), tracklets=info.tracklets, model_version=info.model_version
    )


def notice(live: LiveGallery, gallery: LoadedGallery) -> str | None:
    """What somebody who reads an answer should know beside it, if anything."""
    command = f"python -m gallery_service index {live.ref}"
    if gallery.current_model not in (None, gallery.bundle.version):
        return (
            f"Model {gallery.current_model} is live but has not indexed this site yet; this answer is from "
            f"{gallery.bundle.version}. Run '{command}'."
        )
    if gallery.left_out:
        return f"{gallery.left_out} tracklets are not searchable yet. Run '{command}'."
    if len(live.site.cameras) == 1:
        return "This site has one camera. Finding a person in another camera needs at least two."
    return None


def map_url(live: LiveGallery) -> str | None:
    """Where the map of the site is; None when it has none."""
    return f"/api/v1/sites/{live.name}/map" if live.site.map else None
