"""Rules of the house that no linter knows."""

from __future__ import annotations

import itertools
import re
import subprocess
import tomllib

import pytest

from tests.conftest import REPOSITORY


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    return listed.stdout.split()


def constrained_packages() -> set[str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return {line.split("==")[0].strip() for line in lines if "==" in line}


def test_every_dependency_is_pinned_and_its_licence_is_listed():
    text = (REPOSITORY / "docs" / "licences.md").read_text()
    listed = dict(re.findall(r"^\| ([a-z0-9-]+) \| (.*) \|$", text, re.MULTILINE))
    assert constrained_packages() ^ set(listed) == {"package"}  # the table's heading
    assert [name for name, licence in listed.items() if licence.strip() in ("", "None", "UNKNOWN")] == []
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[\[><=]", requirement)[0].lower() for requirement in wanted}
    assert names - constrained_packages() == {project["name"]}  # the tests want its other extras


def test_constraints_hold_versions_and_no_addresses():
    text = (REPOSITORY / "constraints.txt").read_text()
    assert "://" not in text
    assert "@" not in text
    assert "--" not in text


def test_every_python_gets_the_same_versions():
    """Newer ones have broken other Pythons unseen: recordings could not be opened, types did not fit."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    names = [line.split("==")[0].strip() for line in lines]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_make_alone_lists_every_target_with_a_line_of_help():
    text = (REPOSITORY / "Makefile").read_text()
    documented = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    assert {"setup", "demo", "test", "soak", "train-site", "ingest", "serve", "bench"} <= documented
    shown = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert all(re.search(rf"^{target}\s+\S", shown, re.MULTILINE) for target in documented)


def test_an_extra_that_is_none_is_refused():
    asked = subprocess.run(
        ["make", "setup", "EXTRA=opnvino"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert asked.returncode == 2
    assert "it must be cpu, openvino or gpu" in asked.stderr


def test_targets_that_need_a_site_say_so():
    asked = subprocess.run(["make", "need-site"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert "which site?" in asked.stderr


def test_nothing_of_one_machine_is_tracked():
    home = re.compile(r"(^|[\s\"'=(])/(home|root|work|Users)/\w")
    for name in tracked_files():
        file = REPOSITORY / name
        assert file.stat().st_size <= 2_000_000, f"{name} is too large for the repository"
        if file.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".sh", ""} and name != "tests/test_house.py":
            assert not home.search(file.read_text(errors="replace")), f"{name} names a path of one machine"


def test_files_from_others_are_those_whose_licence_is_listed():
    text = (REPOSITORY / "docs" / "licences.md").read_text()
    listed = re.findall(r"^\| (\S+\.js) \| \S+ ([\d.]+), ", text, re.MULTILINE)
    assert len(listed) == 2
    for name, version in listed:
        assert version in (REPOSITORY / name).read_text(), f"{name} is not of the version that is listed"
    assert {name for name in tracked_files() if name.endswith(".min.js")} == {name for name, _ in listed}
