"""The benchmark command on a tiny data set in Market-1501's layout: it resumes, records once, and says what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calr.__main__ import app
from calr.ablation import ROWS
from calr.benchmark import Question
from calr.profiles import PROFILES, find_profile


def invoke(market: Path, folder: Path, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(
        app,
        [
            *("benchmark", "market1501", "--root", str(market), "--init", str(market / "start.safetensors")),
            *("--out", str(folder / "runs"), "--record", str(folder / "docs" / "accuracy.jsonl")),
            *("--profile", "cpu-tiny", "--json", *arguments),
        ],
    )
    return result.exit_code, result.stdout, result.stderr


def recorded(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "docs" / "accuracy.jsonl").read_text().splitlines()]


def test_a_row_is_trained_scored_and_recorded_once(market: Path, tmp_path: Path) -> None:
    code, out, err = invoke(market, tmp_path)
    assert code == 0, err
    line = json.loads(out)
    assert recorded(tmp_path) == [line]
    assert line["row"] == "full" and line["start"] == "start" and line["seed"] == 1
    assert 0 < line["mAP"] <= 1 and line["queries"] == 8 and line["gallery"] == 48
    assert (line["epochs"], line["batch"]) == (3, 16)
    assert str(market) not in json.dumps(line), "no path of this machine in the record"
    code, out, err = invoke(market, tmp_path)
    assert code == 0 and "nothing to do" in err
    assert json.loads(out) == line and len(recorded(tmp_path)) == 1


def test_the_direct_row_trains_nothing(market: Path, tmp_path: Path) -> None:
    code, out, err = invoke(market, tmp_path, "--row", "direct")
    assert code == 0, err
    assert json.loads(out)["epochs"] == 0 and recorded(tmp_path)[0]["row"] == "direct"


def test_float32_is_a_question_of_its_own(market: Path, tmp_path: Path) -> None:
    for more in ([], ["--float32"]):
        code, _, err = invoke(market, tmp_path, "--row", "direct", *more)
        assert code == 0 and "nothing to do" not in err, err
    line = recorded(tmp_path)[1]
    assert line["device"].endswith("float32") and line["command"].endswith("--float32")
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_what_cannot_be_is_said_in_a_line(market: Path, tmp_path: Path) -> None:
    code, _, err = invoke(market, tmp_path, "--row", "magic")
    assert code == 1 and "unknown row 'magic'" in err and "one-pivot" in err
    code, _, err = invoke(tmp_path, tmp_path)
    assert code == 1 and "bounding_box_train is missing" in err


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("row", sorted(ROWS))
def test_every_row_has_the_budget_of_its_profile(row: str, profile: str) -> None:
    settings = Question("market1501", row, profile, "osnet_x0_25", "x.safetensors", 1).settings()
    assert settings.inter == find_profile(profile).inter


def test_the_rows_add_the_parts_one_after_the_other() -> None:
    profile = find_profile("cpu-bench")
    rows = {name: row.change(profile) for name, row in ROWS.items()}
    assert rows["baseline"].refinement is rows["baseline"].alignment is rows["baseline"].entropy_warmup is None
    refinements = [rows[name].refinement for name in ("one-pivot", "pivots", "self-paced")]
    assert [r and (r.pivots, r.start) for r in refinements] == [("published", 1.0), ("camera", 1.0), ("camera", 0.5)]
    assert rows["self-paced"].alignment is None and rows["alignment"].alignment == profile.alignment
    assert rows["alignment"].entropy_warmup is None and rows["paper"].entropy_warmup == profile.entropy_warmup
    assert rows["full"] == profile


def test_a_data_set_is_counted_as_papers_do(market: Path) -> None:
    result = CliRunner().invoke(app, ["dataset", "market1501", "--root", str(market), "--json"])
    assert result.exit_code == 0, result.stderr
    counts = json.loads(result.stdout)
    assert counts["query"]["images"] == 8 and counts["gallery"]["images"] == 48
    assert set(counts["train"]) == {"images", "identities", "cameras"}
