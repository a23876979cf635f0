"""The generic names in DNS: who may change them, how fast, and what is left when a server is lost."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from lab import Lab, wait_for

NAME, OTHER = "vault.services.lab.test", "secrets.egi.lab.test"
ZONE, OTHER_ZONE = "services.lab.test", "egi.lab.test"
PRIMARY, SECONDARY, DYNDNS = "ns-iisas", "ns-ifca", "dyndns-iisas"
WRONG = "not the secret"
DYNDNS_NAME = "dyndns-iisas.lab.test"
MANAGE = (
    "cd / && runuser -u dyndns -- env PYTHONPATH=/usr/local/lib/dyndns DJANGO_SETTINGS_MODULE=dyndns_settings "
    "/opt/dyndns/current/bin/python"
)


@dataclass(frozen=True)
class Said:
    """What the DynDNS service answered."""

    status: int
    body: str
    seconds: float


def update(
    lab: Lab, address: str, *, name: str = NAME, user: str = NAME, secret: str = "", path: str = "/nic/update"
) -> Said:
    """Ask for a name to be changed, as a checker does."""
    secret = secret or (lab.state / f"dyndns/{user}.secret").read_text().strip()
    raw = socket.create_connection((lab.addresses[DYNDNS], 443), timeout=30)
    connection = http.client.HTTPSConnection(DYNDNS_NAME, timeout=30)
    connection.sock = lab.trust.wrap_socket(raw, server_hostname=DYNDNS_NAME)
    credentials = base64.b64encode(f"{user}:{secret}".encode()).decode()
    began = time.monotonic()
    query = urlencode({"hostname": name, "myip": address})
    connection.request("GET", f"{path}?{query}", headers={"Authorization": f"Basic {credentials}"})
    answer = connection.getresponse()
    return Said(answer.status, answer.read().decode(), time.monotonic() - began)


def ask(lab: Lab, host: str, name: str = NAME, kind: str = "A", *, recurse: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, kind, flags=dns.flags.RD if recurse else 0)
    return dns.query.udp(query, lab.addresses[host], timeout=2)


def at(lab: Lab, host: str, name: str = NAME) -> str:
    """Return the address that a DNS server has for a name; empty where it has none."""
    return next((str(record) for each in ask(lab, host, name).answer for record in each), "")


def agreed(lab: Lab, address: str, name: str = NAME) -> bool:
    return {at(lab, host, name) for host in (PRIMARY, SECONDARY)} == {address}


def move(lab: Lab, address: str, name: str = NAME) -> float:
    """Move a name, and return how long it took until both DNS servers had it, s."""
    began = time.monotonic()
    said = update(lab, address, name=name, user=name)
    assert said.body in (f"good {address}", f"nochg {address}"), said
    wait_for(lambda: agreed(lab, address, name), 5, f"both DNS servers to have {address}")
    return time.monotonic() - began


def nsupdate(lab: Lab, what: str, key: str = "", zone: str = ZONE) -> str:
    """Send an update to the primary from elsewhere, and return what it says of it: nothing when it was taken."""
    lines = [f"server {lab.addresses[PRIMARY]}", f"zone {zone}", *([f"key {key}"] if key else []), what, "send"]
    return lab.ssh("ns-ifca", "nsupdate 2>&1; true", stdin="\n".join(lines) + "\n")


def key(lab: Lab, name: str, file: str) -> str:
    return f"hmac-sha512:{name} {(lab.state / 'dns' / f'{file}.key').read_text().strip()}"


@pytest.fixture
def unlocked(lab: Lab) -> Callable[[], None]:
    """Give what makes the DynDNS service forget that it could not update a primary, instead of waiting for two minutes."""

    def unlock() -> None:
        code = (
            "import django; django.setup(); from nsupdate.main.models import Domain; Domain.objects.update(available=True)"
        )
        lab.ssh(DYNDNS, f"{MANAGE} -c '{code}'")

    return unlock


# --- what it is for ----------------------------------------------------------------------------------------------------


def test_an_update_is_at_both_servers_and_the_users_resolver_at_once(lab: Lab) -> None:
    took = [move(lab, f"192.0.2.{number}") for number in range(1, 6)]
    assert max(took) < 1, took
    print(f"\nupdate to both servers: {sorted(round(each * 1000) for each in took)} ms")
    lab.ssh("vm", "systemctl restart unbound")  # what it kept it may keep for a minute
    assert lab.ssh("vm", f"getent ahostsv4 {NAME}").split()[0] == "192.0.2.5"
    answer = ask(lab, PRIMARY)
    assert answer.answer[0].ttl == 60
    assert ask(lab, SECONDARY).answer[0].ttl == 60


def test_names_are_moved_independently(lab: Lab) -> None:
    move(lab, "192.0.2.10")
    move(lab, "192.0.2.20", OTHER)
    assert agreed(lab, "192.0.2.10")
    assert agreed(lab, "192.0.2.20", OTHER)


def test_the_resolver_keeps_what_it_was_told_for_as_long_as_it_was_told(lab: Lab) -> None:
    move(lab, "192.0.2.30")
    lab.ssh("vm", "systemctl restart unbound")
    assert lab.ssh("vm", f"dig +short {NAME}").strip() == "192.0.2.30"
    move(lab, "192.0.2.31")
    kept = lab.ssh("vm", f"dig +noall +answer {NAME}").split()
    assert kept[4] == "192.0.2.30"
    assert 0 < int(kept[1]) <= 60


# --- who may -----------------------------------------------------------------------------------------------------------


def test_what_strangers_send_is_refused(lab: Lab) -> None:
    move(lab, "192.0.2.40")
    wrong = update(lab, "192.0.2.66", secret=WRONG)
    assert (wrong.status, wrong.body) == (401, "badauth")
    unknown = update(lab, "192.0.2.66", user="nobody.services.lab.test", name="nobody.services.lab.test", secret=WRONG)
    assert (unknown.status, unknown.body) == (401, "badauth")
    # Each name's secret is good for that name alone.
    assert update(lab, "192.0.2.66", user=OTHER).body == "nohost"
    assert update(lab, "192.0.2.66", name="vault").body == "notfqdn"
    assert agreed(lab, "192.0.2.40")


def test_nothing_but_updates_is_served(lab: Lab) -> None:
    for path in (
        "/",
        "/admin/",
        "/accounts/login/",
        "/account/register/",
        "/host/",
        "/nic/update/",
        "/nic/delete",
        "/static/",
    ):
        assert update(lab, "192.0.2.66", path=path).status == 404, path


@pytest.mark.parametrize(
    ("what", "named", "file"),
    [
        (f"update add {NAME}. 60 A 192.0.2.66", "", ""),
        (f"update add {NAME}. 60 A 192.0.2.66", "transfer", "transfer"),
        (f"update add {NAME}. 60 A 192.0.2.66", OTHER_ZONE, f"update-{OTHER_ZONE}"),
        (f"update add other.{ZONE}. 60 A 192.0.2.66", ZONE, f"update-{ZONE}"),
        (f"update add a.{NAME}. 60 A 192.0.2.66", ZONE, f"update-{ZONE}"),
        (f"update add {NAME}. 60 AAAA 2001:db8::66", ZONE, f"update-{ZONE}"),
        (f"update add {NAME}. 60 TXT x", ZONE, f"update-{ZONE}"),
        (f"update add {NAME}. 60 CNAME x.example.", ZONE, f"update-{ZONE}"),
        (f"update add {ZONE}. 60 A 192.0.2.66", ZONE, f"update-{ZONE}"),
        (f"update add {ZONE}. 60 NS x.example.", ZONE, f"update-{ZONE}"),
        (f"update delete {ZONE}. NS", ZONE, f"update-{ZONE}"),
    ],
)
def test_the_primary_takes_no_other_update(lab: Lab, what: str, named: str, file: str) -> None:
    serial = ask(lab, PRIMARY, ZONE, "SOA").answer[0].to_text()
    said = nsupdate(lab, what, key(lab, named, file) if named else "")
    assert "REFUSED" in said or "BADKEY" in said, said
    assert ask(lab, PRIMARY, ZONE, "SOA").answer[0].to_text() == serial


def test_the_dyndns_servers_key_may_what_it_must(lab: Lab) -> None:
    assert nsupdate(lab, f"update delete {NAME}. A", key(lab, ZONE, f"update-{ZONE}")) == ""
    wait_for(lambda: agreed(lab, ""), 5, "the record to be gone")
    move(lab, "192.0.2.41")


def test_secondaries_take_no_updates(lab: Lab) -> None:
    lines = [f"server {lab.addresses[SECONDARY]}", f"zone {ZONE}", f"key {key(lab, ZONE, f'update-{ZONE}')}",
             f"update add {NAME}. 60 A 192.0.2.66", "send"]  # fmt: skip
    assert "update failed" in lab.ssh(PRIMARY, "nsupdate 2>&1; true", stdin="\n".join(lines) + "\n")


@pytest.mark.parametrize("host", [PRIMARY, SECONDARY])
def test_zones_are_transferred_with_the_key_alone(lab: Lab, host: str) -> None:
    assert "Transfer failed" in lab.ssh("vm", f"dig @{lab.addresses[host]} {ZONE} AXFR")
    with_key = f"key {key(lab, 'transfer', 'transfer')}".split()
    statement = f'key "transfer" {{ algorithm hmac-sha512; secret "{with_key[-1]}"; }};'
    assert NAME in lab.ssh("vm", f"dig -k /dev/stdin @{lab.addresses[host]} {ZONE} AXFR", stdin=statement)


@pytest.mark.parametrize("host", [PRIMARY, SECONDARY])
def test_nobody_gets_recursion_or_learns_what_runs(lab: Lab, host: str) -> None:
    answer = ask(lab, host, "example.org", recurse=True)
    assert answer.rcode() == dns.rcode.REFUSED
    assert answer.answer == []
    for name in ("version.bind", "hostname.bind"):
        said = lab.ssh("vm", f"dig +noall +answer @{lab.addresses[host]} {name} CH TXT")
        assert said == "", said


def test_floods_of_equal_answers_are_cut_off_and_checkers_are_not(lab: Lab) -> None:
    move(lab, "192.0.2.45")
    count = 200
    flood = "python3 - <<'E'\n" + (
        "import socket, time\n"
        "q = b'\\x12\\x34\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00' + "
        f"b''.join(bytes([len(p)]) + p for p in b'{NAME}'.split(b'.')) + b'\\x00\\x00\\x01\\x00\\x01'\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5); got = 0\n"
        f"for _ in range({count}): s.sendto(q, ('{lab.addresses[PRIMARY]}', 53))\n"
        "try:\n"
        "  while True: got += not s.recv(512)[2] & 2\n"  # one that is cut short tells to come back by TCP
        "except TimeoutError: print(got)\nE"
    )
    answered = int(lab.ssh("vm", flood))
    assert 0 < answered <= count / 4
    assert all(at(lab, PRIMARY) for _ in range(count))  # the controller is exempt, as checkers are


# --- the DynDNS server's traps -----------------------------------------------------------------------------------------


def test_the_nochg_trap(lab: Lab, unlocked: Callable[[], None]) -> None:
    """The service asks the secondary where a name is. While that is behind, it takes a needed update for a needless one."""
    move(lab, "192.0.2.50")
    lab.ssh(SECONDARY, f"nft add table inet trap; nft add chain inet trap out '{{ type filter hook output priority 0; }}'; "
            f"nft add rule inet trap out ip daddr {lab.addresses[PRIMARY]} drop")  # fmt: skip
    try:
        assert update(lab, "192.0.2.51").body == "good 192.0.2.51"
        assert (at(lab, PRIMARY), at(lab, SECONDARY)) == ("192.0.2.51", "192.0.2.50")
        assert update(lab, "192.0.2.50").body == "nochg 192.0.2.50"  # and the primary has another
        assert at(lab, PRIMARY) == "192.0.2.51"
    finally:
        lab.ssh(SECONDARY, "nft delete table inet trap")
    wait_for(lambda: agreed(lab, "192.0.2.51"), 40, "the secondary to follow")
    unlocked()


def test_the_lock_after_the_primary_was_down(lab: Lab, unlocked: Callable[[], None]) -> None:
    move(lab, "192.0.2.52")
    lab.ssh(PRIMARY, "systemctl stop named")
    try:
        assert update(lab, "192.0.2.53").body == "dnserr"
    finally:
        lab.ssh(PRIMARY, "systemctl start named")
    locked = update(lab, "192.0.2.53")
    assert locked.body == "dnserr"  # though the primary is back
    assert locked.seconds < 1
    unlocked()
    move(lab, "192.0.2.53")


def test_a_secondary_that_is_down_does_not_stop_an_update(lab: Lab, unlocked: Callable[[], None]) -> None:
    move(lab, "192.0.2.54")
    lab.ssh(SECONDARY, "systemctl stop named")
    try:
        said = update(lab, "192.0.2.55")
        assert said.body == "good 192.0.2.55"
        assert said.seconds < 5  # checkers wait for six
        assert at(lab, PRIMARY) == "192.0.2.55"
    finally:
        lab.ssh(SECONDARY, "systemctl start named")
    wait_for(lambda: agreed(lab, "192.0.2.55"), 30, "the secondary to follow")
    unlocked()


def test_no_job_flags_a_host_or_deletes_its_record(lab: Lab) -> None:
    """Upstream's periodic jobs do. Here the record stays, whatever was counted; and what a flag does is shown."""
    move(lab, "192.0.2.56")
    for _ in range(25):
        assert update(lab, "192.0.2.56").body == "nochg 192.0.2.56"
    timers = lab.ssh(
        DYNDNS, "systemctl list-timers --all --no-legend; cat /etc/cron*/* /var/spool/cron/crontabs/* 2>/dev/null; true"
    )
    assert "dyndns-dump" in timers
    assert [job for job in ("flag-abuse", "stale-check", "nsupdate.info") if job in timers] == []
    lab.ssh(DYNDNS, "systemctl start dyndns-dump.service")
    assert agreed(lab, "192.0.2.56")

    lab.ssh(DYNDNS, f"{MANAGE} -m django faults --flag-abuse 20")  # what upstream recommends to run every day
    wait_for(lambda: agreed(lab, ""), 5, "that job to delete the record")
    assert update(lab, "192.0.2.56").body == "abuse"

    reported = lab.play("deploy/dyndns.yml")
    assert f"{NAME} is blocked (abuse" in reported.text
    cleared = lab.play("deploy/dyndns.yml", "-e", "dyndns_server_clear_flags=true")
    assert cleared.recap("changed") == 1
    move(lab, "192.0.2.56")


# --- what is left when a server is lost --------------------------------------------------------------------------------


def test_a_primary_that_is_rebuilt_takes_its_records_back(lab: Lab) -> None:
    move(lab, "192.0.2.60")
    move(lab, "192.0.2.61", OTHER)
    serial = ask(lab, SECONDARY, ZONE, "SOA").answer[0].to_text()
    lab.ssh(PRIMARY, "systemctl stop named; rm -rf /var/lib/bind/* /etc/bind/operator.key /etc/bind/named.conf")
    lab.play("deploy/dns.yml")
    assert agreed(lab, "192.0.2.60")
    assert agreed(lab, "192.0.2.61", OTHER)
    assert ask(lab, PRIMARY, ZONE, "SOA").answer[0].to_text() == serial
    move(lab, "192.0.2.62")
    assert lab.play("deploy/dns.yml").recap("changed") == 0


def test_a_primary_does_not_begin_anew_while_the_secondary_is_out_of_reach(lab: Lab) -> None:
    move(lab, "192.0.2.63")
    lab.ssh(PRIMARY, "systemctl stop named; mv /var/lib/bind /var/lib/bind.away; install -d -o bind -g bind /var/lib/bind")
    try:
        run = lab.run("deploy/dns.yml", "--limit", PRIMARY)
        assert run.returncode != 0
        assert "may have it with all its records, was not reached" in run.text
    finally:
        lab.ssh(PRIMARY, "rm -rf /var/lib/bind; mv /var/lib/bind.away /var/lib/bind; systemctl start named")
    wait_for(lambda: agreed(lab, "192.0.2.63"), 10, "the primary to be back")


def test_a_secondary_that_is_rebuilt_follows(lab: Lab) -> None:
    move(lab, "192.0.2.64")
    lab.ssh(SECONDARY, "systemctl stop named; rm -rf /var/cache/bind/* /etc/bind/named.conf")
    lab.play("deploy/dns.yml")
    wait_for(lambda: agreed(lab, "192.0.2.64"), 10, "the secondary to follow")


def test_the_role_leaves_what_was_changed_dynamically(lab: Lab) -> None:
    move(lab, "192.0.2.65")
    record = json.dumps({"dns_server_zones": [
        {"name": ZONE, "names": [NAME], "records": [{"name": "status", "type": "TXT", "value": ["hello"]}]},
        {"name": OTHER_ZONE, "names": [OTHER]},
    ]})  # fmt: skip
    assert lab.play("deploy/dns.yml", "-e", record).recap("changed") == 1
    wait_for(lambda: "hello" in str(ask(lab, SECONDARY, f"status.{ZONE}", "TXT").answer), 5, "the declared record")
    assert lab.play("deploy/dns.yml", "-e", record).recap("changed") == 0
    assert agreed(lab, "192.0.2.65")


def test_the_database_comes_back_from_its_dump(lab: Lab) -> None:
    lab.ssh(DYNDNS, "systemctl start dyndns-dump.service")
    as_postgres = "cd / && runuser -u postgres --"
    lab.ssh(
        DYNDNS,
        f"systemctl stop dyndns; {as_postgres} dropdb dyndns && {as_postgres} createdb -O dyndns dyndns",
    )
    assert "Restored from" in lab.ssh(DYNDNS, "dyndns-restore")
    wait_for(lambda: lab.ssh(DYNDNS, "systemctl is-active dyndns", check=False).strip() == "active", 20, "the service")
    move(lab, "192.0.2.70")
    modes = lab.ssh(DYNDNS, "stat -c '%a %U' /var/backups/dyndns /var/backups/dyndns/*.dump").split("\n")
    assert modes[0] == "700 dyndns"
    assert set(filter(None, modes[1:])) == {"600 dyndns"}
    assert lab.play("deploy/dyndns.yml").recap("changed") == 0


def test_a_dump_that_is_none_changes_nothing(lab: Lab) -> None:
    lab.ssh(DYNDNS, "dyndns-restore /etc/hostname", check=False)
    wait_for(lambda: lab.ssh(DYNDNS, "systemctl is-active dyndns", check=False).strip() == "active", 20, "the service")
    move(lab, "192.0.2.71")


def test_a_new_host_secret_counts_at_once(lab: Lab) -> None:
    file = lab.state / f"dyndns/{NAME}.secret"
    old = file.read_text()
    file.write_text("a-new-secret-of-this-name")
    try:
        assert lab.play("deploy/dyndns.yml").recap("changed") == 1
        assert update(lab, "192.0.2.72", secret=old.strip()).body == "badauth"
        move(lab, "192.0.2.72")
    finally:
        file.write_text(old)
    lab.play("deploy/dyndns.yml")
    move(lab, "192.0.2.73")


def test_settings_that_a_killed_run_wrote_count_after_the_next(lab: Lab) -> None:
    port = ("-e", '{"dyndns_server_port": 8443}')
    killed = lab.kill_at("deploy/dyndns.yml", lambda header, _: "Have the database run" in header, *port)
    assert killed.returncode < 0
    try:
        lab.play("deploy/dyndns.yml", *port)
        assert ":8443" in lab.ssh(DYNDNS, "ss -Hltn")
    finally:
        lab.play("deploy/dyndns.yml")
    assert lab.play("deploy/dyndns.yml").recap("changed") == 0


def test_a_unit_that_a_killed_run_wrote_counts_after_the_next(lab: Lab) -> None:
    drop_in = "/etc/systemd/system/named.service.d/hardening.conf"
    lab.ssh(PRIMARY, f"echo '# older' >> {drop_in}; systemctl daemon-reload; systemctl restart named")
    which = "systemctl show --property=MainPID --value named"
    older = lab.ssh(PRIMARY, which)
    killed = lab.kill_at("deploy/dns.yml", lambda header, _: "Keep it in mind" in header)
    assert killed.returncode < 0
    lab.play("deploy/dns.yml")
    assert lab.ssh(PRIMARY, which) != older
    assert lab.play("deploy/dns.yml").recap("changed") == 0


@pytest.mark.parametrize("host", [PRIMARY, SECONDARY, DYNDNS])
def test_each_host_comes_back_from_a_reboot(lab: Lab, host: str) -> None:
    move(lab, "192.0.2.80")
    lab.reboot(host)

    def moves() -> bool:
        try:
            return update(lab, "192.0.2.81").body in ("good 192.0.2.81", "nochg 192.0.2.81") and agreed(lab, "192.0.2.81")
        except (OSError, dns.exception.DNSException):
            return False

    wait_for(moves, 150, "names to be moved again")


# --- what is refused before anything changes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("playbook", "given", "sentence"),
    [
        ("dns", '{"dns_server_kind": "primary"}', "One host of group dns is the primary"),
        ("dns", '{"dns_server_transfer_key": "short"}', "is no 32 bytes in base64"),
        ("dns", '{"dns_server_zones": [{"name": "services.lab.test", "names": ["a.elsewhere.test"]}]}', "is not in zone"),
        ("dyndns", '{"dyndns_server_secrets": {}}', "no secret for secrets.egi.lab.test, vault.services.lab.test"),
        ("dyndns", '{"dyndns_server_domains": [{"name": "lab.test", "primary": "192.0.2.1", "hosts": ["a.b.lab.test"]}]}',
         "has no key for lab.test"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(lab: Lab, playbook: str, given: str, sentence: str) -> None:
    run = lab.run(f"deploy/{playbook}.yml", "-e", given)
    assert run.returncode != 0
    assert sentence in run.text, run.text[-1500:]
    assert run.recap("changed") == 0
