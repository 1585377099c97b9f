"""The log as a collector reads it, from a real process."""

from __future__ import annotations

import json
import signal

import httpx

from ingest.site import SiteConfig
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import run_service


def test_a_line_per_request_tells_who_and_what_became_of_it_and_nothing_that_was_sent(indexed_site: SiteConfig) -> None:
    with run_service(indexed_site.folder, env={"CALR_SERVICE_LOG_FORMAT": "json"}) as service:
        image = {"image": ("crop.jpg", encode_jpeg(synthetic.query_crop(0)), "image/jpeg")}
        found = httpx.post(service.url + "/api/v1/sites/toy/search?purpose=SECRETCASE", files=image, timeout=120)
        assert found.status_code == 200
        tracklet = found.json()["matches"][0]["tracklet_id"]
        crop = httpx.get(service.url + found.json()["matches"][0]["crop_url"])
        nowhere = httpx.get(service.url + "/api/v1/sites/nowhere")
        refused = httpx.get(service.url + "/healthz", headers={"Host": "elsewhere.example"})
        service.process.send_signal(signal.SIGINT)
        assert service.process.stderr is not None
        text = service.process.stderr.read()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    requests = {line["request_id"]: line for line in lines if line["logger"] == "gallery_service.requests"}
    answers = (found, crop, nowhere, refused)
    assert list(requests) == [answer.headers["x-request-id"] for answer in answers]
    assert [line["status"] for line in requests.values()] == [200, 200, 404, 400]
    searched = requests[found.headers["x-request-id"]]
    assert (searched["caller"], searched["method"], searched["site"]) == ("local", "POST", "toy")
    assert searched["route"] == "/api/v1/sites/{site}/search"
    assert searched["milliseconds"] > 0
    assert "SECRETCASE" not in text
    assert tracklet not in text
