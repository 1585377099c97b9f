"""The chain against everything that can be done to a log afterwards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery_service.audit.chain import FIRST_PREVIOUS, Entry, canonical_json, verify

TEXT = st.text(max_size=8)
Log = list[tuple[Entry, str]]


@st.composite
def logs(draw: st.DrawFn, least: int = 0) -> Log:
    """A whole log."""
    log: Log = []
    for number in range(1, draw(st.integers(least, 6)) + 1):
        details = canonical_json({draw(TEXT): draw(st.none() | st.integers() | TEXT)})
        previous = log[-1][1] if log else FIRST_PREVIOUS
        purpose = draw(st.none() | TEXT)
        entry = Entry(number, draw(st.integers(0, 9)), draw(TEXT), draw(TEXT), draw(TEXT), purpose, details, previous)
        log.append((entry, entry.hash()))
    return log


def test_the_hash_is_the_published_form() -> None:
    """Whoever checks a log without this program needs exactly this."""
    entry = Entry(1, 1772352000000000, "eve", "session", "search", "Fall Ä", '{"top_k":5}', FIRST_PREVIOUS)
    text = (
        '{"action":"search","at":1772352000000000,"details":"{\\"top_k\\":5}","id":1,"previous":"' + "0" * 64 + '",'
        '"purpose":"Fall \\u00c4","via":"session","who":"eve"}'
    )
    assert entry.hash() == hashlib.sha256(text.encode()).hexdigest()


@given(logs())
def test_a_whole_log_is_whole_and_so_is_every_earlier_head(log: Log) -> None:
    verdict = verify(log)
    assert (verdict.entries, verdict.problem) == (len(log), None)
    assert verdict.head == (log[-1][1] if log else FIRST_PREVIOUS)
    for head in [FIRST_PREVIOUS, *(stored for _, stored in log)]:
        assert verify(log, head) == verdict


CHANGES = {
    "id": lambda value: value + 1,
    "at": lambda value: value + 1,
    "who": lambda value: value + "x",
    "via": lambda value: value + "x",
    "action": lambda value: value + "x",
    "purpose": lambda value: "x" if value is None else None,
    "details": lambda value: value.replace("}", ',"x":1}'),
    "previous": lambda value: value[:-1] + ("1" if value[-1] == "0" else "0"),
}


@given(logs(least=1), st.sampled_from(sorted(CHANGES)), st.data())
def test_a_changed_entry_is_named(log: Log, field: str, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(log) - 1))
    entry, stored = log[number]
    log[number] = replace(entry, **{field: CHANGES[field](getattr(entry, field))}), stored
    verdict = verify(log)
    assert verdict.entries == number
    assert verdict.problem is not None
    assert str(number + 1) in verdict.problem


@given(logs(least=1), st.data())
def test_one_changed_with_its_own_hash_breaks_the_next(log: Log, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(log) - 1))
    changed = replace(log[number][0], who=log[number][0].who + "x")
    head = log[-1][1]
    log[number] = changed, changed.hash()
    if number + 1 < len(log):
        assert f"entry {number + 2} does not follow on entry {number + 1}" in str(verify(log).problem)
    else:
        assert verify(log).problem is None, "what nobody outside knows cannot be found"
        assert head in str(verify(log, head).problem)


@given(logs(least=2), st.data())
def test_a_missing_entry_is_named(log: Log, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(log) - 2))
    del log[number]
    assert f"entry {number + 1} is missing" in str(verify(log).problem)


@given(logs(least=1), st.data())
def test_a_tail_cut_off_shows_against_a_head_kept_elsewhere(log: Log, data: st.DataObject) -> None:
    head = log[-1][1]
    del log[data.draw(st.integers(0, len(log) - 1)) :]
    assert verify(log).problem is None
    assert "entries at the end are gone" in str(verify(log, head).problem)


@given(logs(least=2))
def test_a_log_written_anew_shows_against_a_head_kept_elsewhere(log: Log) -> None:
    head, anew = log[-1][1], []
    previous = FIRST_PREVIOUS
    for entry, _ in log:
        entry = replace(entry, who=entry.who + "x", previous=previous)
        previous = entry.hash()
        anew.append((entry, previous))
    assert verify(anew).problem is None
    assert verify(anew, head).problem is not None


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"score": float("nan")})
    assert json.loads(canonical_json({"a": "\ud800"})) == {"a": "\ud800"}
