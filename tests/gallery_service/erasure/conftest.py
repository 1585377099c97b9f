"""A site with everything that holds people, and a look through every byte of it."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from gallery_service.indexing.build import build_gallery
from ingest.shards import list_shards
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from tests.gallery_service.conftest import copy_site
from tests.gallery_service.indexer import use_colours


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed by colour, which spares every test the network."""
    monkeypatch.delitem(sys.modules, "models.embedder", raising=False)
    monkeypatch.setitem(sys.modules, "models.embedder", None)  # put back what was there afterwards
    use_colours()


@pytest.fixture(scope="module")
def full_site(built_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Indexed by colour, with a training run and a report. Never written to: use `site`."""
    site = copy_site(built_site, tmp_path_factory.mktemp("full"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "models.embedder", raising=False)
        patch.setitem(sys.modules, "models.embedder", None)
        use_colours()
        build_gallery(site, quiet=True)
    workspace = Workspace(site)
    shards = list_shards(workspace)
    first = shards[0].crops().to_pylist()[0]
    picture = base64.b64encode(shards[0].read_jpeg(first["offset"], first["length"])).decode()
    run = workspace.runs / "r-1"
    (run / "labels").mkdir(parents=True)
    (run / "labels" / "inter-00.safetensors").write_bytes(b"labels")
    (run / "shards.json").write_text(
        json.dumps({"schema": 1, "shards": [f"{shard.camera_id}/{shard.shard_id}" for shard in shards]})
    )
    (run / "run.json").write_text("{}")
    for page in (run / "report.html", workspace.root / "report.html"):
        page.write_text(f'<img src="data:image/jpeg;base64,{picture}">')
    past = time.time() - 60
    for path in (run / "shards.json", workspace.root / "report.html"):
        os.utime(path, (past, past))
    return site.folder


@pytest.fixture
def site(full_site: Path, tmp_path: Path) -> SiteConfig:
    """A copy that a test may change."""
    return copy_site(full_site, tmp_path)


@dataclass(frozen=True)
class Person:
    """A tracklet, and every sequence of bytes that is somebody's alone."""

    tracklet_id: str
    needles: dict[str, bytes]


def person(site: SiteConfig, camera: str = "cam1", number: int = 0) -> Person:
    """Somebody at the site: the `number`-th tracklet of a camera."""
    workspace = Workspace(site)
    shard = next(shard for shard in list_shards(workspace) if shard.camera_id == camera)
    tracklet_id = shard.tracklets()["tracklet_id"].to_pylist()[number]
    needles = {"id": tracklet_id.encode()}
    for row in shard.crops().to_pylist():
        if row["tracklet_id"] == tracklet_id:
            jpeg = shard.read_jpeg(row["offset"], row["length"])
            needles[f"picture {row['crop_id']}"] = jpeg[-200:]
            needles[f"picture in a page {row['crop_id']}"] = base64.b64encode(jpeg)[200:400]
    for number_, vector in enumerate(vectors_of(site, tracklet_id)):
        needles[f"vector {number_}"] = vector
    return Person(tracklet_id, needles)


def vectors_of(site: SiteConfig, tracklet_id: str) -> list[bytes]:
    """The bytes of a tracklet's vectors as they lie in segments."""
    from gallery_service.storage.segments import read_segment

    gallery = Workspace(site).gallery
    found = []
    for path in sorted(gallery.rglob("*.safetensors")):
        segment = read_segment(gallery, str(path.relative_to(gallery).with_suffix("")))
        if tracklet_id in segment.tracklet_ids:
            row = segment.tracklet_ids.index(tracklet_id)
            found += [segment.means[row].tobytes(), *(v.tobytes() for v in segment.crops[segment.crop_tracklet == row])]
    return found


def where(site: SiteConfig, somebody: Person) -> list[str]:
    """What of a person stands in which file of the workspace, recordings and proofs aside. Parquet files are read."""
    root = Workspace(site).root
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        if path.relative_to(root).parts[0] in ("recordings", "erasures"):
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            content += repr(pq.read_table(path).to_pydict()).encode()
        found += [f"{path.relative_to(root)}: {name}" for name, needle in somebody.needles.items() if needle in content]
    return found
