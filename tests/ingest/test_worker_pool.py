"""Processes may die; the parent goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from ingest.worker_pool import Done, Failed, Progress, run_jobs


def act(job: str, progress: Callable[[float], None]) -> str:
    """Does what the job says."""
    progress(0.5)
    if job == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "exit":
        os._exit(7)
    if job == "memory":
        raise MemoryError
    if job == "value":
        raise ValueError("the file is wrong")
    if job == "bug":
        raise KeyError("oops")
    if job == "print":
        print("on standard output")
    if job.startswith("$"):
        return os.environ.get(job[1:], "unset")
    if job.startswith("sleep"):
        time.sleep(600)
    return f"{job} done"


def test_every_job_ends_in_exactly_one_way() -> None:
    jobs = ["a", "kill", "b", "exit", "memory", "value", "bug", "c", "print"]
    ends: dict[int, Done[str] | Failed] = {}
    progress = set()
    for event in run_jobs(act, jobs, workers=2, threads=1):
        if isinstance(event, Progress):
            progress.add(event.job)
        else:
            assert event.job not in ends
            ends[event.job] = event
    assert sorted(ends) == list(range(len(jobs)))
    for number, job in enumerate(jobs):
        end = ends[number]
        if job in ("a", "b", "c", "print"):
            assert end == Done(number, f"{job} done")
        else:
            assert isinstance(end, Failed)
    texts = {
        job: end.error
        for job, end in zip(jobs, [ends[i] for i in range(len(jobs))], strict=True)
        if isinstance(end, Failed)
    }
    assert "was killed" in texts["kill"]
    assert "exit status 7" in texts["exit"]
    assert "out of memory" in texts["memory"]
    assert texts["value"] == "the file is wrong"
    assert texts["bug"].startswith("KeyError")
    assert progress >= {0, 2, 7}


def test_workers_have_the_environment_of_their_own_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> list[object]:
        events = run_jobs(act, ["$CALR_TEST_STORE_KEY"], workers=1, threads=1)
        return [event.result for event in events if isinstance(event, Done)]

    assert seen() == ["unset"]
    monkeypatch.setenv("CALR_TEST_STORE_KEY", "set later than the server that forks the workers was started")
    assert seen() == ["set later than the server that forks the workers was started"]


def test_closing_ends_the_workers() -> None:
    events = run_jobs(act, ["sleep"], workers=1, threads=1)
    assert isinstance(next(events), Progress)
    children = workers_of(os.getpid())
    assert len(children) == 1
    events.close()  # type: ignore[attr-defined]
    assert not any(_alive(child) for child in children)


PARENT = """
from ingest.worker_pool import run_jobs
from tests.ingest.test_worker_pool import act
if __name__ == "__main__":
    for event in run_jobs(act, ["sleep1", "sleep2"], workers=2, threads=1):
        print(type(event).__name__, flush=True)
"""


def test_workers_end_with_a_killed_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert [parent.stdout.readline(), parent.stdout.readline()] == ["Progress\n"] * 2
    children = workers_of(parent.pid)
    assert len(children) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while any(_alive(child) for child in children):
        if time.monotonic() > deadline:
            pytest.fail("a worker outlived its parent by a minute")
        time.sleep(0.05)


INTERRUPTED = """
import sys
from ingest.worker_pool import run_jobs
from tests.ingest.test_worker_pool import act
if __name__ == "__main__":
    print("ready", flush=True)
    try:
        for event in run_jobs(act, ["sleep1", "sleep2"], workers=2, threads=1):
            pass
    except KeyboardInterrupt:
        sys.exit(130)
"""


def ctrl_c_works() -> None:
    """Whatever a shell starts in the background ignores Ctrl-C, and hands that on: tests must not depend on it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_quiet_at_any_moment() -> None:
    """Above all while workers are being started, when they do not know yet that the signal is not for them."""
    for round_ in range(20):
        parent = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=ctrl_c_works,
        )
        assert parent.stdout is not None
        parent.stdout.readline()
        time.sleep(0.001 + 0.02 * round_)
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=60)
        assert (parent.returncode, said) == (130, "")


def workers_of(pid: int) -> list[int]:
    """The processes that work for the process; they are the children of its fork server."""
    servers = [child for child in _children(pid) if "forkserver" in _command_line(child)]
    return [worker for server in servers for worker in _children(server)]


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:  # it is gone
        return []


def _command_line(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read()


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
