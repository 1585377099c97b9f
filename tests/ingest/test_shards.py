"""Reading shards: the newest counts, and what is damaged is named."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingest.recording import ingest_recording
from ingest.shards import (
    CROPS,
    MANIFEST,
    SUMMARY,
    ShardError,
    list_shards,
    load_crops,
    open_shard,
    shards_fingerprint,
    superseded_shards,
)
from ingest.site import parse_site
from ingest.workspace import Workspace
from tests.ingest.conftest import BlueDetector, Walker, make_job, write_video


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace's root with two shards of cam1."""
    root = tmp_path_factory.mktemp("filled")
    for name, walkers in (("a", [Walker()]), ("b", [Walker(feet=110), Walker(feet=220)])):
        path = write_video(root / f"{name}.mp4", 1.5, walkers, creation_time="2026-03-01T08:00:00Z")
        job = make_job(path, root / "x")
        job = replace(job, folder=root / "shards" / "cam1" / job.shard_id)
        ingest_recording(job, detector=BlueDetector())
    return root


def workspace_of(root: Path) -> Workspace:
    site = {"schema": 1, "name": "x", "cameras": [{"id": "cam1", "videos": ["*.mp4"]}]}
    return Workspace(parse_site(site, root / "site.yaml"))


@pytest.fixture
def workspace(filled: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(filled / "shards", tmp_path / "shards")
    return workspace_of(tmp_path)


def test_an_empty_workspace(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    assert list_shards(workspace) == []
    crops = load_crops([])
    assert len(crops) == 0
    assert crops.identities() is None
    assert crops.crops_of_tracklet == []
    assert crops.boxes.shape == (0, 4)


def test_crops_of_several_shards(workspace: Workspace) -> None:
    shards = list_shards(workspace)
    crops = load_crops(shards)
    assert [len(shard.tracklets()) for shard in shards] in ([1, 2], [2, 1])
    assert len(crops.tracklet_ids) == 3
    assert len(crops) == len(set(crops.crop_id)) == sum(len(shard.crops()) for shard in shards)
    assert crops.camera_ids == ["cam1"]
    for i in range(len(crops)):
        tracklet = int(crops.tracklet[i])
        assert crops.crop_id[i].startswith(crops.tracklet_ids[tracklet] + "/")
        assert crops.shard_of(i).path == shards[int(crops.tracklet_video[tracklet])].path
        assert crops.tracklet_span[tracklet, 0] <= crops.captured_at[i] <= crops.tracklet_span[tracklet, 1]
        first, last = crops.tracklet_pts[tracklet]
        assert first <= crops.pts_s[i] <= last
    members = np.concatenate(crops.crops_of_tracklet)
    assert sorted(members.tolist()) == list(range(len(crops)))
    for tracklet, of_it in enumerate(crops.crops_of_tracklet):
        assert (crops.tracklet[of_it] == tracklet).all()
        assert (np.diff(crops.pts_s[of_it]) > 0).all()


def test_can_be_sent_to_another_process(workspace: Workspace) -> None:
    crops = load_crops(list_shards(workspace))
    again = pickle.loads(pickle.dumps(crops))
    np.testing.assert_array_equal(again.image(1), crops.image(1))


def test_fingerprint_is_that_of_the_shards(workspace: Workspace) -> None:
    shards = list_shards(workspace)
    assert load_crops(shards).fingerprint() == load_crops(shards[::-1]).fingerprint() == shards_fingerprint(shards)
    assert shards_fingerprint(shards[:1]) != shards_fingerprint(shards)


def second_generation(workspace: Workspace) -> Path:
    old = list_shards(workspace)[0].path
    new = old.with_name(old.name[:-1] + ("0" if old.name[-1] != "0" else "1"))
    shutil.copytree(old, new)
    summary = json.loads((new / SUMMARY).read_text())
    (new / SUMMARY).write_text(json.dumps({**summary, "generation": 2}))
    return new


def test_only_the_newest_generation_counts(workspace: Workspace) -> None:
    before = list_shards(workspace)
    new = second_generation(workspace)
    after = list_shards(workspace)
    assert len(after) == len(before)
    assert new in [shard.path for shard in after]
    assert [shard.path for shard in superseded_shards(workspace)] == [before[0].path]


def test_unfinished_folders_are_not_seen(workspace: Workspace) -> None:
    (workspace.shards / "cam1" / ".tmp-abc").mkdir()
    assert len(list_shards(workspace)) == 2


@pytest.mark.parametrize("damage", ["no summary", "not json", "schema", "other camera", "cut manifest", "cut tar"])
def test_damage_is_named(workspace: Workspace, damage: str) -> None:
    path = list_shards(workspace)[0].path
    summary = json.loads((path / SUMMARY).read_text())
    if damage == "no summary":
        (path / SUMMARY).unlink()
    elif damage == "not json":
        (path / SUMMARY).write_text("{")
    elif damage == "schema":
        (path / SUMMARY).write_text(json.dumps({**summary, "schema": 2}))
    elif damage == "other camera":
        (path / SUMMARY).write_text(json.dumps({**summary, "camera_id": "cam9"}))
    elif damage == "cut manifest":
        (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes()[:-100])
    else:
        (path / CROPS).write_bytes((path / CROPS).read_bytes()[:600])
    with pytest.raises(ShardError, match=path.name):
        crops = load_crops(list_shards(workspace))
        for i in range(len(crops)):
            crops.jpeg(i)


def test_a_table_of_other_columns_is_refused(workspace: Workspace) -> None:
    import pyarrow.parquet as pq

    shard = list_shards(workspace)[0]
    pq.write_table(shard.crops().drop_columns(["quality"]), shard.path / MANIFEST)
    with pytest.raises(ShardError, match="columns"):
        open_shard(shard.path).crops()
