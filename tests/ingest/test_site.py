"""site.yaml: what is accepted, and what a person is told about the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ingest.site import SiteConfig, SiteError, camera_videos, load_site, parse_site

FILE = Path("somewhere/site.yaml")


def content(**changes: Any) -> dict[str, Any]:
    return {"schema": 1, "name": "lobby", "cameras": [{"id": "cam1", "videos": ["*.mp4"]}], **changes}


def camera(**changes: Any) -> dict[str, Any]:
    return content(cameras=[{"id": "cam1", "videos": ["a.mp4"], **changes}])


def on_map(**changes: Any) -> dict[str, Any]:
    return {**camera(**changes), "map": {"image": "maps/plan.png"}}


def test_cameras_hang_on_a_map() -> None:
    site = parse_site(on_map(position=[0, 0.25], heading=270), FILE)
    assert site.map is not None
    assert site.resolve(site.map.image) == FILE.parent.absolute() / "maps" / "plan.png"
    assert (site.cameras[0].position, site.cameras[0].heading) == ((0.0, 0.25), 270.0)


def test_defaults() -> None:
    site = parse_site(content(), FILE)
    assert (site.timezone, site.detector.weights, site.detector.fps, site.clips.enabled) == ("UTC", None, 10, False)
    assert site.training.input_size == (256, 128)
    assert site.cameras[0].time.source == "container"
    assert site.folder == FILE.parent.absolute()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([], "mapping"),
        ({}, "cameras: is missing"),
        (content(schema=2), "schema: "),
        (content(colour="red"), "colour: is not a known key"),
        (content(name="Lobby"), "name: use 1 to 40"),
        (content(name="../x"), "name: use 1 to 40"),
        (content(name="a" * 41), "name: use 1 to 40"),
        (content(timezone="Mars/Olympus"), "timezone: 'Mars/Olympus' is not a timezone"),
        (content(timezone="../../etc/passwd"), "is not a timezone"),
        (content(cameras=[]), "cameras: "),
        (content(cameras=[{"id": "a", "videos": ["x"]}, {"id": "A", "videos": ["x"]}]), "used twice"),
        (camera(id=".."), "cameras[0].id: use 1 to 40"),
        (camera(id="a/b"), "cameras[0].id: use 1 to 40"),
        (camera(id=""), "cameras[0].id: use 1 to 40"),
        (content(cameras=[{"id": "a"}]), "cameras[0].videos: is missing"),
        (camera(videos=[{"path": "x", "begin": 1}]), "cameras[0].videos[0].begin: is not a known key"),
        (camera(videos=[{"path": "x", "start": "2026-01-01T00:00:00"}]), "needs an offset"),
        (camera(videos=[{"path": "x", "start": 5}]), "RFC 3339"),
        (camera(mask=[[[0, 0], [1, 1]]]), "at least 3 points"),
        (camera(mask=[[[0, 0], [0.5, 0.5], [1, 1]]]), "no area"),
        (camera(mask=[[[0, 0], [200, 0], [200, 100]]]), "not pixels"),
        (camera(mask=[[[0, 0], [float("nan"), 0], [1, 1]]]), "cameras[0].mask[0]"),
        (camera(time={"from": "filename"}), "needs a 'pattern'"),
        (camera(time={"from": "filename", "pattern": "%Y"}), "no full date"),
        (camera(time={"from": "start"}), "needs 'start'"),
        (camera(time={"from": "container", "pattern": "%Y%m%d"}), "only used with"),
        (camera(time={"from": "clock"}), "cameras[0].time.from"),
        (content(detector={"fps": 0}), "detector.fps"),
        (content(detector={"min_score": 2}), "detector.min_score"),
        (content(training={"input_size": [1, 2]}), "training.input_size"),
        (content(retention_days=0), "retention_days"),
        (content(map={"image": "/etc/plan.png"}), "map.image: '/etc/plan.png' lies outside"),
        (content(map={"image": "a/../../plan.png"}), "lies outside the folder"),
        (content(map={"image": "~/plan.png"}), "lies outside the folder"),
        (content(map={"image": ""}), "map.image"),
        (content(map={}), "map.image: is missing"),
        (content(map="plan.png"), "map: "),
        (camera(position=[0.5, 0.5]), "camera 'cam1' has a 'position'"),
        (on_map(position=[120, 40]), "cameras[0].position: [120, 40] lies outside the map"),
        (on_map(position=[0.1]), "cameras[0].position"),
        (on_map(position=[float("nan"), 0.5]), "cameras[0].position"),
        (on_map(heading=90), "cameras[0]: 'heading' is drawn at"),
        (on_map(position=[0, 1], heading=361), "cameras[0].heading"),
    ],
)
def test_what_is_wrong_is_named(wrong: object, says: str) -> None:
    with pytest.raises(SiteError) as error:
        parse_site(wrong, FILE)
    assert str(FILE) in str(error.value)
    assert says in str(error.value)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["schema", "name", "cameras", "id", "videos", "time", "mask", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json_like)
def test_any_content_is_a_site_or_a_site_error(anything: object) -> None:
    try:
        site = parse_site(anything, FILE)
    except SiteError:
        return
    assert isinstance(site, SiteConfig)


@given(json_like, st.sampled_from(["cameras", "detector", "training", "clips", "timezone", "retention_days", "name"]))
def test_any_value_in_any_field(value: object, key: str) -> None:
    try:
        parse_site(content(**{key: value}), FILE)
    except SiteError as error:
        assert key in str(error) or "camera" in str(error)


@pytest.mark.parametrize(
    "text", ["a: [", "\tx: 1", "schema: 1\nschema: 1\nname: a", "x: !!python/object/apply:os.system [ls]"]
)
def test_broken_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(SiteError, match="not valid YAML"):
        load_site(str(tmp_path))


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SiteError, match="cannot be read"):
        load_site(str(tmp_path))


def test_lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALR_SITES", str(tmp_path / "sites"))
    monkeypatch.chdir(tmp_path)
    for folder, name in (
        ("sites/one", "one"),
        ("deploy/sites/one", "one"),
        ("deploy/sites/two", "two"),
        ("else", "any"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "site.yaml").write_text(yaml.safe_dump(content(name=name)))
    assert load_site("one").folder == tmp_path / "sites/one"
    assert load_site("two").folder == tmp_path / "deploy/sites/two"
    assert not load_site("two").by_path
    assert load_site("./else").by_path
    assert load_site("else").by_path
    assert load_site("plaza").name == "plaza"  # the repository's own
    for wrong in ("three", "../sites/three", "", "Lobby", "else/site.yaml"):
        with pytest.raises(SiteError):
            load_site(wrong)


def test_name_must_be_the_one_it_was_looked_up_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALR_SITES", str(tmp_path))
    (tmp_path / "one").mkdir()
    (tmp_path / "one/site.yaml").write_text(yaml.safe_dump(content(name="other")))
    with pytest.raises(SiteError, match="looked up as 'one'"):
        load_site("one")


def test_videos_are_expanded_once_each_and_sorted(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", "c.avi", "x[1].mp4"):
        (tmp_path / name).touch()
    (tmp_path / "d.mp4").mkdir()
    start = datetime(2026, 1, 1, 8, tzinfo=UTC)
    site = parse_site(
        camera(
            videos=[
                "*.mp4",
                {"path": "a.mp4", "start": "2026-01-01T09:00:00+01:00", "offset_s": 2},
                "x[1].mp4",
                "gone.mp4",
            ]
        ),
        tmp_path / "site.yaml",
    )
    found = camera_videos(site.cameras[0])
    assert [recording.path.name for recording in found] == ["a.mp4", "b.mp4", "gone.mp4", "x[1].mp4"]
    assert (found[0].start, found[0].offset_s) == (start, 2)
    assert found[1].start is None
    assert camera_videos(parse_site(camera(videos=["*.mkv"]), tmp_path / "site.yaml").cameras[0]) == []


def test_the_folders_above_are_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "D[1]*"
    folder.mkdir()
    (folder / "a.mp4").touch()
    content = {"schema": 1, "name": "x", "cameras": [{"id": "c", "videos": ["*.mp4"]}]}
    site = parse_site(content, folder / "site.yaml")
    assert [recording.path for recording in camera_videos(site.cameras[0])] == [folder / "a.mp4"]


def test_a_start_of_the_camera_holds_for_its_recordings(tmp_path: Path) -> None:
    stated = camera(time={"from": "start", "start": "2026-01-01T00:00:00Z"})
    assert camera_videos(parse_site(stated, tmp_path / "site.yaml").cameras[0])[0].start == datetime(
        2026, 1, 1, tzinfo=UTC
    )


def test_weights_references(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").touch()
    site = parse_site(content(), tmp_path / "site.yaml")
    assert site.resolve_weights("osnet_x0_25_msmt17") == "osnet_x0_25_msmt17"
    assert site.resolve_weights("w.safetensors#sha256=ab") == f"{tmp_path / 'w.safetensors'}#sha256=ab"
    assert site.resolve_weights("../w") == str(tmp_path.parent / "w")
