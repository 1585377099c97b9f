"""Times that only move forward, out of whatever timestamps a recording's frames carry.

Timestamps are missing, repeat, swing by a frame, lead astray once, leap over a pause of the recorder, or start again
from zero when a recorder was restarted. Which of it happened shows only in the frames that follow, so the clock looks
a few frames ahead where something does not fit, and nowhere else.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

ORDINARY_S = 1.0
"""A step up to this long needs no second look."""
LONGEST_PAUSE_S = 24 * 3600.0
"""No pause longer than this is believed: a damaged timestamp would drag everything after it along."""
LOOK_AHEAD = 5
"""So many frames may be astray in a row and the clock still finds back."""


class FrameClock:
    """The clock of one recording.

    Args:
        step_s: from one frame to the next where nothing else is known, seconds.

    Attributes:
        estimated: frames whose own time could not be used.
        restarts: times the recording's clock was set, and what follows was appended without a gap.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._last_s: float | None = None
        self._shift_s = 0.0
        self.estimated = 0
        self.restarts = 0

    def follow(self, frames: Iterable[tuple[float | None, Item]]) -> Iterator[tuple[float, Item]]:
        """The frames with their times.

        Args:
            frames: (timestamp in seconds or None, whatever belongs to it), in order of display.

        Yields:
            (seconds, what belongs to it) in the same order, seconds strictly growing, 0 or more.
        """
        source = iter(frames)
        ahead: deque[tuple[float | None, Item]] = deque()
        while True:
            if not ahead:
                ahead.extend(_some(source, 1))
                if not ahead:
                    return
            stamp, item = ahead.popleft()
            seconds = self._usual(stamp)
            if seconds is None:
                ahead.extend(_some(source, LOOK_AHEAD - len(ahead)))
                assert stamp is not None
                seconds = self._unusual(stamp, [later for later, _ in ahead])
            self._last_s = seconds
            yield seconds, item

    def _usual(self, stamp: float | None) -> float | None:
        """The time of a frame that fits, or that has no timestamp; None where the following frames must tell."""
        last = self._last_s
        if stamp is None or not math.isfinite(stamp):
            self.estimated += 1
            return 0.0 if last is None else last + self._step_s
        if last is None:
            if stamp > ORDINARY_S:
                return None
            # A recording whose first frame comes before its stated beginning begins with that frame.
            self._shift_s = max(0.0, -stamp)
            return stamp + self._shift_s
        seconds = stamp + self._shift_s
        if last < seconds <= last + ORDINARY_S:
            return seconds
        if last - ORDINARY_S <= seconds <= last:
            # Repeated or out of order by a little: just behind the one before, so that the next one still fits.
            self.estimated += 1
            return last + self._step_s / 16
        return None

    def _unusual(self, stamp: float, later: list[float | None]) -> float:
        seconds = stamp + self._shift_s
        following = [t + self._shift_s for t in later if t is not None and math.isfinite(t)]
        if self._last_s is None:
            if any(0 <= t < seconds for t in following):
                self.estimated += 1
                return 0.0
            if seconds > LONGEST_PAUSE_S:
                self._shift_s = -stamp
                return 0.0
            return seconds
        last = self._last_s
        if any(last < t <= last + ORDINARY_S for t in following):
            self.estimated += 1
            return last + self._step_s / 16
        if last < seconds <= last + LONGEST_PAUSE_S:
            return seconds
        self.restarts += 1
        self._shift_s += last + self._step_s - seconds
        return last + self._step_s


def _some(source: Iterator[Item], count: int) -> Iterator[Item]:
    for _ in range(count):
        try:
            yield next(source)
        except StopIteration:
            return
