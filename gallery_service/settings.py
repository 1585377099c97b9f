"""Every setting of the service, each with the environment variable CALR_SERVICE_<NAME>."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from gallery_service.web.request_log import LogFormat


class ServiceSettings(BaseSettings):
    """Limits and habits of one running service.

    Attributes:
        allowed_hosts: names, without port, that requests may address besides 127.0.0.1, localhost and ::1 (JSON list).
        max_upload_bytes: of one query image.
        max_image_pixels: of one query image once decoded; a whole frame of a 4K camera has 8 million.
        body_timeout_s: a client that takes longer to send its body is turned away.
        header_timeout_s: a connection on which no whole request comes for so long is closed.
        reading_timeout_s: a connection whose client reads nothing of its answer for so long is closed.
        max_connections: more at once, silent ones included, are answered 503.
        max_requests: more at once are answered 503.
        requests_per_minute: searches and changes of one caller; more are answered 429. Looking is free.
        requests_at_once_per_caller: searches and changes of one caller that are being answered; more are answered 429.
        log_format: "text" for people, warnings and errors only; "json" for a collector, with a line per request.
        threads: of the embedding session; None: as many as there are cores.
        clip_cache_bytes: memory for clips already cut; nothing cut is kept on disk.
        clip_max_width: clips of wider recordings are scaled down, pixels.
        session_hours: a browser has to sign in again after so long.
        session_idle_minutes: and after so long without a request.
        look_every_s: how often it looks by itself whether a site has changed, so that what was erased leaves its memory
            though nobody asks it anything.
        reload_wait_s: how long a request waits for a changed gallery that is being loaded, before it is answered from
            the one before.
        reload_pause: after a load of more than a second, rows that are new wait for so many times as long as it took,
            so that a large site spends no more than a part of its time on loading.
        shutdown_s: how long running requests may take after Ctrl-C.
    """

    model_config = SettingsConfigDict(env_prefix="CALR_SERVICE_", extra="forbid")

    allowed_hosts: list[str] = Field(default_factory=list)
    max_upload_bytes: Annotated[int, Field(ge=1)] = 10 * 1024 * 1024
    max_image_pixels: Annotated[int, Field(ge=1)] = 16_000_000
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    header_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    reading_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    max_connections: Annotated[int, Field(ge=1)] = 512
    max_requests: Annotated[int, Field(ge=1)] = 64
    requests_per_minute: Annotated[int, Field(ge=1)] = 240
    requests_at_once_per_caller: Annotated[int, Field(ge=1)] = 16
    log_format: LogFormat = "text"
    threads: Annotated[int | None, Field(ge=1)] = None
    clip_cache_bytes: Annotated[int, Field(ge=0)] = 128 * 1024 * 1024
    clip_max_width: Annotated[int, Field(ge=64)] = 1280
    session_hours: Annotated[float, Field(gt=0)] = 12.0
    session_idle_minutes: Annotated[float, Field(gt=0)] = 60.0
    look_every_s: Annotated[float, Field(gt=0)] = 5.0
    reload_wait_s: Annotated[float, Field(ge=0)] = 2.0
    reload_pause: Annotated[float, Field(ge=0)] = 5.0
    shutdown_s: Annotated[int, Field(ge=0)] = 5
