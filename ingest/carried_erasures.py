"""What is erased in one state of a recording is erased in all of them.

A recording that was taken too early has several contents: the shorter ones, and the one it has grown into. They begin
at the same moment, so a line of `erasures.jsonl` means the same in each. Here it is written down for each: then whoever
looks for the lines of a content finds all that hold for it, and need not know that the recording was ever shorter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from ingest.erasure_selection import not_yet_known
from ingest.erasures import Erasure, add_erasures, load_erasures
from ingest.shards import Shard, newest_shards
from ingest.workspace import Workspace


def states_of(shard: Shard) -> set[str]:
    """The content hashes of a shard's recording: its own, and those of when it was shorter."""
    return {shard.video_sha256, *shard.replaces}


def lines_to_carry(states: Collection[str], erasures: Iterable[Erasure]) -> list[Erasure]:
    """The lines that states of one recording lack of each other's.

    Args:
        states: content hashes of the recording.
        erasures: what is written down, of any recording.
    """
    mine = [erasure for erasure in erasures if erasure.video_sha256 in states]
    copies = [replace(erasure, video_sha256=state) for state in sorted(states) for erasure in mine]
    return list(dict.fromkeys(not_yet_known(copies, mine)))


def lines_to_carry_in(shards: Iterable[Shard], erasures: Iterable[Erasure]) -> list[Erasure]:
    """As `lines_to_carry`, for the recordings of all these shards."""
    # Of a site that keeps a retention every recording has lines in the end, and every ingest asks.
    by_content: dict[str, list[Erasure]] = {}
    for erasure in erasures:
        by_content.setdefault(erasure.video_sha256, []).append(erasure)
    lines: list[Erasure] = []
    for shard in shards:
        if shard.replaces:
            states = states_of(shard)
            mine = (erasure for state in sorted(states) for erasure in by_content.get(state, []))
            lines += lines_to_carry(states, mine)
    return list(dict.fromkeys(lines))


def carry_erasures(workspace: Workspace) -> None:
    """Write down what the states of recordings lack of each other's erasures. Needs no lock.

    Whoever adds lines without the lock calls this afterwards, and so does the ingest after it has published: whichever
    of the two comes last finds what the other has done.

    Raises:
        ErasureError, ShardError: what lies there cannot be read.
    """
    erasures = load_erasures(workspace.erasures)
    if erasures:
        add_erasures(workspace.erasures, lines_to_carry_in(newest_shards(workspace), erasures))
