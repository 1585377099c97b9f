"""The erase command: what it says, and in which order."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gallery_service.caller import at_the_command_line
from gallery_service.erasure.erase import erase, verify, would_erase
from gallery_service.erasure.orders import Order, find_order, orders_folder, read_order
from gallery_service.errors import GalleryError
from ingest.erasure_selection import expired as what_expired
from ingest.erasure_selection import make_selection
from ingest.site import load_site
from ingest.workspace import Workspace


def run_erasure(ref: str, choice: dict[str, Any], expired: bool, reason: str, really: bool, as_json: bool) -> bool:
    """Erase, or say what would go.

    Args:
        ref: names the site.
        choice: what `make_selection` takes.
        expired: instead of a choice, what is older than its retention.
        reason: for the proof and the audit log.
        really: False only says what would go.
        as_json: print the proofs, or what would go, on standard output.

    Returns:
        Whether nothing of it was found afterwards.

    Raises:
        ValueError, OSError: it cannot be done, or not now.
    """
    site = load_site(ref)
    if expired:
        if any(choice.values()):
            raise GalleryError("--expired stands alone; leave the other choices out")
        selection, asked = what_expired(site, datetime.now(UTC)), {"expired": True}
        if not selection.spans:
            raise GalleryError(f"{site.file}: neither the site nor a camera has 'retention_days'")
    else:
        selection, asked = make_selection(site, **choice), {name: value for name, value in choice.items() if value}
    if not really:
        found = would_erase(site, selection, at_the_command_line())
        if as_json:
            print(json.dumps({"schema": 1, "erased": False, **vars(found)}, indent=1, sort_keys=True))
        else:
            _say(*found.tracklets)
        _say(f"{len(found.tracklets)} tracklets with {found.crops} crops would be erased (say --yes to do it)")
        _say(*found.remarks())
        return True
    outcome = erase(site, selection, asked=asked, caller=at_the_command_line(), reason=reason)
    if not outcome.proofs:
        _say("there is nothing of that")
    remarks = [*outcome.found.remarks(), *(remark for proof in outcome.proofs for remark in proof.remarks)]
    _say(*dict.fromkeys(remarks))
    folder = orders_folder(Workspace(site))
    if outcome.waiting is not None:
        _say(
            f"{len(outcome.found.tracklets)} tracklets are hidden from now on, and not removed yet: {outcome.waiting}",
            "run this again then; a running service does it by itself",
        )
    for proof in outcome.proofs if outcome.waiting is None else ():
        _tell(proof, folder / f"{proof.erasure_id}.json")
    if as_json:
        print(json.dumps({"schema": 1, "erased": True, "proofs": [p.as_json() for p in outcome.proofs]}, indent=1))
    return outcome.clean


def verify_proof(ref: str, proof: str, as_json: bool) -> bool:
    """Look again for what was erased.

    Args:
        ref: names the site.
        proof: its id, or the path of its file, which may have been kept elsewhere.

    Returns:
        Whether nothing of it was found.
    """
    site = load_site(ref)
    path = Path(proof)
    order = read_order(path) if path.is_file() else find_order(Workspace(site), proof)
    if order.site != site.name:
        raise GalleryError(f"{proof}: of site '{order.site}', not '{site.name}'")
    if order.state == "begun":
        raise GalleryError(f"{proof}: this erasure is not finished; run the erase command again")
    now = verify(site, order)
    _tell(now, path)
    if as_json:
        print(json.dumps(now.as_json(), indent=1))
    return now.clean


def _tell(proof: Order, path: Path) -> None:
    count = f"{len(proof.tracklets)} tracklets, {len(proof.crops)} crops"
    _say(f"erased, asked by {proof.by} at {proof.asked_at}: {count}; searched for afterwards in")
    for place in proof.searched:
        what = f"{len(place.found)} found" if place.found else "nothing found"
        _say(f"  {place.place} ({place.looked_at} looked at): {what}")
        _say(*(f"    {name}" for name in place.found[:10]))
    if proof.learned_from:
        _say(
            "have learned from it and cannot unlearn it; train anew to be rid of that: " + ", ".join(proof.learned_from)
        )
    _say(f"proof {proof.erasure_id}: {path}")


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)
