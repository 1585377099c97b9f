"""Jobs spread over processes, in such a way that a process may die without taking anything else along.

Every worker has a pipe of its own, so a killed one cannot leave a lock behind; its job counts as failed and another
worker takes its place. Workers end with the parent, however that ends. They are forked from a server process that has
imported what takes long to import, so that it is imported once, and a worker that is replaced costs next to nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job, Callable[[float], None]], Result]


@dataclass(frozen=True)
class Progress:
    """Job number `job` has done `done` of its own units."""

    job: int
    done: float


@dataclass(frozen=True)
class Done(Generic[Result]):
    """Job number `job` is finished."""

    job: int
    result: Result


@dataclass(frozen=True)
class Failed:
    """Job number `job` cannot be done, and why. `kind` is the name of the exception's class, or "killed" when the
    process working on it died, `tries` times."""

    job: int
    error: str
    kind: str
    tries: int = 1


@dataclass
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    job: int | None = None


def run_jobs(
    work: Work[Job, Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    threads: int,
    tries: int = 1,
    imports: Sequence[str] = (),
) -> Generator[Progress | Done[Result] | Failed]:
    """Run `work` on every job in separate processes.

    Args:
        work: a function of a module, called with a job and a function to report progress to.
        jobs: must be picklable.
        workers: processes at a time.
        threads: that each may use for arithmetic.
        tries: how often a job is begun anew when the process working on it dies; one that fails with an error is not.
        imports: modules that all workers find imported; they must start no threads. What the first call in a process
            says holds for the later ones.

    Yields:
        What happens, as it happens; exactly one `Done` or `Failed` per job. Closing the iterator ends all workers.
    """
    waiting = list(range(len(jobs)))[::-1]
    crew: list[_Worker] = []
    deaths: Counter[int] = Counter()
    try:
        while waiting or any(worker.job is not None for worker in crew):
            while waiting and len(crew) < workers and len(crew) < len(waiting) + _busy(crew):
                crew.append(_hire(work, threads, imports))
            for worker in crew:
                if worker.job is None and waiting:
                    worker.job = waiting.pop()
                    try:
                        worker.pipe.send(jobs[worker.job])
                    except OSError:
                        continue  # it died before its first job, which the wait below notices
            ready = wait([worker.pipe for worker in crew] + [worker.process.sentinel for worker in crew])
            for worker in list(crew):
                if worker.pipe not in ready and worker.process.sentinel not in ready:
                    continue
                try:
                    # What it said before it died still counts.
                    event = worker.pipe.recv() if worker.pipe.poll() else None
                except (EOFError, OSError):
                    event = None
                if event is None:
                    if worker.pipe not in ready and worker.process.is_alive():
                        continue
                    crew.remove(worker)
                    _dismiss(worker)
                    if worker.job is None:
                        continue
                    deaths[worker.job] += 1
                    if deaths[worker.job] < tries:
                        waiting.insert(0, worker.job)  # after all others: it may take its worker along again
                        yield Progress(worker.job, 0.0)
                    else:
                        how = _how_it_ended(worker.process.exitcode)
                        yield Failed(worker.job, how, "killed", deaths[worker.job])
                    continue
                job = worker.job
                if job is None:
                    continue
                kind, content = event
                if kind == "progress":
                    yield Progress(job, content)
                    continue
                worker.job = None
                yield Done(job, content) if kind == "done" else Failed(job, content[1], content[0])
    finally:
        for worker in crew:
            _dismiss(worker)


def _busy(crew: list[_Worker]) -> int:
    return sum(worker.job is not None for worker in crew)


def _hire(work: Work[Any, Any], threads: int, imports: Sequence[str]) -> _Worker:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imports))
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, theirs, threads, dict(os.environ)), daemon=True)
    # Numerical libraries read these when they are loaded, which for some of them is in the server.
    with _environment(_threads(threads)), _ctrl_c_waits():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _dismiss(worker: _Worker) -> None:
    # Killed before its pipe is closed, or it could still complain about that.
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _how_it_ended(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "the process working on it was killed (out of memory?); run this again, with fewer --workers if need be"
    if code is not None and code < 0:
        return f"the process working on it ended by signal {-code}; run this again"
    return f"the process working on it ended with exit status {code}; run this again"


def _threads(count: int) -> dict[str, str]:
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(count))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that a child inherits."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Hold back SIGINT, here and in processes started meanwhile: one that is not ready yet would answer it with a
    traceback, and so would one whose parent left it half started."""
    # It resets the mask when it is started, so that must have happened before.
    resource_tracker.ensure_running()
    held: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    # The mask is for the children and this thread. Any other thread may still be handed the signal, which Python then
    # handles in the main thread.
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number)) if main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if main:
            signal.signal(signal.SIGINT, before)
        if held:
            signal.raise_signal(signal.SIGINT)


def _serve(work: Work[Any, Any], pipe: Connection, threads: int, environment: dict[str, str]) -> None:
    import cv2

    # Ctrl-C goes to the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # What was inherited is the environment at the time of the server's start, which may have been long ago.
    os.environ.clear()
    os.environ.update(environment | _threads(threads))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(threads)
    # Libraries that print must not spoil the parent's standard output, which is for JSON.
    os.dup2(2, 1)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(work, job, lambda done: pipe.send(("progress", done))))


def attempt(work: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """What comes of the call: ("done", its result), or ("failed", (name of the exception's class, what to tell))."""
    try:
        return "done", work(*arguments)
    except MemoryError:
        return "failed", ("MemoryError", "out of memory; run this again with fewer --workers")
    except ValueError as error:
        return "failed", (type(error).__name__, str(error))
    except Exception as error:
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        text = f"{type(error).__name__}: {error} (at {os.path.basename(where.filename)}:{where.lineno})"  # noqa: PTH119
        return "failed", (type(error).__name__, text)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
