"""The wall clock of a site: what its people read off the wall, and the moments that the gallery stores."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from gallery_service.errors import BadQuery

UNKNOWN = "Time unknown"


@dataclass(frozen=True)
class SiteClock:
    """Times of one site.

    Attributes:
        zone: an IANA name, as site.yaml has it.
    """

    zone: str

    def local(self, moment: str) -> datetime:
        """A stored moment (RFC 3339) as the site's clock shows it."""
        return datetime.fromisoformat(moment).astimezone(ZoneInfo(self.zone))

    def day(self, moment: str) -> str:
        """Such as 5 Jan 2026."""
        local = self.local(moment)
        return f"{local.day} {local:%b %Y}"

    def time(self, moment: str) -> str:
        """Such as 09:00:12."""
        return f"{self.local(moment):%H:%M:%S}"

    def moment(self, moment: str | None) -> str:
        """Day and time, such as 5 Jan 2026, 09:00:12."""
        return UNKNOWN if moment is None else f"{self.day(moment)}, {self.time(moment)}"

    def span(self, first: str | None, last: str | None) -> tuple[str, str]:
        """From first to last in two lines: the day and the times, or, over midnight, two moments."""
        if first is None:
            return UNKNOWN, ""
        last = last or first
        if self.day(first) != self.day(last):
            return f"{self.moment(first)} –", self.moment(last)
        if self.time(first) == self.time(last):
            return self.day(first), self.time(first)
        return self.day(first), f"{self.time(first)} – {self.time(last)}"

    @staticmethod
    def length(seconds: float) -> str:
        """A length of time, such as 42 s, 3 min 20 s or 2 h 5 min."""
        whole = round(seconds)
        if whole < 60:
            return f"{whole} s"
        if whole < 3600:
            return f"{whole // 60} min {whole % 60} s"
        return f"{whole // 3600} h {whole % 3600 // 60} min"

    def earliest(self, local: str, field: str) -> str:
        """The first moment at which the site's clock shows a time; see `latest`."""
        return _written(min(self._moments(local, field)))

    def latest(self, local: str, field: str) -> str:
        """The last moment at which the site's clock shows a time, to its last microsecond, RFC 3339 in UTC: pages show
        whole seconds, and what is shown must be found by them.

        When summer time ends, a clock shows an hour twice; when it begins, it leaves one out. A span from the earliest
        to the latest reading holds everything that may be meant.

        Args:
            local: as a browser's datetime-local field writes it, such as 2026-03-29T02:30.
            field: its name, for the message.

        Raises:
            BadQuery: it is no date and time.
        """
        last = max(self._moments(local, field))
        return _written(last if last.microsecond else last.replace(microsecond=999_999))

    def _moments(self, local: str, field: str) -> list[datetime]:
        try:
            shown = datetime.fromisoformat(local)
            if shown.tzinfo is not None:
                raise ValueError
            zone = ZoneInfo(self.zone)
            return [shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        except (ValueError, OverflowError):
            raise BadQuery(f"{field}: {local[:40]!r} is no date and time; choose both") from None


def _written(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"
