"""What nobody meant to send: uploads that are no images, or too much of one, and every parameter of every address."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from PIL import Image

from ingest.site import SiteConfig
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService, copy_site, run_service
from tests.soak import ROUNDS, SEED, mutated, record

SEARCH = "/api/v1/sites/toy/search"
SCHEMA = "/openapi.json"
# By how much odd uploads may raise the peak of memory: the largest image that is accepted has 48 MB of pixels, and
# decoding makes a few copies.
GROWTH_MIB = 400


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header promises a picture of that size and whose data is a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def encoded(form: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(synthetic.query_crop(0)[..., ::-1]))
    picture.convert("P" if form == "GIF" else "RGB").save(buffer, form, **how)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    info = Image.Exif()
    info[0x0112] = orientation
    return info.tobytes()


JPEG = encode_jpeg(synthetic.query_crop(0))
ODD: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "script": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "gif": encoded("GIF"),
    "tiff": encoded("TIFF"),
    "bomb, wide": png_that_claims(60_000, 60_000),
    "bomb, real": zlib.compress(bytes(10_000_000)),
    "zero wide": png_that_claims(0, 100),
    "cut": JPEG[: len(JPEG) // 2],
    "header alone": JPEG[:20],
    "polyglot: zip behind a JPEG": JPEG + b"PK\x03\x04" + bytes(100),
    "polyglot: html in a comment": JPEG[:2] + b"\xff\xfe\x00\x20<script>alert(1)</script>....." + JPEG[2:],
    "pickle": b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    **{f"turned {value}": encoded("JPEG", exif=exif(value)) for value in (0, 6, 8, 9, 65_535)},
    "broken exif": encoded("JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" + bytes(50)),
}


@pytest.fixture(scope="module")
def busy_service(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that allows one caller as much as a fuzzer asks for."""
    site = copy_site(built_gallery, tmp_path_factory.mktemp("fuzzed"))
    with run_service(site.folder, env={"CALR_SERVICE_REQUESTS_PER_MINUTE": "1000000"}) as running:
        yield running


def memory_mib(service: RunningService) -> float:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def upload(service: RunningService, content: bytes) -> httpx.Response:
    return httpx.post(service.url + SEARCH, files={"image": ("x", content)}, timeout=60)


def check(answer: httpx.Response) -> None:
    assert answer.status_code in (200, 413, 422), answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


def test_odd_uploads_are_answered_and_cost_little(busy_service: RunningService) -> None:
    check(upload(busy_service, JPEG))
    before = memory_mib(busy_service)
    answers = {name: upload(busy_service, content) for name, content in ODD.items()}
    for answer in answers.values():
        check(answer)
    taken = {name for name, answer in answers.items() if answer.status_code == 200}
    assert taken >= {name for name in ODD if name.startswith("turned")}
    assert not taken & {"nothing", "text", "script", "bomb, wide", "bomb, real", "zero wide", "header alone", "pickle"}
    assert memory_mib(busy_service) - before < GROWTH_MIB


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=2000), st.sampled_from(["multipart/form-data", "multipart/form-data; boundary=x", "text/plain"])
)
def test_bodies_of_garbage_are_refused(busy_service: RunningService, body: bytes, kind: str) -> None:
    answer = httpx.post(busy_service.url + SEARCH, content=body, headers={"Content-Type": kind}, timeout=60)
    assert answer.status_code in (415, 422)
    assert answer.json()["detail"]


def fuzz_api(service: RunningService, examples: int) -> int:
    """Ask every address of the API with what its description allows and with what it does not; how many were asked."""
    schema = schemathesis.openapi.from_url(service.url + SCHEMA)
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == "/metrics" or operation.method.upper() == "DELETE":
            continue
        asked += 1
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(
                max_examples=examples, deadline=None, database=None, derandomize=True,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case) -> None:
                answer = case.call(base_url=service.url, timeout=60)
                assert answer.status_code < 500 or answer.status_code == 503, (case.as_curl_command(), answer.text)
                case.validate_response(
                    answer,
                    checks=[
                        schemathesis.checks.content_type_conformance,
                        schemathesis.checks.response_schema_conformance,
                    ],
                )

            # Where nothing can be given, nothing can be given wrongly.
            with suppress(Unsatisfiable) if mode is schemathesis.GenerationMode.NEGATIVE else nullcontext():
                ask()
    return asked


def test_every_address_answers_what_it_says_it_answers(busy_service: RunningService) -> None:
    assert fuzz_api(busy_service, examples=4) > 10


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_mutated_uploads_and_parameters(indexed_site: SiteConfig) -> None:
    """Thousands of damaged images, and every address at length: no 500, no hang, memory bounded. Minutes."""
    draw = random.Random(SEED)
    originals = [JPEG, *(encoded(form) for form in ("PNG", "WEBP", "BMP"))]
    rounds, outcomes = ROUNDS or 3000, {200: 0, 413: 0, 422: 0}
    with run_service(indexed_site.folder, env={"CALR_SERVICE_REQUESTS_PER_MINUTE": "1000000"}) as service:
        check(upload(service, JPEG))
        before = memory_mib(service)
        for number in range(rounds):
            answer = upload(service, mutated(originals[number % len(originals)], draw))
            check(answer)
            outcomes[answer.status_code] += 1
        assert memory_mib(service) - before < GROWTH_MIB
        asked = fuzz_api(service, examples=100)
    record("fuzzed service", rounds=rounds, found=outcomes[200], refused=outcomes[422], addresses=asked)
