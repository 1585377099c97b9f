"""The API over a real socket: its contract, its refusals, and what it never does."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import shutil
from pathlib import Path
from urllib.parse import quote, urlsplit

import av
import httpx
import pytest
import yaml
from PIL import Image

from gallery_service.access.database import ACCESS
from gallery_service.access.identity import Identities
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.indexing.build import build_gallery
from gallery_service.search.site_search import SiteSearch
from gallery_service.settings import ServiceSettings
from gallery_service.web.app import create_app
from ingest.site import SiteConfig, load_site
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService, run_service

SEARCH = "/api/v1/sites/toy/search"
KEYS = {"query_id", "site", "model_version", "matches", "notice"}
MATCH_KEYS = {
    "tracklet_id", "camera_id", "first_seen", "last_seen", "score", "probability", "crop_url", "clip_url",
}  # fmt: skip


@pytest.fixture
def client(service: RunningService) -> httpx.Client:
    return httpx.Client(base_url=service.url, timeout=120)


def crop_file(person: int = 0) -> dict[str, tuple[str, bytes, str]]:
    return {"image": ("crop.jpg", encode_jpeg(synthetic.query_crop(person)), "image/jpeg")}


def raw(service: RunningService, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """A request whose path no client library tidies up."""
    address = urlsplit(service.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=headers is not None and "Host" in headers)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_search_answers_with_exactly_the_promised_keys(client: httpx.Client) -> None:
    answer = client.post(SEARCH, files=crop_file(), params={"top_k": 4}).json()
    assert set(answer) == KEYS
    assert (answer["site"], answer["notice"], len(answer["matches"])) == ("toy", None, 4)
    for match in answer["matches"]:
        assert set(match) == MATCH_KEYS
        assert match["probability"] is None
        assert -1 <= match["score"] <= 1


def test_crop_and_clip_urls_of_a_match_work(client: httpx.Client) -> None:
    match = client.post(SEARCH, files=crop_file(1)).json()["matches"][0]
    crop = client.get(match["crop_url"])
    assert (crop.status_code, crop.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(crop.content)).size == (40, 120)
    clip = client.get(match["clip_url"])
    assert (clip.status_code, clip.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(clip.content)) as video:
        assert float(video.duration) / 1e6 == pytest.approx(4, abs=0.3)
    part = client.get(match["clip_url"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, clip.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(clip.content)}"
    behind = client.get(match["clip_url"], headers={"Range": f"bytes={len(clip.content)}-"})
    assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{len(clip.content)}")


def test_a_match_can_be_searched_with(client: httpx.Client) -> None:
    match = client.post(SEARCH, files=crop_file(2)).json()["matches"][0]
    escaped = quote(match["tracklet_id"], safe="")
    for name in (match["tracklet_id"], escaped):
        answer = client.post(f"/api/v1/sites/toy/tracklets/{name}/search", params={"top_k": 200}).json()
        found = [one["tracklet_id"] for one in answer["matches"]]
        assert len(found) == 12
        assert match["tracklet_id"] not in found


def test_filters_reach_the_search(client: httpx.Client) -> None:
    def cameras(**params: object) -> set[str]:
        answer = client.post(SEARCH, files=crop_file(), params={"top_k": 50, **params})  # type: ignore[dict-item]
        return {match["camera_id"] for match in answer.json()["matches"]}

    assert cameras() == {"cam1", "cam2"}
    assert cameras(cameras="cam1") == {"cam1"}
    assert cameras(cameras=["cam1", "cam2"], exclude_cameras="cam1") == {"cam2"}
    assert cameras(since="2026-03-01T09:15:00+01:00") == {"cam2"}
    assert cameras(until="2026-03-01T08:15:00Z") == {"cam1"}
    assert cameras(since="2027-01-01T00:00:00Z") == set()


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"top_k": "0"}, "top_k"), ({"top_k": "2001"}, "top_k"), ({"top_k": "many"}, "top_k"),
        ({"cameras": "cam9"}, "cam9"), ({"exclude_cameras": "../cam1"}, "../cam1"), ({"since": "yesterday"}, "since"),
        ({"until": "2026-03-01T08:00:00"}, "until"),
        ({"min_quality": "1.5"}, "min_quality"), ({"min_quality": "nan"}, "min_quality"),
        ({"purpose": "x" * 501}, "purpose"), ({"rerank": "maybe"}, "rerank"),
        ({"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"}, "since"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(client: httpx.Client, params: dict[str, str], named: str) -> None:
    response = client.post(SEARCH, files=crop_file(), params=params)
    assert response.status_code == 422
    assert named in response.json()["detail"]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\xff\xd8\xff\xe0" + bytes(50), png_header(60_000, 60_000), png_header(100, 100),
     b"GIF89a" + bytes(99), b"%PDF-1.4", b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
    ids=["empty", "text", "cut JPEG", "huge PNG", "hollow PNG", "GIF", "PDF", "SVG"],
)  # fmt: skip
def test_what_is_no_image_is_refused_with_a_reason(client: httpx.Client, content: bytes) -> None:
    response = client.post(SEARCH, files={"image": ("x", content, "image/jpeg")})
    assert response.status_code == 422
    assert "the uploaded image" in response.json()["detail"]


def test_bodies_of_the_wrong_kind(client: httpx.Client) -> None:
    jpeg = encode_jpeg(synthetic.query_crop(0))
    cases = [
        (client.post(SEARCH, content=jpeg, headers={"Content-Type": "image/jpeg"}), 415),
        (client.post(SEARCH, json={"image": "x"}), 415),
        (client.post(SEARCH), 415),
        (client.post(SEARCH, files={"image": ("x.html", b"<html>", "text/html")}), 415),
        (client.post(SEARCH, files={"picture": ("x.jpg", jpeg, "image/jpeg")}), 422),
        (client.post(SEARCH, files={"image": jpeg}, data={"more": "x"}), 422),
        (client.post(SEARCH, content=b"nonsense", headers={"Content-Type": "multipart/form-data; boundary=x"}), 422),
        (client.post(SEARCH, content=b"nonsense", headers={"Content-Type": "multipart/form-data"}), 422),
    ]
    for response, status in cases:
        assert response.status_code == status, response.text
        assert "image" in response.json()["detail"]


def test_unknown_sites_addresses_and_methods(client: httpx.Client) -> None:
    for response, status in [
        (client.get("/api/v1/sites/nowhere"), 404),
        (client.post("/api/v1/sites/nowhere/search", files=crop_file()), 404),
        (client.get("/sites/nowhere"), 404), (client.get("/nothing"), 404), (client.get(SEARCH), 405),
        (client.delete("/api/v1/sites/toy"), 405), (client.get("/static/absent.js"), 404),
        (client.get("/api/v1/sites/toy/tracklets/cam1/x/000001/crop"), 404),
    ]:  # fmt: skip
        assert response.status_code == status
        assert isinstance(response.json()["detail"], str)
    assert "toy" in client.get("/api/v1/sites/nowhere").json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/sites/toy/tracklets/../../../../site.yaml/crop",
        "/api/v1/sites/toy/tracklets/%2e%2e/%2e%2e/%2e%2e/site.yaml/crop",
        "/api/v1/sites/toy/tracklets/..%2f..%2f..%2fsite.yaml/crop",
        "/api/v1/sites/toy/tracklets//etc/passwd/crop",
        "/api/v1/sites/toy/tracklets/cam1%00/x/crop",
        "/api/v1/sites/toy/tracklets/%ff%fe/crop",
        "/api/v1/sites/toy/tracklets/cam1/' OR 1=1 --/1/clip".replace(" ", "%20"),
        "/api/v1/sites/../toy",
        "/api/v1/sites/%2e%2e%2ftoy",
        "/sites/..%2f..%2fetc",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/..%5capp.py",
        "/static/%00",
    ],
)
def test_no_address_becomes_a_file(service: RunningService, path: str) -> None:
    status, body = raw(service, "GET", path)
    assert status in (400, 404)
    assert b"schema" not in body
    assert b"create_app" not in body
    assert b"root:" not in body


def test_every_answer_has_the_security_headers(client: httpx.Client) -> None:
    answers = [
        client.get("/"), client.get("/sites/toy"), client.get("/static/search.js"), client.get("/api/v1/sites"),
        client.get("/nothing"), client.get("/", headers={"Host": "evil.example"}),
        client.post(SEARCH, content=bytes(11 * 1024 * 1024)), client.post(SEARCH),
    ]  # fmt: skip
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "server" not in answer.headers
    assert client.get("/api/v1/sites").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "a/b"]
)
def test_other_names_for_this_machine_are_refused(service: RunningService, host: str) -> None:
    status, body = raw(service, "GET", "/api/v1/sites", {"Host": host})
    assert status == 400
    assert b"toy" not in body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8000", "LOCALHOST:99"])
def test_its_own_names_are_accepted(service: RunningService, host: str) -> None:
    assert raw(service, "GET", "/api/v1/sites", {"Host": host})[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({}, 200),
    ],
)
def test_other_sites_pages_cannot_search(client: httpx.Client, headers: dict[str, str], status: int) -> None:
    assert client.post(SEARCH, files=crop_file(), headers=headers).status_code == status


def test_its_own_page_can_search(client: httpx.Client, service: RunningService) -> None:
    headers = {"Origin": service.url, "Sec-Fetch-Site": "same-origin"}
    assert client.post(SEARCH, files=crop_file(), headers=headers).status_code == 200


def test_health_readiness_and_metrics(client: httpx.Client) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    ready = client.get("/readyz").json()
    assert (ready["status"], ready["sites"]) == ("ready", {"toy": "ready"})
    assert ready["models"] == {"toy": client.get("/api/v1/sites/toy").json()["model_version"]}
    assert ready["providers"]["toy"].endswith("ExecutionProvider")
    assert ready["tracklets"] == {"toy": 13}
    client.get("/api/v1/sites/<script>/x")
    client.post(SEARCH, files=crop_file())
    text = client.get("/metrics").text
    assert 'calr_gallery_tracklets{site="toy"} 13.0' in text
    assert 'calr_searches_total{by="image",site="toy"}' in text
    assert 'route="/api/v1/sites/{site}/search"' in text
    for stage in ("wait", "decode", "embed", "search", "rows"):
        assert f'calr_search_stage_seconds_count{{site="toy",stage="{stage}"}}' in text
    assert 'calr_recall_at_10{site="toy"} 1.0' in text
    assert 'calr_model{provider="' in text
    assert "script" not in text


def ask(site: SiteConfig, requests: list[tuple[str, str]]) -> list[httpx.Response]:
    """Ask the application in this process, where it can be tampered with."""
    settings = ServiceSettings(threads=1)
    transport = httpx.ASGITransport(
        create_app(
            [SiteSearch(site, settings)], settings, Identities(SqliteFile(site.folder / "service.sqlite", ACCESS))
        )
    )

    async def all_of_them() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [
                await client.request(method, path, files=crop_file() if method == "POST" else None)
                for method, path in requests
            ]

    return asyncio.run(all_of_them())


def test_a_site_that_is_not_indexed_says_what_to_run(site: SiteConfig) -> None:
    """The service refuses to start with one; this is one whose gallery is taken away."""
    info, search, page, ready, sites, home = ask(
        site,
        [("GET", "/api/v1/sites/toy"), ("POST", SEARCH), ("GET", "/sites/toy"), ("GET", "/readyz"),
         ("GET", "/api/v1/sites"), ("GET", "/")],
    )  # fmt: skip
    for response in (info, search):
        assert response.status_code == 409
        assert "python -m gallery_service index toy" in response.json()["detail"]
    assert page.status_code == 409
    assert "python -m gallery_service index toy" in page.text
    assert ready.status_code == 503
    assert "index toy" in ready.json()["sites"]["toy"]
    assert sites.json()["sites"][0]["model_version"] is None
    assert home.status_code == 200


def test_an_error_inside_is_json_without_its_insides(
    indexed_site: SiteConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SiteSearch, "visible", lambda *_: 1 / 0)
    (response,) = ask(indexed_site, [("GET", "/api/v1/sites/toy")])
    assert response.status_code == 500
    assert "log" in response.json()["detail"]
    assert "division" not in response.text
    assert "division" in caplog.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


def test_the_openapi_document_is_valid(client: httpx.Client) -> None:
    from fastapi.openapi.models import OpenAPI

    document = client.get("/openapi.json").json()
    OpenAPI.model_validate(document)
    assert document["openapi"].startswith("3.1")
    names = []
    for path, methods in document["paths"].items():
        wanted = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert ":" not in path
        for operation in methods.values():
            names.append(operation["operationId"])
            declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert declared == wanted
            assert operation["summary"]
            assert "2" in {status[0] for status in operation["responses"]}
    assert len(names) == len(set(names))
    for text in _references(document):
        target = document
        assert text.startswith("#/")
        for part in text[2:].split("/"):
            target = target[part]
    search = document["paths"]["/api/v1/sites/{site}/search"]["post"]
    assert {p["name"] for p in search["parameters"] if p["in"] == "query"} == {
        "top_k", "cameras", "exclude_cameras", "since", "until", "rerank", "purpose", "min_quality", "box",
        "investigation", "keep_image",
    }  # fmt: skip
    assert "image" in json.dumps(search["requestBody"]["content"]["multipart/form-data"])
    for status in ("403", "404", "408", "409", "413", "415", "422"):
        content = search["responses"][status]["content"]["application/problem+json"]
        assert content["schema"]["$ref"].endswith("ErrorAnswer")


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [text for value in node.values() for text in _references(value)]
    if isinstance(node, list):
        return [text for value in node for text in _references(value)]
    return []


def test_several_sites_are_kept_apart(indexed_site: SiteConfig, built_gallery: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(built_gallery, other)
    content = yaml.safe_load((other / "site.yaml").read_text()) | {"name": "other"}
    (other / "site.yaml").write_text(yaml.safe_dump(content))
    shutil.rmtree(other / "shards" / "cam2")
    build_gallery(load_site(str(other)), threads=1, quiet=True)
    with run_service(indexed_site.folder, other) as running, httpx.Client(base_url=running.url, timeout=120) as client:
        assert [site["site"] for site in client.get("/api/v1/sites").json()["sites"]] == ["other", "toy"]
        found = {
            name: client.post(f"/api/v1/sites/{name}/search", files=crop_file(), params={"top_k": 50}).json()["matches"]
            for name in ("toy", "other")
        }
        assert {name: len(matches) for name, matches in found.items()} == {"toy": 13, "other": 5}
        lost = next(m["tracklet_id"] for m in found["toy"] if m["camera_id"] == "cam2")
        assert client.get(f"/api/v1/sites/other/tracklets/{lost}/crop").status_code == 404
