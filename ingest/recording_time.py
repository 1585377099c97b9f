"""When a recording began: from its container, from its file name, or from what the site says.

Inside a recording time is exact (PTS × time base, see `ingest.video`); this module only finds the moment of PTS zero.
A wrong moment is worse than none, so whatever cannot be read with certainty is None and stays null in every table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

TimeSource = Literal["container", "filename", "start", "unknown"]

_STRPTIME_FIELDS = {
    "Y": r"(?P<year>\d{4})",
    "y": r"(?P<year2>\d{2})",
    "m": r"(?P<month>\d{2})",
    "d": r"(?P<day>\d{2})",
    "j": r"(?P<yearday>\d{3})",
    "H": r"(?P<hour>\d{2})",
    "M": r"(?P<minute>\d{2})",
    "S": r"(?P<second>\d{2})",
    "f": r"(?P<fraction>\d{1,6})",
    "s": r"(?<!\d)(?P<epoch>\d{9,10})(?!\d)",
    "z": r"(?P<offset>Z|[+-]\d{2}:?\d{2})",
    "%": "%",
}
_GROUPS = {"year", "year2", "month", "day", "yearday", "hour", "minute", "second", "fraction", "epoch", "offset"}

# Containers written by a muxer without a clock carry the zero of some calendar (1904 for MP4, 1970, 1980 for cameras
# with an empty battery). Nothing recorded for re-identification is older than this.
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)


class TimePatternError(ValueError):
    """A file name pattern that cannot say when a recording began."""


@dataclass(frozen=True)
class RecordingStart:
    """When a recording's PTS zero was.

    Attributes:
        utc: aware datetime in UTC, or None when unknown.
        source: where it came from; "unknown" exactly when `utc` is None.
        guessed: it is the first of two moments that the file name may mean.
    """

    utc: datetime | None
    source: TimeSource
    guessed: bool = False


def compile_time_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a file name pattern.

    Two forms are understood, both searched for anywhere in the file's name (not its folder):

    * strptime: ``cam_%Y-%m-%d_%H-%M-%S``. Directives %Y %y %m %d %j %H %M %S %f %s (seconds since 1970) %z (offset from
      UTC: Z, +0200 or +02:00) and %%; all other characters stand for themselves.
    * a regular expression with named groups out of year, year2, month, day, yearday, hour, minute, second, fraction,
      epoch, offset: ``(?P<year>\\d{4})(?P<month>\\d\\d)(?P<day>\\d\\d)``.

    Raises:
        TimePatternError: it does not compile, names an unknown directive or group, or gives no full date.
    """
    if "%" in pattern:
        parts: list[str] = []
        rest = iter(pattern)
        for character in rest:
            if character != "%":
                parts.append(re.escape(character))
                continue
            directive = next(rest, "")
            if directive not in _STRPTIME_FIELDS:
                known = " ".join(f"%{name}" for name in _STRPTIME_FIELDS)
                raise TimePatternError(f"the directive '%{directive}' is not known; use {known}")
            parts.append(_STRPTIME_FIELDS[directive])
        source = "".join(parts)
    else:
        source = pattern
    try:
        compiled = re.compile(source)
    except (re.error, OverflowError, RecursionError) as error:
        raise TimePatternError(f"not a valid pattern: {error}") from None
    groups = set(compiled.groupindex)
    unknown = sorted(groups - _GROUPS)
    if unknown:
        raise TimePatternError(f"unknown group(s) {', '.join(unknown)}; use {', '.join(sorted(_GROUPS))}")
    has_day = "yearday" in groups or {"month", "day"} <= groups
    if "epoch" not in groups and not (groups & {"year", "year2"} and has_day):
        raise TimePatternError("it gives no full date: year, month and day (or day of the year, or epoch) are needed")
    return compiled


def time_from_filename(
    name: str, pattern: str, timezone: ZoneInfo, hint: datetime | None = None
) -> tuple[datetime, bool] | None:
    """Read the moment a file name states.

    Args:
        name: the file's name without its folder.
        pattern: see `compile_time_pattern`.
        timezone: the zone the name is written in, unless it gives its own offset.
        hint: about when it was, where something else says so. Of a time that occurs twice, because clocks were set
            back, the one nearer to it is taken, and without it the first.

    Returns:
        An aware UTC datetime, and whether it is a guess between two; None when the pattern does not match or matches an
        impossible date.

    Raises:
        TimePatternError: the pattern itself is wrong.
    """
    match = compile_time_pattern(pattern).search(name)
    if match is None:
        return None
    found = {key: value for key, value in match.groupdict().items() if value is not None}
    try:
        if "epoch" in found:
            return datetime.fromtimestamp(int(found["epoch"]), UTC), False
        year = int(found["year"]) if "year" in found else 2000 + int(found["year2"])
        if "yearday" in found:
            day = datetime(year, 1, 1) + timedelta(days=int(found["yearday"]) - 1)
            if day.year != year:
                return None
        else:
            day = datetime(year, int(found["month"]), int(found["day"]))
        local = day.replace(
            hour=int(found.get("hour", 0)),
            minute=int(found.get("minute", 0)),
            second=int(found.get("second", 0)),
            microsecond=int(found.get("fraction", "0").ljust(6, "0")[:6]),
            tzinfo=_offset(found["offset"]) if "offset" in found else timezone,
        )
        first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
        if not first < second:  # a time that was skipped has them the other way round
            return first, False
        if hint is None:
            return first, True
        return min(first, second, key=lambda moment: abs(moment - hint)), False
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def _offset(text: str) -> tzinfo:
    return UTC if text == "Z" else datetime.strptime(text, "%z").tzinfo or UTC


def resolve_start(
    *,
    source: Literal["container", "filename", "start"],
    name: str,
    pattern: str | None,
    timezone: ZoneInfo,
    creation_time: datetime | None,
    stated: datetime | None,
    offset_s: float,
) -> RecordingStart:
    """Find when a recording began.

    Args:
        source: the camera's `time: {from: ...}`.
        name: file name, for `filename`.
        pattern: file name pattern, for `filename`.
        timezone: the site's timezone, in which file names are read.
        creation_time: what the container says, None when it says nothing; for `filename` it only decides which of two
            moments is meant.
        stated: a start written in site.yaml for this recording or its camera; a start stated for the recording itself
            wins over every other source, so the caller passes it whatever `source` is.
        offset_s: seconds added to what was found (a clock that runs late, a part that begins later).
    """
    found: datetime | None
    kind: TimeSource
    guessed = False
    if stated is not None:
        found, kind = stated.astimezone(UTC), "start"
    elif source == "filename" and pattern is not None:
        found, guessed = time_from_filename(name, pattern, timezone, creation_time) or (None, False)
        kind = "filename"
    elif source == "container":
        found, kind = creation_time, "container"
    else:
        found, kind = None, "unknown"
    if found is None or found < _EARLIEST:
        return RecordingStart(None, "unknown")
    try:
        return RecordingStart(found + timedelta(seconds=offset_s), kind, guessed)
    except OverflowError:
        return RecordingStart(None, "unknown")
