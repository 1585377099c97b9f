"""docs/accuracy.md says what docs/accuracy.jsonl says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from calr.accuracy_table import BEGIN, END, accuracy_tables, read_lines, with_tables
from tests.conftest import REPOSITORY


def answer(row: str, seed: int, score: float, **changes: Any) -> dict[str, Any]:
    return {
        **{"row": row, "seed": seed, "mAP": score, "rank1": 0.8, "dataset": "market1501", "profile": "cpu-bench"},
        **{"start": "osnet", "device": "2 CPU cores", "seconds": 600, "commit": "abc", **changes},
    }


def test_the_document_is_made_from_the_record() -> None:
    document = (REPOSITORY / "docs" / "accuracy.md").read_text(encoding="utf-8")
    tables = accuracy_tables(read_lines(REPOSITORY / "docs" / "accuracy.jsonl"))
    assert with_tables(document, tables) == document, "run: python -m calr accuracy"


def test_seeds_become_a_mean_and_rows_keep_their_order(tmp_path: Path) -> None:
    lines = [answer("full", 1, 0.5), answer("full", 2, 0.6), answer("baseline", 1, 0.4), answer("full", 1, 0.7)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = accuracy_tables(read_lines(tmp_path / "a.jsonl")).splitlines()[4:]
    assert [row.split(" | ")[0] for row in rows] == ["| `baseline`", "| `full`"]
    assert "| 65.0 ± 7.1 | 80.0 ± 0.0 |" in rows[1], "of a question asked twice the last answer counts"
    assert "| 40.0 | 80.0 | – | 10 | abc |" in rows[0]


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(answer("full", 1, 0.5)) + "\n{\n")
    with pytest.raises(ValueError, match="line 2"):
        read_lines(tmp_path / "a.jsonl")


def test_only_what_is_between_the_marks_changes() -> None:
    assert with_tables(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nb"
    with pytest.raises(ValueError, match="lacks the marks"):
        with_tables("nothing", "new")
