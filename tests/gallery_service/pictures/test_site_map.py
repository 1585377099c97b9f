"""The site's map: served as a picture and nothing else."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from gallery_service.errors import NotFound
from gallery_service.pictures.site_map import SiteMapPicture
from ingest.site import SiteConfig, load_site
from tests.gallery_service.conftest import run_service


def describe(site: SiteConfig, **changes: Any) -> SiteConfig:
    content = yaml.safe_load(site.file.read_text())
    positions = {"cam1": {"position": [0.25, 0.5], "heading": 90}, "cam2": {"position": [1, 0]}}
    content["cameras"] = [camera | positions.get(camera["id"], {}) for camera in content["cameras"]]
    site.file.write_text(yaml.safe_dump(content | {"map": {"image": "plan.png"}} | changes))
    return load_site(str(site.folder))


def picture(path: Path, size: tuple[int, int] = (40, 20), colour: str = "red", **options: Any) -> bytes:
    Image.new("RGB", size, colour).save(path, **options)
    return path.read_bytes()


def test_the_map_and_where_cameras_hang_on_it(indexed_site: SiteConfig) -> None:
    with run_service(indexed_site.folder) as running, httpx.Client(base_url=running.url, timeout=120) as client:
        info = client.get("/api/v1/sites/toy").json()
        assert (info["map_url"], info["proposes_boxes"]) == (None, False)
        assert [(camera["position"], camera["heading"]) for camera in info["cameras"]] == [(None, None)] * 2
        missing = client.get("/api/v1/sites/toy/map")
        assert (missing.status_code, "site.yaml" in missing.json()["detail"]) == (404, True)
        # A running service takes it up.
        picture(indexed_site.folder / "plan.png")
        describe(indexed_site)
        info = client.get("/api/v1/sites/toy").json()
        assert [(camera["position"], camera["heading"]) for camera in info["cameras"]] == [
            ([0.25, 0.5], 90.0),
            ([1.0, 0.0], None),
        ]
        answer = client.get(info["map_url"])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert Image.open(io.BytesIO(answer.content)).getpixel((0, 0)) == (255, 0, 0)


def test_a_changed_picture_is_read_again_and_an_unchanged_one_is_not(site: SiteConfig) -> None:
    described, maps = describe(site), SiteMapPicture()
    picture(site.folder / "plan.png")
    first = maps.read(described)
    assert maps.read(described) is first
    picture(site.folder / "plan.png", (41, 20), "blue")
    assert Image.open(io.BytesIO(maps.read(described).content)).size == (41, 20)


def test_large_pictures_are_made_smaller_and_transparent_ones_lie_on_white(site: SiteConfig) -> None:
    described, maps = describe(site), SiteMapPicture()
    picture(site.folder / "plan.png", (6000, 30))
    assert Image.open(io.BytesIO(maps.read(described).content)).size == (2048, 10)
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(site.folder / "plan.png")
    assert Image.open(io.BytesIO(maps.read(described).content)).getpixel((4, 4)) == (255, 255, 255)


def test_a_photograph_stays_one_and_what_it_carried_does_not(site: SiteConfig) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where it was taken"
    content = picture(site.folder / "plan.png", format="JPEG", exif=exif) + b"<script>alert(1)</script>"
    (site.folder / "plan.png").write_bytes(content)
    served = SiteMapPicture().read(describe(site))
    assert served.media_type == "image/jpeg"
    assert b"script" not in served.content
    assert b"taken" not in served.content


@pytest.mark.parametrize(
    "what", ["absent", "text", "folder", "link outside", "folder outside", "bomb", "pipe", "large"]
)
def test_what_is_no_picture_inside_the_site_is_not_served(site: SiteConfig, tmp_path: Path, what: str) -> None:
    plan, outside = site.folder / "plan.png", tmp_path / "elsewhere"
    outside.mkdir()
    picture(outside / "plan.png")
    name = "plan.png"
    if what == "text":
        plan.write_text("root:x:0:0")
    elif what == "folder":
        plan.mkdir()
    elif what == "link outside":
        plan.symlink_to(outside / "plan.png")
    elif what == "folder outside":
        (site.folder / "maps").symlink_to(outside)
        name = "maps/plan.png"
    elif what == "bomb":
        Image.fromarray(np.zeros((7000, 7000), np.uint8)).save(plan)
    elif what == "pipe":
        os.mkfifo(plan)
    elif what == "large":
        with plan.open("wb") as file:
            file.truncate(33 * 1024 * 1024)
    with pytest.raises(NotFound, match=name) as error:
        SiteMapPicture().read(describe(site, map={"image": name}))
    assert "root:" not in str(error.value)
    assert str(tmp_path) not in str(error.value)
