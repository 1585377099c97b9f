"""Somebody who works on a gallery until killed: python -m ... SITE SEED NAME, with NAME "writer" or "eraser".

A line on standard output says what is about to be done, and one more says that it is done: what was done then must be
there for ever, what was only begun may be or not.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.gallery_service import synthetic
from tests.gallery_service.indexer import ColourEmbedder, use_colours


def walks_of(turn: str) -> list[synthetic.Walk]:
    """Three people of one recording only, nobody near anybody else: erasing one takes nobody with them, and no picture
    is that of another recording."""
    people = random.Random(turn).sample(range(10**6), 3)
    return [synthetic.Walk(person, 4.0 * number, 4.0 * number + 1.5) for number, person in enumerate(people)]


class ModelEmbedder(ColourEmbedder):
    """Embeds by colour, each model in a space of its own."""

    def embed(self, crops: Sequence[Any], batch_size: int = 32) -> Any:
        """As `models.embedder.Embedder.embed`."""
        order = np.random.default_rng(zlib.crc32(self.version.encode())).permutation(self.dim)
        return super().embed(crops, batch_size)[:, order]


def say(what: str, **about: object) -> None:
    """Tell the one who will check."""
    print(json.dumps({"what": what, **about}), flush=True)


def write(site: Any, draw: random.Random, turn: str) -> None:
    """Ingest a recording and index it, change the model, or compact."""
    from gallery_service.indexing.build import build_gallery, compact_gallery
    from ingest.workspace import Workspace
    from models.bundle import ModelStore

    workspace = Workspace(site)
    kind = draw.choices(["recording", "model", "compaction"], [6, 1, 1])[0]
    if kind == "recording":
        camera = draw.randint(1, 2)
        sha256 = synthetic.pseudo_sha256(turn)
        with workspace.lock():
            synthetic.add_shard(workspace, camera, walks_of(turn), sha256=sha256, start=synthetic.START)
        build_gallery(site, quiet=True)
        say("indexed", recording=sha256, ids=[f"cam{camera}/{sha256[:12]}/{number:06d}" for number in (1, 2, 3)])
    elif kind == "model":
        store = ModelStore(workspace.models)
        version = draw.choice([name for name in store.list() if name != store.current_version()])
        store.promote(version)
        report = build_gallery(site, quiet=True)
        assert report.problems == [], report.problems
        say("serving", version=version)
    else:
        compact_gallery(site)


def erase(site: Any, draw: random.Random, turn: str) -> None:
    """Erase somebody, or do what is recorded."""
    from gallery_service.caller import LOCAL
    from gallery_service.databases.gallery import gallery_database
    from gallery_service.erasure.erase import erase as erase_for_good
    from gallery_service.storage.repository import GalleryRepository
    from ingest.erasure_selection import Selection
    from ingest.shards import list_shards
    from ingest.workspace import Workspace

    workspace = Workspace(site)
    if draw.random() < 0.3:
        repository = GalleryRepository(gallery_database(workspace).open())
        repository.record(LOCAL, "test", {"turn": turn})
        repository.close()
        say("recorded", turn=turn)
        return
    ids = [name for shard in list_shards(workspace) for name in shard.tracklets().column("tracklet_id").to_pylist()]
    if ids:
        tracklet_id = draw.choice(ids)
        say("erasing", id=tracklet_id)
        selection = Selection(tracklets=frozenset({tracklet_id}))
        outcome = erase_for_good(site, selection, asked={}, caller=LOCAL)
        for proof in outcome.proofs if outcome.waiting is None else []:
            # A shard that the other one is just writing is named in the proof, and the next erasure looks again.
            for tracklet in proof.tracklets if proof.clean else []:
                say("erased", id=tracklet.tracklet_id)


def main(ref: str, seed: str, name: str) -> None:
    """Work on; who else is at work is waited for."""
    use_colours(ModelEmbedder)
    import gallery_service.erasure.erase  # noqa: F401 not while it is at work: that takes seconds
    from ingest.shards import ShardError
    from ingest.site import load_site
    from ingest.workspace import WorkspaceBusy

    draw, site = random.Random(f"{seed} {name}"), load_site(ref)
    say("begun")
    for number in range(10_000):
        # Another one may hold the lock, or take away what is being looked at.
        with contextlib.suppress(WorkspaceBusy, FileNotFoundError, ShardError):
            {"writer": write, "eraser": erase}[name](site, draw, f"{seed} {name} {number}")
        if name == "writer":
            time.sleep(draw.uniform(0.0, 3.0))  # else nobody else would ever hold the gallery's lock


if __name__ == "__main__":
    main(*sys.argv[1:4])
