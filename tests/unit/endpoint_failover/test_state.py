from __future__ import annotations

import copy
import json
import stat
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_failover import state
from endpoint_failover.cycle import Memory, Raised
from endpoint_failover.model import (
    NEVER,
    Answer,
    Change,
    Hold,
    Kind,
    Lease,
    NameMemory,
    Outcome,
    Phase,
    Place,
    Score,
    Standing,
    View,
    Watched,
)
from endpoint_failover.settings import Site
from endpoint_failover.state import FILE, State, fitted
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.endpoint_failover.servers import full_disk
from tests.unit.endpoint_failover.sites import NAME, settings_of

MEMORY = Memory(
    scores={NAME: {"infn": Score(fails=2, serving=True, since=12.5, why="TLS: no answer in time"), "ifca": Score()}},
    outcomes={NAME: {"infn": Outcome(Kind.WRITE, "a write was not answered", "standby", 1500.2)}},
    checked={"infn": 17.25, "ifca": NEVER},
    views={
        "infn": Watched(View({NAME: {"infn": Standing.UP, "ifca": Standing.DOWN}}), 7, NEVER, 3.0, 4.0),
        "ifca": Watched(None, 0, 1.0, 2.0, 3.0),
    },
    holds={"ifca": Hold(1795457000.5, "alice", "a new disk")},
    leases={NAME: Watched(Lease("infn", Phase.DONE, "no record", "infn", "no address", 125.0, 2.0), 3, 1.0, 2.0, 3.0)},
    names={
        NAME: NameMemory(
            trouble="down",
            uneven_since=None,
            lease=4,
            target="ifca",
            sent_at=8.5,
            tries=2,
            wait='Ä "quote"\n',
            lock=125.0,
            sends=(1.0, 2.0),
            last=Change("infn", "ifca", "infn is down", 1795457000.0),
        )
    },
    places={NAME: Place("infn", ("infn", "127.0.0.66"), ("ns2",)), "other.test": Place(None, ())},
    last={NAME: "infn is down"},
    alarms={"site infn": Raised("infn does not serve.", 3.0, seen=4, told_at=5.0)},
    checked_at=18.0,
    served_at=NEVER,
    shared_at=17.0,
    cluster_offset=1795456000.25,
    stalled=3,
    fenced_at=None,
    identity=True,
    alert=False,
)
ANSWERS = {NAME: (Answer("ns1", ("127.0.0.12",), ttl=60), Answer("ns2", error="no answer in time"))}


def stored(directory: Path) -> Path:
    State(directory).save(MEMORY, ANSWERS)
    return directory / FILE


def test_the_example_says_something_of_everything() -> None:
    same = {each.name for each in fields(Memory) if getattr(MEMORY, each.name) == getattr(Memory(), each.name)}
    assert same == {"served_at", "fenced_at"}


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    stored(tmp_path)
    again = State(tmp_path)
    assert again.load() == (MEMORY, ANSWERS)
    assert (again.warning, again.problem) == ("", "")


times = st.floats(allow_nan=False)
words = st.text(max_size=8)


@settings(max_examples=40)
@given(
    st.builds(
        Memory,
        scores=st.dictionaries(words, st.dictionaries(words, st.builds(Score, since=times), max_size=2), max_size=2),
        outcomes=st.dictionaries(words, st.dictionaries(words, st.builds(Outcome, ms=times), max_size=2), max_size=2),
        checked=st.dictionaries(words, times, max_size=2),
        holds=st.dictionaries(words, st.builds(Hold, until=times), max_size=2),
        names=st.dictionaries(words, st.builds(NameMemory, sent_at=st.none() | times, sends=st.tuples(times)), max_size=2),
        places=st.dictionaries(words, st.builds(Place), max_size=2),
        checked_at=st.none() | times,
        cluster_offset=st.none() | times,
    )
)
def test_whatever_is_remembered_comes_back_the_same(memory: Memory) -> None:
    text = json.dumps(state.encode(memory))
    assert state.decode(Memory, json.loads(text)) == memory


def test_a_first_run_has_no_memory_and_no_complaint(tmp_path: Path) -> None:
    fresh = State(tmp_path)
    assert fresh.load() == (Memory(), {})
    assert fresh.warning == ""


def test_nobody_else_reads_it_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = stored(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


# --- what is not to be had


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"\xff\xfe",
        b"no JSON",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"version": 1}',
        b'{"version": 1, "boot": "", "memory": [], "answers": {}}',
        b'{"version": 1, "boot": "", "memory": {"scores": 3}, "answers": {}}',
        b"[" * 200_000,
        b'{"version": 2, "boot": "", "memory": {}, "answers": {}}',
    ],
)
def test_what_is_no_memory_is_begun_afresh_with_a_warning(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    fresh = State(tmp_path)

    assert fresh.load() == (Memory(), {})
    assert str(tmp_path / FILE) in fresh.warning and "begun afresh" in fresh.warning
    assert len(fresh.warning) < 400
    fresh.save(MEMORY, ANSWERS)
    assert State(tmp_path).load() == (MEMORY, ANSWERS)


def test_half_a_file_is_no_memory_wherever_it_ends(tmp_path: Path) -> None:
    file = stored(tmp_path)
    whole = file.read_bytes()
    for end in range(0, len(whole), 37):
        file.write_bytes(whole[:end])
        assert State(tmp_path).load() == (Memory(), {})


def test_a_value_of_another_kind_anywhere_is_no_memory(tmp_path: Path) -> None:
    """Of whichever version of the program it is, and whoever wrote into it."""
    file = stored(tmp_path)
    whole = json.loads(file.read_text())
    count = 0
    for place in _places(whole):
        others: tuple[Any, ...] = ({}, "other", 7.5)
        for other in others:
            changed = copy.deepcopy(whole)
            _put(changed, place, other)
            file.write_text(json.dumps(changed))
            memory, answers = State(tmp_path).load()
            assert isinstance(memory, Memory) and isinstance(answers, dict)
            # Whatever was taken for a memory can be kept and shown.
            json.dumps(state.encode(memory))
            count += 1
    assert count > 150


def _places(content: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    below = [leaf for key, each in inside for leaf in _places(each, (*place, key))]
    return [place, *below] if place else below


def _put(content: Any, place: tuple[Any, ...], value: Any) -> None:
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = value


@pytest.mark.parametrize("what", ["directory", "link to nowhere"])
def test_what_is_no_file_is_no_memory(tmp_path: Path, what: str) -> None:
    if what == "directory":
        (tmp_path / FILE).mkdir()
    else:
        (tmp_path / FILE).symlink_to(tmp_path / "nowhere")
    found = State(tmp_path)
    assert found.load() == (Memory(), {})
    found.save(MEMORY, ANSWERS)
    assert bool(found.problem) == (what == "directory")
    assert not (tmp_path / "nowhere").exists()


def test_after_a_reboot_only_holds_are_remembered(tmp_path: Path) -> None:
    """All else is told by a clock that began anew."""
    file = stored(tmp_path)
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "boot": "another"}))
    assert State(tmp_path).load() == (Memory(holds=MEMORY.holds), {})


def test_the_boot_is_told_by_the_kernel() -> None:
    assert len(state.boot_id()) == 36


# --- disks


def test_a_full_disk_is_told_and_places_the_last_memory_as_it_was(tmp_path: Path) -> None:
    file = stored(tmp_path)
    before = file.read_bytes()
    run = State(tmp_path)
    with full_disk():
        run.save(replace(MEMORY, stalled=9), ANSWERS)

    assert run.problem == "File too large"
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (before, [file])
    run.save(replace(MEMORY, stalled=9), ANSWERS)
    assert run.problem == ""
    assert State(tmp_path).load()[0].stalled == 9


def test_a_directory_that_cannot_be_written_is_told() -> None:
    run = State(Path("/proc/self"))
    run.save(MEMORY, ANSWERS)
    assert run.problem


def test_whoever_reads_while_it_is_written_reads_a_whole_one(tmp_path: Path) -> None:
    stored(tmp_path)
    ended = threading.Event()
    seen: list[str] = []

    def read() -> None:
        while not ended.is_set():
            reader = State(tmp_path)
            reader.load()
            seen.append(reader.warning)

    reading = threading.Thread(target=read)
    reading.start()
    for turn in range(200):
        State(tmp_path).save(replace(MEMORY, stalled=turn), ANSWERS)
    ended.set()
    reading.join()
    assert len(seen) > 10 and set(seen) == {""}


# --- settings that changed


def test_a_site_that_was_replaced_is_no_observer_any_more(tmp_path: Path) -> None:
    """Else it would count for ever among those of whom a majority is wanted, and be reported as down."""
    declared = settings_of(tmp_path)
    sites = {"iisas": declared.sites["iisas"], "infn": declared.sites["infn"], "cnaf": Site("127.0.0.14")}
    candidates = replace(declared.names[0], candidates=("infn", "cnaf"))

    left = fitted(MEMORY, replace(declared, sites=sites, names=(candidates,)))

    assert (set(left.views), set(left.holds), set(left.checked)) == ({"infn"}, set(), {"infn"})
    assert (set(left.scores[NAME]), set(left.outcomes[NAME])) == ({"infn"}, {"infn"})
    assert (left.names, left.places) == ({}, {NAME: MEMORY.places[NAME]})  # it was on its way to a site that is gone


def test_a_name_that_was_declaredup_is_forgotten(tmp_path: Path) -> None:
    declared = settings_of(tmp_path)
    left = fitted(MEMORY, replace(declared, names=(replace(declared.names[0], name="other.test"),)))
    assert (left.scores, left.outcomes, left.leases, left.names, left.last) == ({}, {}, {}, {}, {})
    assert left.places == {"other.test": Place(None, ())}


def test_settings_that_stayed_change_nothing(tmp_path: Path) -> None:
    memory = replace(MEMORY, places={NAME: MEMORY.places[NAME]})
    assert fitted(memory, settings_of(tmp_path)) == memory
