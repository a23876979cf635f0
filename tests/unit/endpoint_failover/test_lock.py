from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from endpoint_failover import lock
from endpoint_failover.errors import FailoverError
from endpoint_failover.lock import Holder, Lock, began

from tests.unit.endpoint_failover.servers import eventually, full_disk, within

PROGRAM = str(Path(__file__).resolve().parents[3] / "roles/endpoint_failover/files")
# A run: it takes the lock, says so, and ends when it is asked to.
RUN = """
    import signal, sys, threading
    from pathlib import Path
    from endpoint_failover.lock import Lock
    directory, journal, patience = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    def say(word):
        with journal.open("a") as file:
            file.write(word + "\\n")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with Lock(directory) as lock:
        if not lock.take(patience):
            say("not needed")
            sys.exit(0)
        say("in")
        ended.wait()
        say("out")
"""
DEAF = RUN.replace("lambda *_: ended.set()", "signal.SIG_IGN")


@contextmanager
def started(directory: Path, text: str = RUN, *, patience: float = 5.0) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), str(directory), str(directory / "journal"), str(patience)],
        env={"PYTHONPATH": PROGRAM},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def journal(directory: Path) -> list[str]:
    try:
        return (directory / "journal").read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []


def is_in(directory: Path) -> bool:
    said = journal(directory)
    return bool(said) and said[-1] == "in"


def test_a_free_lock_is_taken_and_everybody_sees_by_whom(tmp_path: Path) -> None:
    assert Lock(tmp_path).holder() is None
    with Lock(tmp_path) as mine:
        assert mine.take()
        assert Lock(tmp_path).holder() == Holder(os.getpid(), began(os.getpid()))
    assert Lock(tmp_path).holder() is None


def test_a_new_run_takes_over_without_a_gap(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        eventually(lambda: is_in(tmp_path))
        with Lock(tmp_path) as mine, within(1.0):
            assert mine.take()
        assert (first.wait(5), journal(tmp_path)) == (0, ["in", "out"])


def test_a_run_that_hangs_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    with started(tmp_path, DEAF) as deaf:
        eventually(lambda: is_in(tmp_path))
        with Lock(tmp_path) as mine, within(2.0):
            assert mine.take(patience=0.3)
        assert deaf.wait(5) == -signal.SIGKILL


def test_a_run_that_was_stopped_is_killed_too(tmp_path: Path) -> None:
    with started(tmp_path) as stopped:
        eventually(lambda: is_in(tmp_path))
        stopped.send_signal(signal.SIGSTOP)
        with Lock(tmp_path) as mine, within(2.0):
            assert mine.take(patience=0.3)
        assert stopped.wait(5) == -signal.SIGKILL


def test_a_third_run_is_not_needed_and_says_nothing(tmp_path: Path) -> None:
    with started(tmp_path, DEAF), ExitStack() as stack:
        eventually(lambda: is_in(tmp_path))
        second = stack.enter_context(started(tmp_path))
        eventually(lambda: lock._holding(tmp_path / "next.lock") == second.pid)
        with Lock(tmp_path) as third, within(0.5):
            assert not third.take()
        assert second.poll() is None
    assert journal(tmp_path) == ["in"]


def test_of_many_that_start_at_once_one_is_left_and_never_were_two(tmp_path: Path) -> None:
    with ExitStack() as stack:
        runs = [stack.enter_context(started(tmp_path)) for _ in range(8)]
        eventually(lambda: sum(each.poll() is None for each in runs) == 1 and is_in(tmp_path), 15.0)
        (left,) = (each for each in runs if each.poll() is None)
        holder = Lock(tmp_path).holder()
        left.send_signal(signal.SIGTERM)
        assert left.wait(5) == 0
    assert holder is not None and holder.pid == left.pid
    assert {each.returncode for each in runs} <= {0, -signal.SIGTERM}  # asked to end before it could say how
    said = [word for word in journal(tmp_path) if word != "not needed"]
    assert said == ["in", "out"] * (len(said) // 2)


def test_whoever_has_the_lock_is_asked_though_it_had_no_time_to_say_that_it_is_there(tmp_path: Path) -> None:
    late = """
        import fcntl, signal, sys, threading
        from pathlib import Path
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        file = open(Path(sys.argv[1]) / "run.lock", "a")
        fcntl.flock(file, fcntl.LOCK_EX)
        Path(sys.argv[2]).write_text("in\\n")
        sys.exit(0 if ended.wait(20) else 1)
    """
    with started(tmp_path, late) as other:
        eventually(lambda: is_in(tmp_path))
        with Lock(tmp_path) as mine, within(2.0):
            assert mine.take(patience=10.0)
        assert other.wait(5) == 0


def test_nobody_is_killed_for_a_process_id(tmp_path: Path) -> None:
    """What an old file says is of no account: process ids come around."""
    with subprocess.Popen(["/bin/sleep", "30"]) as innocent:
        try:
            (tmp_path / "run.lock").write_text(f'{{"pid": {innocent.pid}, "began": {began(innocent.pid)}}}')
            assert Lock(tmp_path).holder() is None
            with started(tmp_path) as run:
                eventually(lambda: is_in(tmp_path))
                with Lock(tmp_path) as mine:
                    assert mine.take(patience=2.0)
                run.wait(5)
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_process_that_began_at_another_time_is_another_and_gets_no_signal() -> None:
    with subprocess.Popen(["/bin/sleep", "30"]) as innocent:
        try:
            stranger = Holder(innocent.pid, began(innocent.pid) - 1)
            stranger.signal(signal.SIGKILL)
            time.sleep(0)  # the signal would have been delivered with the call
            assert (stranger.alive, innocent.poll()) == (False, None)
        finally:
            innocent.kill()


def test_a_process_may_be_called_anything() -> None:
    text = (
        "import pathlib, sys; pathlib.Path('/proc/self/comm').write_text(') S 1 (x'); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert began(os.getpid()) <= began(process.pid)
        process.communicate(b"\n")
    assert began(process.pid) == 0


# --- disks


def test_a_full_disk_keeps_nobody_from_running_and_nobody_from_taking_over(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        eventually(lambda: is_in(tmp_path))
        with Lock(tmp_path) as mine:
            with full_disk():
                assert mine.take()
            assert first.wait(5) == 0
            assert Lock(tmp_path).holder() == Holder(os.getpid(), began(os.getpid()))


def test_a_disk_that_became_read_only_keeps_nobody_from_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lock(tmp_path) as mine:
        assert mine.take()
    opened = os.open

    def read_only(path: str, flags: int, *rest: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", read_only)
    with Lock(tmp_path) as mine:
        assert mine.take()
        assert Lock(tmp_path).holder() is not None


def test_without_a_directory_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FailoverError, match=r"gone/run\.lock cannot be opened .*playbooks/deploy/failover\.yml"):
        Lock(tmp_path / "gone").take()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FailoverError):
        Lock(tmp_path).take()
    assert not (tmp_path / "elsewhere").exists()


def test_one_that_cannot_be_got_rid_of_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's, say, or one that the kernel does not let go of."""
    monkeypatch.setattr("endpoint_failover.lock.LAST", 0.1)
    with started(tmp_path, DEAF):
        eventually(lambda: is_in(tmp_path))
        monkeypatch.setattr(Holder, "signal", lambda *_: None)
        with Lock(tmp_path) as mine, pytest.raises(FailoverError, match=r"Another run \(process \d+\) holds"):
            mine.take(patience=0.1)
