"""The Python client against a real service."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from gallery_service.client import GalleryClient, GalleryProblem
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService


@pytest.fixture
def gallery(service: RunningService) -> Iterator[GalleryClient]:
    with GalleryClient(service.url) as client:
        yield client


def test_search_and_go_on_from_what_was_found(gallery: GalleryClient) -> None:
    assert [site.site for site in gallery.sites()] == ["toy"]
    cameras = [camera.camera_id for camera in gallery.site("toy").cameras]
    picture = encode_jpeg(synthetic.query_crop(0))
    answer = gallery.search("toy", [picture, picture], top_k=3, cameras=cameras[:1], since=None, purpose="case 7")
    assert 1 <= len(answer.matches) <= 3
    assert {match.camera_id for match in answer.matches} == {cameras[0]}
    part = gallery.search("toy", [picture], boxes=[(0.1, 0.0, 0.9, 1.0)])
    assert part.matches
    best = answer.matches[0]
    again = gallery.search_tracklet("toy", best.tracklet_id, exclude_cameras=[best.camera_id])
    assert {match.camera_id for match in again.matches} <= set(cameras[1:])
    assert gallery.download(best.crop_url).startswith(b"\xff\xd8")


def test_an_investigation_from_the_first_search_to_the_timeline(gallery: GalleryClient) -> None:
    own = "0123456789abcdef" * 2
    case = gallery.begin_investigation("toy", "Lost child", "case 7", investigation_id=own)
    again = gallery.begin_investigation("toy", "Lost child", "case 7", investigation_id=own)
    assert (case.investigation_id, again.created_at) == (own, case.created_at)
    found = gallery.search("toy", [encode_jpeg(synthetic.query_crop(0))], investigation=own)
    best, other = found.matches[:2]
    hit = gallery.decide("toy", own, best.tracklet_id, "confirmed", query_id=found.query_id)
    assert hit.score == pytest.approx(best.score, abs=1e-3)
    rejected = gallery.decide("toy", own, other.tracklet_id, "rejected", "other shoes")
    assert gallery.decide("toy", own, other.tracklet_id, "rejected", "other shoes") == rejected
    assert gallery.decide("toy", own, other.tracklet_id, "rejected") == rejected
    assert gallery.decide("toy", own, other.tracklet_id, "undecided").note == "other shoes"
    gallery.decide("toy", own, other.tracklet_id, "rejected")
    now = gallery.investigation("toy", own)
    assert (now.confirmed, now.rejected, now.queries) == (1, 1, 1)
    more = gallery.search_refined("toy", own, top_k=5)
    assert not {best.tracklet_id, other.tracklet_id} & {match.tracklet_id for match in more.matches}
    seen = gallery.timeline("toy", own)
    assert [one.tracklet_id for one in [*seen.sightings, *seen.undated]] == [best.tracklet_id]


class Asked(httpx.HTTPTransport):
    """Counts requests on their way."""

    count = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        return super().handle_request(request)


def test_lists_are_read_to_their_end(service: RunningService, gallery: GalleryClient) -> None:
    """Left to the service, a page is of 50: too many to begin, since each is a transaction that reaches the disk."""
    begun = [gallery.begin_investigation("toy", f"case {n}", "a test").investigation_id for n in range(5)]
    total = len(list(gallery.investigations("toy", status="open")))
    for page_size in (1, 2, total, None):  # the last page is full, short or full, full, the only one
        asked = Asked()
        with GalleryClient(service.url, transport=asked) as client:
            listed = [one.investigation_id for one in client.investigations("toy", "open", page_size)]
        assert listed[: len(begun)] == begun[::-1]
        assert len(set(listed)) == len(listed) == total
        assert asked.count == (1 if page_size is None else -(-total // page_size))


def test_a_refusal_says_why(gallery: GalleryClient) -> None:
    with pytest.raises(GalleryProblem, match="404: site 'nowhere' is not served") as problem:
        gallery.site("nowhere")
    assert problem.value.status == 404
    assert problem.value.request_id
    with pytest.raises(GalleryProblem, match=r"422: .*top_k"):
        gallery.search("toy", [encode_jpeg(synthetic.query_crop(0))], top_k=0)
    with pytest.raises(GalleryProblem, match=r"409: .*motion"):
        gallery.people("toy", encode_jpeg(synthetic.query_crop(0)))
