"""An erasure as a child process that can be killed at a chosen point: python -m ... SITE TRACKLET POINT NUMBER."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.gallery_service.indexer import kill_at, use_colours


def main(ref: str, tracklet_id: str, point: str, number: int) -> None:
    """Erase a tracklet and be killed on the way."""
    use_colours()
    from gallery_service.caller import LOCAL
    from gallery_service.databases.gallery import gallery_database
    from gallery_service.erasure import erase as erasing
    from gallery_service.storage.repository import GalleryRepository
    from ingest import forgetting
    from ingest.erasure_selection import Selection
    from ingest.site import load_site
    from ingest.workspace import Workspace

    site = load_site(ref)
    points: dict[str, Callable[[], None]] = {
        "before the order": lambda: kill_at(erasing, "write_order", number),
        "before the lines": lambda: kill_at(erasing, "add_erasures", number),
        "before reports": lambda: kill_at(forgetting, "remove_derived", number),
        "before a shard": lambda: kill_at(forgetting, "publish_folder", number),
        "before old shards go": lambda: kill_at(forgetting, "remove_superseded", number),
        "before it is dated": lambda: kill_at(erasing, "write_order", number + 1),
        "before the gallery": lambda: kill_at(erasing, "build_gallery", number),
        "before rows": lambda: kill_at(GalleryRepository, "put_shard", number),
        "before the scrub": lambda: kill_at(type(gallery_database(Workspace(site))), "scrub", number),
        "before the search": lambda: kill_at(erasing, "search_afterwards", number),
        "before the proof": lambda: kill_at(erasing, "write_order", number + 2),
    }
    points[point]()
    selection = Selection(tracklets=frozenset({tracklet_id}))
    erasing.erase(site, selection, asked={"tracklets": [tracklet_id]}, caller=LOCAL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
