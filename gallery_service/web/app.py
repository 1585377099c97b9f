"""Puts the service together: sites, addresses, pages, limits, and one form for every error."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from gallery_service.access.gate import Gate
from gallery_service.access.identity import Identities
from gallery_service.access.routes import account_routes
from gallery_service.access.rules import is_unasked, refuse_routes_without_a_rule
from gallery_service.audit.routes import audit
from gallery_service.caller import caller_of
from gallery_service.erasure.routes import erasures
from gallery_service.errors import DatabaseUnavailable, Forbidden, GalleryError
from gallery_service.investigations.endpoints import investigations
from gallery_service.pages import STATIC, pages, problem, wants_page
from gallery_service.pictures.clip_queue import ClipQueue
from gallery_service.search.keeping_up import keeping_up
from gallery_service.search.site_search import SiteSearch
from gallery_service.settings import ServiceSettings
from gallery_service.web.caller_limit import CallerLimit
from gallery_service.web.endpoints import api, router
from gallery_service.web.internal_errors import InternalErrors
from gallery_service.web.invalid_fields import describe_invalid
from gallery_service.web.limits import BodyLimit, RequestLimit
from gallery_service.web.measurements import Measurements, RequestMeasurement
from gallery_service.web.openapi import describe
from gallery_service.web.origin import LOOPBACK_NAMES, SameOrigin, TrustedHosts
from gallery_service.web.problem_details import ProblemAnswer, when_to_come_again
from gallery_service.web.request_log import RequestLog
from gallery_service.web.security_headers import SecurityHeaders
from models.images import ImageError

_log = logging.getLogger("gallery_service")


def create_app(sites: Iterable[SiteSearch], settings: ServiceSettings, identities: Identities) -> FastAPI:
    """The service as an ASGI application.

    Args:
        sites: what it serves; closed when it shuts down.
        settings: limits.
        identities: who is who; closed, too.
    """
    served = {site.name: site for site in sites}
    measurements = Measurements()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with keeping_up(served.values(), settings.look_every_s):
            yield
        for site in served.values():
            site.close()
        identities.close()

    app = FastAPI(
        title="CALR gallery",
        version="1",
        summary="Find a person again in a camera network's recorded footage",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere, which an offline site cannot.
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(RequestLog),
            Middleware(SecurityHeaders),
            Middleware(RequestLimit, most=settings.max_requests, uncounted=is_unasked),
            Middleware(InternalErrors),
            Middleware(RequestMeasurement, measurements=measurements),
            Middleware(TrustedHosts, names=[*LOOPBACK_NAMES, *settings.allowed_hosts]),
            Middleware(SameOrigin),
            Middleware(BodyLimit, max_bytes=settings.max_upload_bytes, timeout_s=settings.body_timeout_s),
            Middleware(Gate, identities=identities, most_strangers=max(1, settings.max_requests // 4)),
            Middleware(
                CallerLimit, per_minute=settings.requests_per_minute, at_once=settings.requests_at_once_per_caller
            ),
        ],
        exception_handlers={
            GalleryError: _gallery_error,
            ImageError: _image_error,
            RequestValidationError: _validation_error,
            HTTPException: _http_error,
        },
    )
    for site in served.values():
        site.observe = measurements.stage_timer(site.name)
    app.state.sites = served
    app.state.measurements = measurements
    app.state.clip_queue = ClipQueue()
    app.state.identities = identities
    app.include_router(api)
    app.include_router(erasures)
    app.include_router(investigations)
    app.include_router(audit)
    app.include_router(router)
    app.include_router(pages)
    app.include_router(account_routes(identities))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    refuse_routes_without_a_rule(app)
    describe(app)
    return app


def _answer(request: Request, status: int, detail: str, headers: Any = None) -> Response:
    if wants_page(request):
        return problem(request, status, detail)
    return ProblemAnswer(status, detail, headers)


async def _gallery_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Forbidden):
        identities: Identities = request.app.state.identities
        route = f"{request.method} {request.scope['route'].path}"
        await run_in_threadpool(identities.record_refusal, caller_of(request), route, str(error))
    assert isinstance(error, GalleryError)
    if isinstance(error, DatabaseUnavailable):
        _log.error("%s", error)
    return _answer(request, error.status, error.told, when_to_come_again(error.status))


async def _image_error(request: Request, error: Exception) -> Response:
    return _answer(request, 422, str(error))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = describe_invalid([{**one, "loc": one["loc"][1:]} for one in error.errors()])  # without "body" and the like
    return _answer(request, 422, told)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404 and detail == "Not Found":
        detail = "there is nothing at this address; /openapi.json lists what there is"
    return _answer(request, error.status_code, detail, error.headers)
