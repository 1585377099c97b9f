"""What /metrics tells Prometheus. No label ever holds what a client sent."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


class Measurements:
    """The service's metrics, in a registry of their own so that two services in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "calr_http_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "calr_http_request_seconds", "Time to the last byte of an answer", ("route",), registry=self.registry
        )
        self.stages = Histogram(
            "calr_search_stage_seconds",
            "Time of a search's parts: wait for its turn, decode and embed (each picture), search of the index, rows",
            ("site", "stage"),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.waiting = Gauge(
            "calr_searches_waiting", "Searches whose pictures wait to be embedded", ("site",), registry=self.registry
        )
        self.clips = Gauge("calr_clips_being_cut", "Clips being cut or waiting for it", registry=self.registry)
        self.recall = Gauge(
            "calr_recall_at_10",
            "Share of a stored vector's true 10 nearest",
            ("site",),
            registry=self.registry,
        )
        self.model = Gauge(
            "calr_model", "1 for the model that answers", ("site", "version", "provider"), registry=self.registry
        )
        self.searches = Counter("calr_searches", "Searches answered", ("site", "by"), registry=self.registry)
        self.tracklets = Gauge(
            "calr_gallery_tracklets", "Tracklets that can be found", ("site",), registry=self.registry
        )

    def stage_timer(self, site: str) -> Callable[[str, float], None]:
        """What a site tells how long a part of a search took: (stage, seconds)."""

        def observe(stage: str, seconds: float) -> None:
            self.stages.labels(site, stage).observe(seconds)

        return observe


class RequestMeasurement:
    """ASGI middleware: counts and times requests by the route that answered, not by the address asked for."""

    def __init__(self, app: ASGIApp, measurements: Measurements) -> None:
        self._app = app
        self._measurements = measurements

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._measurements.requests.labels(method, route, str(status)).inc()
            self._measurements.seconds.labels(route).observe(time.perf_counter() - started)
