"""Rows in every table of a site's database and of the users', as weeks of use leave them."""

from __future__ import annotations

import numpy as np

from gallery_service.access.accounts import Accounts
from gallery_service.access.database import service_database
from gallery_service.access.repository import AccessRepository, OpenSession
from gallery_service.caller import LOCAL, Role
from gallery_service.databases.gallery import gallery_database
from gallery_service.erasure.erased_tracklets import ErasedTracklets
from gallery_service.investigations.repository import InvestigationRepository
from gallery_service.storage.repository import GalleryRepository
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from tests.gallery_service import synthetic

NOW = 1_772_000_000_000_000
CASES = ("a" * 32, "b" * 32)


def live_in(site: SiteConfig) -> None:
    """Fill the tables.

    Args:
        site: indexed.
    """
    repository = GalleryRepository(gallery_database(Workspace(site)).open())
    buried, *others = repository.crop_counts()
    repository.tombstone([buried[:2]])
    seen = list(repository.seen_by(None).tracklets([tracklet_id for _, tracklet_id, _ in others]).values())
    cases = InvestigationRepository(
        repository.engine, LOCAL, site.name, repository.audit, ErasedTracklets(Workspace(site))
    )
    for number, case in enumerate(CASES):
        columns = {"title": "Wäsche ☂ am Brunnen", "purpose": "case 7", "notes": "seen twice", "status": "open"}
        times = {"created_by": "eve", "created_at": NOW, "changed_at": NOW}
        cases.add({"investigation_id": case, **columns, **times})
        cases.change(case, NOW + 1, {"notes": "seen three times,\nat noon"}, ["anna", "eve"], None)
        for found in seen[number : number + 2]:
            what = {
                "tracklet_id": found.tracklet_id, "camera_id": found.camera_id,
                "recording_sha256": found.recording_sha256, "start_pts_s": found.start_pts_s,
                "end_pts_s": found.end_pts_s,
            }  # fmt: skip
            query = {
                "query_id": synthetic.pseudo_sha256(found.tracklet_id)[:32], "kind": "tracklet", "asked_by": "eve",
                "asked_at": NOW, "model_version": "m-1", "pictures": 1, "filters": '{"top_k":20}', **what,
                "vector": np.linspace(-1, 1, 8, dtype=np.float32).tobytes(),
            }  # fmt: skip
            cases.add_query(case, NOW + 2, query, [b"\xff\xd8 a picture of somebody \xff\xd9"])
            decision = {
                "model_version": "m-1", "query_id": query["query_id"], "score": 0.8125, "decision": "confirmed",
                "note": "red coat, with a dog", "decided_by": "eve", "decided_at": NOW + 3,
            }  # fmt: skip
            times = {"first_seen": found.first_seen, "last_seen": found.last_seen}
            cases.put_hit(case, NOW + 3, {**what, **times}, decision)
            cases.put_hit(case, NOW + 4, {**what, **times}, {**decision, "decision": "rejected"})
    repository.close()
    users = AccessRepository(service_database())
    accounts = Accounts(users)
    for name, role in (("anna", Role.ADMIN), ("eve", Role.INVESTIGATOR), ("otto", Role.VIEWER)):
        accounts.add_user(LOCAL, name, role, "correct horse battery", ["toy", "plaza/cam1"])
        key = accounts.add_key(LOCAL, name, "nightly export", 90).key
        users.sign_in(LOCAL, OpenSession(synthetic.pseudo_sha256(name), name, NOW, NOW + 10**10), "192.0.2.7")
        users.touch(synthetic.pseudo_sha256(name), NOW + 10**8)
    users.change_user(LOCAL, "otto", "user.disabled", disabled_at=NOW)
    users.sign_in(LOCAL, OpenSession(synthetic.pseudo_sha256("otto"), "otto", NOW, NOW + 10**10), "192.0.2.7")
    users.keep_password("otto", "$argon2id$another")
    users.revoke(LOCAL, "eve", [("plaza", "cam1")])
    users.revoke_key(LOCAL, key, NOW)
    users.close()
