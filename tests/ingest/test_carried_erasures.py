"""What is erased in one state of a recording is erased in all of them, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from ingest.carried_erasures import carry_erasures, lines_to_carry
from ingest.erasures import Erasure, add_erasures, load_erasures
from ingest.workspace import Workspace
from tests.gallery_service import synthetic

SHORT, LONG, OTHER = ("a" * 64, "b" * 64, "c" * 64)
BOX = (0.0, 0.0, 9.0, 9.0)


def test_every_state_gets_what_the_others_have() -> None:
    lines = [Erasure(SHORT, 0, 1, BOX), Erasure(LONG, 2, 3, BOX), Erasure(OTHER, 4, 5, None)]
    carried = lines_to_carry({SHORT, LONG}, lines)
    assert carried == [Erasure(SHORT, 2, 3, BOX), Erasure(LONG, 0, 1, BOX)]
    assert lines_to_carry({SHORT, LONG}, [*lines, *carried]) == []


def test_what_a_longer_line_says_already_is_not_said_again() -> None:
    assert lines_to_carry({SHORT, LONG}, [Erasure(SHORT, 0, 1, BOX), Erasure(LONG, 0, 9, None)]) == [
        Erasure(SHORT, 0, 9, None)
    ]


def test_a_workspaces_lines_are_carried_once(tmp_path: Path) -> None:
    workspace = Workspace(synthetic.write_site(tmp_path / "site"))
    carry_erasures(workspace)
    assert not workspace.erasures.exists()
    synthetic.add_shard(workspace, 1, synthetic.walks_of(1), sha256=LONG, replaces=[SHORT])
    synthetic.add_shard(workspace, 2, synthetic.walks_of(2), sha256=OTHER)
    lines = [Erasure(LONG, 0, 1, BOX), Erasure(OTHER, 4, 5, None)]
    add_erasures(workspace.erasures, lines)
    for _ in range(2):
        carry_erasures(workspace)
        assert load_erasures(workspace.erasures) == [*lines, Erasure(SHORT, 0, 1, BOX)]
