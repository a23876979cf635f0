"""A run: one check after the other, each effect carried out for real, until the next run takes over."""

from __future__ import annotations

import os
import select
import signal
import sys
import syslog
import time
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from ssl import SSLContext
from typing import Any

from . import dyndns, journal, metrics, names, wishes
from .cluster import Cluster, stamp_of
from .cycle import (
    Checker,
    Effect,
    Fence,
    Look,
    Looked,
    Pause,
    Publish,
    ReadShared,
    Send,
    Tell,
    WriteLease,
)
from .errors import FailoverError, SettingsError
from .model import Alarm, Answer, Kind, Outcome
from .probe import Probed, probe
from .settings import Settings
from .state import State, fitted
from .wire import trust

# Whoever nudged waits for what comes of it: the checks of the next few seconds look at everything.
NUDGED = 3
# The disk gets a new memory as often as this, and when something changed.
SAVE = 10.0
_PRIORITY = {"alarm": syslog.LOG_WARNING, "fence": syslog.LOG_CRIT, "would": syslog.LOG_INFO}
# What cron mails.
_MAILED = {"moved", "alarm", "cleared", "fence", "would"}


class Run:
    """A run of the checker.

    Args:
        settings: its settings.
        dry_run: decide, and send nothing; nothing is remembered either.

    Raises:
        SettingsError: a file that the settings name cannot be read.
    """

    def __init__(self, settings: Settings, *, dry_run: bool = False) -> None:
        self.settings = settings
        self.dry_run = dry_run
        self.state = State(settings.state_dir)
        memory, self.answers = self.state.load()
        self._sites = _trusted(settings.ca_file)
        self._dyndns = {name.name: _trusted(name.dyndns.ca_file) for name in settings.names}
        self.cluster = Cluster(settings, self._sites, self.state.boot)
        self.checker = Checker(settings, fitted(memory, settings), time.monotonic, dry_run=dry_run)
        self._stopped = False
        self._bell = _Bell()
        self._nudged = 0
        self._refused = False
        self._saved_at = float("-inf")
        self._measured_at = float("-inf")
        self._unmeasured = ""  # why the metrics could not be written the last time; empty where they could
        self._pool = ThreadPoolExecutor(
            2 * len(settings.sites) + sum(len(name.servers) for name in settings.names), thread_name_prefix="look"
        )

    # --- from outside

    def stop(self, *_: object) -> None:
        """End the run after the check that it is in."""
        self._stopped = True
        self._bell.ring()

    def nudge(self, *_: object) -> None:
        """Look at everything in the next checks, and at once."""
        self._nudged = NUDGED
        self._bell.ring()

    def heed_signals(self) -> None:
        """Have signals do so."""
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        signal.signal(signal.SIGUSR1, self.nudge)

    # --- the loop

    def go(self, *, once: bool = False) -> None:
        """Check until stopped, or for as long as a run may last.

        Args:
            once: make a single check.
        """
        if self.state.warning:
            self._tell(Tell("alarm", self.state.warning, {"alarm": "memory"}))
        ends = time.monotonic() + self.settings.rules.run_for
        while True:
            began = time.monotonic()
            wait = self.check()
            if once or self._stopped or time.monotonic() > ends:
                break
            self._bell.wait(max(0.05, began + wait - time.monotonic()))
            if self._stopped:
                break
        self._save(force=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def check(self) -> float:
        """Make one check, and return after how many seconds from its beginning the next is due."""
        checker = self.checker
        self._log_in()
        checker.accounts = {name.name: dyndns.account_of(name.dyndns) for name in self.settings.names}
        checker.wishes = wishes.read(self.settings.state_dir)
        nudged = self._nudged > 0
        self._nudged -= nudged
        if nudged or checker.wishes:
            checker.memory.alert = True
            checker.memory.shared_at = float("-inf")
        checker.further = self._own_alarms()
        before = self._seen()
        wait = self._carry_out(checker.check())
        self._drop_wishes()
        changed = before != self._seen()
        self._save(force=changed or nudged)  # whoever nudged reads what was seen
        self._measure(force=changed)
        return wait

    def _log_in(self) -> None:
        self.cluster.log_in((self.settings.observer, *self.settings.others), refused=self._refused)
        self._refused = False

    def _own_alarms(self) -> list[Alarm]:
        """Return what this run itself has trouble with."""
        found = []
        if self.cluster.trouble:
            found.append(Alarm("login", self.cluster.trouble))
        if self.state.problem:
            text = f"The memory {self.state.file} cannot be written ({self.state.problem}): this run goes on without."
            found.append(Alarm("memory", text))
        if self._unmeasured:
            text = (
                f"The metrics {self.settings.textfile} cannot be written ({self._unmeasured}): see that the disk has room "
                "and that the checker's user may write in that directory, or leave endpoint_failover_textfile empty."
            )
            found.append(Alarm("textfile", text))
        return found

    def _drop_wishes(self) -> None:
        memory, wanted = self.checker.memory, self.checker.wishes
        granted = {
            name: site
            for name, site in wanted.items()
            if name in memory.places and memory.places[name].agreed == site and not memory.names[name].lease
        }
        if granted:
            with suppress(FailoverError):
                wishes.drop(self.settings.state_dir, granted)

    # --- effects

    def _carry_out(self, check: Generator[Effect, Any, float]) -> float:
        result: Any = None
        while True:
            try:
                effect = check.send(result)
            except StopIteration as end:
                return float(end.value)
            result = self._do(effect)

    def _do(self, effect: Effect) -> Any:  # noqa: ANN401  # what the effect gives
        match effect:
            case Look():
                return self._look(effect)
            case Publish():
                return self.cluster.publish(effect.view, effect.via)
            case ReadShared():
                return self.cluster.read_shared(effect.names, effect.via)
            case WriteLease():
                return self.cluster.write_lease(effect.name, effect.lease, effect.cas, effect.via)
            case Send():
                return self._send(effect)
            case Pause():
                time.sleep(effect.seconds)
            case Fence():
                self._fence()
            case Tell():
                self._tell(effect)
        return None

    def _look(self, effect: Look) -> Looked:
        settings, rules = self.settings, self.settings.rules
        write = self.cluster.heartbeat(effect.view)
        sites = {
            site: self._pool.submit(probe, settings.sites[site].address, settings.names, write, self._sites, rules.timeout)
            for site in effect.sites
        }
        asked = {
            name: [self._pool.submit(names.ask, name, server, rules.dns_timeout) for server in settings.name(name).servers]
            for name in effect.names
        }
        outcomes: dict[str, dict[str, Outcome]] = {name.name: {} for name in settings.names} if sites else {}
        stamps = []
        for site, attempt in sites.items():
            found = _probed(attempt, settings)
            for name, outcome in found.outcomes.items():
                outcomes[name][site] = outcome
            if found.answer is not None and (stamp := stamp_of(found.answer)) is not None:
                stamps.append(stamp)
            self._refused = self._refused or any(each.kind is Kind.FORWARDED for each in found.outcomes.values())
        answers = {
            name: tuple(
                _answered(attempt, server.name)
                for attempt, server in zip(attempts, settings.name(name).servers, strict=True)
            )
            for name, attempts in asked.items()
        }
        self.answers = {**self.answers, **answers}
        return Looked(outcomes, answers, max(stamps, default=None))

    def _send(self, effect: Send) -> Any:  # noqa: ANN401
        where = self.settings.name(effect.name).dyndns
        address = self.settings.sites[effect.site].address
        reply = dyndns.update(where, address, self._dyndns[effect.name], self.settings.rules.dyndns_timeout)
        self._log(syslog.LOG_NOTICE, "update", {"name": effect.name, "to": effect.site, "answer": reply.text})
        return reply

    def _fence(self) -> None:
        try:
            Path(self.settings.fence_file).touch(mode=0o600)
        except OSError as error:
            text = f"The server of this site cannot be stopped: {self.settings.fence_file}: {error.strerror}."
            self._tell(Tell("alarm", text, {"alarm": "fence"}))

    def _tell(self, event: Tell) -> None:
        priority = _PRIORITY.get(event.event, syslog.LOG_NOTICE)
        self._log(priority, event.event, {**event.fields, "text": event.text})
        if event.event in _MAILED:
            with suppress(OSError):  # who reads it may be gone
                sys.stdout.write(f"{event.text}\n")
                sys.stdout.flush()

    def _log(self, priority: int, event: str, fields: Mapping[str, str]) -> None:
        """Write one line of key=value to the system's log."""
        words = [f"event={event}", *(f"{key}={_quoted(value)}" for key, value in fields.items())]
        journal.write(priority, " ".join(words))

    # --- what others see

    def _save(self, *, force: bool) -> None:
        now = time.monotonic()
        if self.dry_run or not (force or now - self._saved_at >= SAVE or self._moving()):
            return
        self.state.save(self.checker.memory, self.answers)
        self._saved_at = now

    def _seen(self) -> tuple[object, ...]:
        """Return what others want to know of at once when it changes."""
        memory = self.checker.memory
        leases = {name: watched.version for name, watched in memory.leases.items()}
        serving = {name: {site: each.serving for site, each in scores.items()} for name, scores in memory.scores.items()}
        return serving, list(memory.alarms), dict(memory.places), dict(memory.holds), leases, memory.identity

    def _moving(self) -> bool:
        """Whether something goes on that the next run must know of at once."""
        return self.checker.memory.alert or bool(self.checker.wishes)

    def _measure(self, *, force: bool) -> None:
        now = time.monotonic()
        file = self.settings.textfile
        if not file or self.dry_run or not (force or now - self._measured_at >= metrics.INTERVAL):
            return
        self._measured_at = now
        try:
            metrics.write(Path(file), self.settings, self.checker.memory, self.answers)
        except OSError as error:
            self._unmeasured = error.strerror or type(error).__name__
        else:
            self._unmeasured = ""


class _Bell:
    """Wakes a run that waits, from a signal handler: to set an Event takes a lock, which the run may just hold."""

    def __init__(self) -> None:
        self._heard, self._rope = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ring(self) -> None:
        with suppress(BlockingIOError):  # it has been rung often enough
            os.write(self._rope, b".")

    def wait(self, seconds: float) -> None:
        """Wait until it rings, or for so long."""
        poll = select.poll()
        poll.register(self._heard, select.POLLIN)
        poll.poll(seconds * 1000)
        with suppress(BlockingIOError):
            os.read(self._heard, 4096)

    def __del__(self) -> None:
        os.close(self._heard)
        os.close(self._rope)


def _trusted(ca_file: str) -> SSLContext:
    try:
        return trust(ca_file)
    except OSError as error:
        raise SettingsError(f"{ca_file} cannot be read ({error}): run playbooks/deploy/failover.yml again.") from None


def _probed(attempt: Future[Probed], settings: Settings) -> Probed:
    try:
        return attempt.result()
    except Exception as error:  # one site's surprise must not end the check of the others
        why = f"{type(error).__name__}: {error}"[:200]
        return Probed({name.name: Outcome(Kind.LOCAL, why) for name in settings.names})


def _answered(attempt: Future[Answer], server: str) -> Answer:
    try:
        return attempt.result()
    except Exception as error:
        return Answer(server, error=type(error).__name__)


def _quoted(text: str) -> str:
    plain = "".join(each if each.isprintable() else " " for each in text)
    return plain if plain and all(each not in ' "=' for each in plain) else '"' + plain.replace('"', "'") + '"'
