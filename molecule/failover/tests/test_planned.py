"""Moving names on purpose, while a user works: nobody notices, and what would leave nobody serving is refused."""

from __future__ import annotations

import os
import time

import pytest
from lab import Run
from rounds import Stage

# Each takes the TTL of a minute; LONG=1 drains them all.
IN_TURN = ("iisas", "infn", "ifca") if os.environ.get("LONG") else ("infn",)


@pytest.fixture(scope="module")
def jwt(stage: Stage) -> str:
    return stage.checkin.token("alice")


def play(stage: Stage, playbook: str, *arguments: str, jwt: str = "") -> Run:
    return stage.lab.play(f"operate/{playbook}.yml", *[word for given in arguments for word in ("-e", given)], jwt=jwt)


def refused(stage: Stage, playbook: str, *arguments: str, jwt: str = "") -> str:
    run = stage.lab.run(f"operate/{playbook}.yml", *[word for given in arguments for word in ("-e", given)], jwt=jwt)
    assert run.returncode != 0, run.output[-3000:]
    return run.text


def test_names_are_moved_there_and_back(stage: Stage) -> None:
    stage.ready()
    began = time.monotonic()
    for site in ("ifca", "infn", "ifca"):
        run = play(stage, "move-endpoint", f"to={site}")
        assert f"vault.services.lab.test:8200 is answered by {site}" in run.text
        assert {stage.site_of(name) for name in stage.names} == {site}
    assert play(stage, "move-endpoint", "to=ifca").recap("changed") == 0
    one = play(stage, "move-endpoint", "to=infn", "name=secrets.egi.lab.test")
    assert [stage.site_of(name) for name in stage.names] == ["ifca", "infn"], one.text[-500:]
    assert stage.user.experience(began).failed == 0


@pytest.mark.long
def test_what_cannot_be_is_refused(stage: Stage, jwt: str) -> None:
    stage.ready()
    before = [stage.site_of(name) for name in stage.names]
    assert "iisas is no candidate of any name" in refused(stage, "move-endpoint", "to=iisas")
    assert "to is 'mars'" in refused(stage, "move-endpoint", "to=mars")
    assert "name is 'x.test'" in refused(stage, "move-endpoint", "to=infn", "name=x.test")
    assert "to is ''" in refused(stage, "move-endpoint")
    assert "site is 'mars'" in refused(stage, "drain-site", "site=mars", jwt=jwt)
    assert "'soon' is no duration" in refused(stage, "drain-site", "site=ifca", "for=soon", jwt=jwt)
    assert "Nobody is at the keyboard" in refused(stage, "drain-site", "site=ifca", "for=1h")
    with stage.faults.killed("vault-infn"):
        text = refused(stage, "drain-site", "site=ifca", "for=1h", jwt=jwt)
        assert "Without ifca only 1 of 3 members would be left, and 2 are needed" in text
        assert "would have nowhere to go" in text
        assert "infn does not serve" in refused(stage, "move-endpoint", "to=infn")
        assert "infn does not serve" in refused(stage, "restore-site", "site=infn", jwt=jwt)
    stage.ready()
    assert {stage.site_of(name) for name in stage.names} <= {*before, "ifca"}


def test_each_site_in_turn_is_drained_stopped_started_and_taken_back(stage: Stage, jwt: str) -> None:
    """Under load: no failed request for a user who retries once after a second."""
    stage.ready()
    began = time.monotonic()
    for site in IN_TURN:
        run = play(stage, "drain-site", f"site={site}", "for=2h", 'why="new disks"', "by=alice", jwt=jwt)
        assert f"{site} is drained" in run.text
        assert site not in {stage.site_of(name) for name in stage.names}
        assert stage.lab.active() != f"vault-{site}"
        if site == "infn":
            again = play(stage, "drain-site", f"site={site}", "for=1h", "by=alice", jwt=jwt)
            assert again.recap("changed") == 0
            assert "is held by alice already" in refused(stage, "drain-site", f"site={site}", "for=1h", "by=bob", jwt=jwt)
            assert "infn is held by alice (new disks)" in refused(stage, "move-endpoint", "to=infn")
        with stage.faults.host_stopped(f"vault-{site}"):
            stage.user.await_success(time.monotonic(), 10)
        assert f"{site} is a candidate again" in play(stage, "restore-site", f"site={site}", jwt=jwt).text
    seen = stage.user.experience(began)
    assert seen.operations > 100
    assert seen.failed_with_retry == 0, seen


@pytest.mark.long
def test_a_hold_that_runs_out_ends_by_itself(stage: Stage, jwt: str) -> None:
    stage.ready()
    here = stage.site_of(stage.names[0])
    other = {"infn": "ifca", "ifca": "infn"}[here]
    play(stage, "drain-site", f"site={other}", "for=5s", "by=alice", jwt=jwt)
    time.sleep(6)  # for as long as the hold lasts: that is what is tested
    stage.lab.ssh(f"vault-{here}", "runuser -u endpoint-failover -- endpoint-failover nudge")
    assert f"is answered by {other}" in play(stage, "move-endpoint", f"to={other}").text
