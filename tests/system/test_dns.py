"""The sandbox's DNS on its real parts: PowerDNS answers, unbound validates, probes probe, mail is judged."""

import base64
import json
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailinfra.sandbox.cloud import start_cloud, stop_cloud
from mailinfra.sandbox.control import InvalidParams
from mailinfra.sandbox.dns import zones
from mailinfra.sandbox.paths import Paths, sandbox_lock
from tests.sandbox_helpers import Sandbox, quiet, traces

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PARENT, AWS, GCP = "example.test.", "aws.mx.example.test.", "gcp.mx.example.test."
ROUTE53, CLOUDDNS = zones.ADDRESSES["route53"], zones.ADDRESSES["clouddns"]
CHECK = "projects/p/global/healthChecks/smtp"


@dataclass(frozen=True)
class Internet:
    """A sandbox that has only its internet."""

    sandbox: Sandbox

    def call(self, method: str, **params: Any) -> Any:
        return self.sandbox.client.call(f"dns.{method}", **params)

    def run(self, machine: str, *command: str, stdin: str = "", timeout: float = 60) -> str:
        done = self.sandbox.client.call(
            "machines.execute", id=machine, command=list(command), stdin=stdin, timeout=timeout
        )
        assert done["code"] == 0, done
        return str(done["stdout"])

    def ask(
        self, machine: str, name: str, rtype: str, *, server: str = "127.0.0.1", subnet: str = ""
    ) -> "Answer":
        """One question from a machine, with DNSSEC asked for."""
        return self.ask_often(machine, name, rtype, 1, server=server, subnet=subnet)[0]

    def ask_often(
        self, machine: str, name: str, rtype: str, times: int, *, server: str = "127.0.0.1", subnet: str = ""
    ) -> list["Answer"]:
        """The same question many times over, straight to a server."""
        done = self.run(machine, "python3", "-c", ASK, server, name, rtype, str(times), subnet, timeout=120)
        return [Answer(*entry) for entry in json.loads(done)]


@dataclass(frozen=True)
class Answer:
    """What came back: the response code, whether it was validated, values and their TTL."""

    code: str
    validated: bool
    values: list[str]
    ttl: int


ASK = textwrap.dedent("""
    import json, sys
    import dns.edns, dns.exception, dns.flags, dns.message, dns.query, dns.rcode, dns.rdatatype
    server, name, rtype, times, subnet = sys.argv[1:]
    options = [dns.edns.ECSOption(*subnet.split("/")[:1], int(subnet.split("/")[1]))] if subnet else []
    found = []
    for _ in range(int(times)):
        question = dns.message.make_query(name, rtype, want_dnssec=True, options=options)
        question.flags |= dns.flags.AD
        for chance in (2, 1, 0):  # as stub resolvers do: a datagram may be lost
            try:
                reply, _ = dns.query.udp_with_fallback(question, server, timeout=5)
                break
            except dns.exception.Timeout:
                if not chance:
                    raise
        sets = [r for r in reply.answer if r.rdtype == dns.rdatatype.from_text(rtype)]
        values = sorted(x.to_text() for r in sets for x in r)
        code, validated = dns.rcode.to_text(reply.rcode()), bool(reply.flags & dns.flags.AD)
        found.append([code, validated, values, min((r.ttl for r in sets), default=-1)])
    json.dump(found, sys.stdout)
""")


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition; how long it took, in seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.2)
    return time.monotonic() - began


def weighted(name: str, identifier: str, weight: int, address: str, **fields: Any) -> dict[str, Any]:
    return {
        "Name": f"{name}.{AWS}",
        "Type": "A",
        "TTL": 10,
        "SetIdentifier": identifier,
        "Weight": weight,
        "ResourceRecords": [{"Value": address}],
        **fields,
    }


@pytest.fixture(scope="module")
def internet(
    machines_can_boot: None, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[Internet]:
    """The internet with a parent zone at Cloudflare and two signed zones below it at Route 53 and Cloud DNS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_CACHE_HOME", str(cache.parent))
        paths = Paths.of("dns")
        with sandbox_lock(paths):
            client = start_cloud(paths, with_machines=True, progress=quiet, parts=("dns",))
        try:
            net = Internet(Sandbox(paths, client))
            for machine in ("internet", "outside-de", "outside-us"):
                client.call("machines.wait", id=machine, states=["running"], timeout=120)
            declare(net)
            yield net
        finally:
            with sandbox_lock(paths):
                stop_cloud(paths)
        assert traces(paths) == []


def declare(net: Internet) -> None:
    """The zones, as a program would declare them through the three providers."""
    records: list[dict[str, Any]] = [
        {"name": "@", "type": "MX", "content": f"mx1.{AWS}", "priority": 10, "ttl": 60},
        {"name": "@", "type": "TXT", "content": "v=spf1 -all", "ttl": 60},
    ]
    net.call("put_zone", provider="cloudflare", zone=PARENT)
    net.call("set_dnssec", provider="cloudflare", zone=PARENT, on=True)
    for provider, zone in (("route53", AWS), ("clouddns", GCP)):
        made = net.call("put_zone", provider=provider, zone=zone)
        ds = net.call("set_dnssec", provider=provider, zone=zone, on=True)
        fields = {"key_tag": ds["key_tag"], "algorithm": 13, "digest_type": 2, "digest": ds["digest"]}
        records += [{"name": zone, "type": "NS", "content": n, "ttl": 60} for n in made["name_servers"]]
        records.append({"name": zone, "type": "DS", "data": fields, "ttl": 60})
    net.call("put_records", provider="cloudflare", zone=PARENT, records=records)
    checks = {
        f"h-{host}": {
            "Type": "TCP",
            "IPAddress": address,
            "Port": 25,
            "RequestInterval": 10,
            "FailureThreshold": 1,
        }
        for host, address in (("de", "192.0.2.101"), ("us", "192.0.2.102"), ("six", "2001:db8:0:5::25"))
    }
    places = (("DE", "198.51.100.1"), ("US", "198.51.100.2"), ("*", "198.51.100.3"))
    net.call(
        "put_records",
        provider="route53",
        zone=AWS,
        health_checks=checks,
        records=[
            weighted("weights", "a", 70, "198.51.100.1"),
            weighted("weights", "b", 30, "198.51.100.2"),
            weighted("health", "de", 1, "192.0.2.101", HealthCheckId="h-de"),
            weighted("health", "us", 1, "192.0.2.102", HealthCheckId="h-us"),
            {**weighted("health", "six", 1, "2001:db8:0:5::25", HealthCheckId="h-six"), "Type": "AAAA"},
            *(
                {
                    "Name": f"geo.{AWS}",
                    "Type": "A",
                    "TTL": 10,
                    "SetIdentifier": country,
                    "GeoLocation": {"CountryCode": country},
                    "ResourceRecords": [{"Value": address}],
                }
                for country, address in places
            ),
        ],
    )
    items = [
        {"location": region, "healthCheckedTargets": {"externalEndpoints": [address]}}
        for region, address in (("europe-west3", "192.0.2.101"), ("us-east4", "192.0.2.102"))
    ]
    net.call(
        "put_records",
        provider="clouddns",
        zone=GCP,
        health_checks={CHECK: {"type": "TCP", "checkIntervalSec": 30, "tcpHealthCheck": {"port": 25}}},
        records=[
            {
                "name": f"geo.{GCP}",
                "type": "A",
                "ttl": 10,
                "routingPolicy": {"healthCheck": CHECK, "geo": {"items": items}},
            }
        ],
    )


def test_a_thousand_look_ups_fit_the_weights(internet: Internet) -> None:
    answers = internet.ask_often("outside-de", f"weights.{AWS}", "A", 1000, server=ROUTE53)
    counts = Counter(a.values[0] for a in answers)
    assert all(len(a.values) == 1 and a.ttl == 10 for a in answers)
    # Four standard deviations of a binomial distribution: wrong once in 16,000 runs.
    assert 700 - 58 <= counts["198.51.100.1"] <= 700 + 58
    assert counts["198.51.100.1"] + counts["198.51.100.2"] == 1000


def test_a_changed_weight_shows_at_once(internet: Internet) -> None:
    where = {"provider": "route53", "zone": AWS}
    internet.call("put_record", **where, record=weighted("weights", "a", 0, "198.51.100.1"))
    answers = internet.ask_often("outside-de", f"weights.{AWS}", "A", 50, server=ROUTE53)
    assert {a.values[0] for a in answers} == {"198.51.100.2"}
    internet.call("put_record", **where, record=weighted("weights", "a", 70, "198.51.100.1"))


def test_geography_by_the_source_address_and_by_client_subnet(internet: Internet) -> None:
    name = f"geo.{AWS}"
    assert internet.ask("outside-de", name, "A").values == ["198.51.100.1"]
    assert internet.ask("outside-us", name, "A").values == ["198.51.100.2"]
    internet.call("set_location", network="198.51.100.64/28", country="US", latitude=38.9, longitude=-77.4)
    by_subnet = internet.ask("outside-de", name, "A", server=ROUTE53, subnet="198.51.100.65/32")
    assert by_subnet.values == ["198.51.100.2"]
    internet.call("set_location", network="198.51.100.64/28", country=None)
    unknown = internet.ask("outside-de", name, "A", server=ROUTE53, subnet="198.51.100.65/32")
    assert unknown.values == ["198.51.100.3"]


def test_the_nearest_google_region_answers(internet: Internet) -> None:
    assert internet.ask("outside-de", f"geo.{GCP}", "A").values == ["192.0.2.101"]
    assert internet.ask("outside-us", f"geo.{GCP}", "A").values == ["192.0.2.102"]


def test_a_dead_address_leaves_the_answer_and_comes_back(internet: Internet, record_property: Any) -> None:
    def answered() -> set[str]:
        answers = internet.ask_often("outside-de", f"health.{AWS}", "A", 20, server=ROUTE53)
        return {v for a in answers for v in a.values}

    for check in ("h-us", "h-six"):
        found = internet.call("health", provider="route53", id=check)
        assert (found["healthy"], found["detail"]) == (True, "connected")
    assert answered() == {"192.0.2.101", "192.0.2.102"}
    internet.run("outside-us", "systemctl", "stop", "postfix")
    try:
        # Interval 10 s, one failure: one interval and a probe, and room for a busy host.
        gone = until(lambda: answered() == {"192.0.2.101"}, 40)
        found = internet.call("health", provider="route53", id="h-us")
        assert not found["healthy"]
        assert "192.0.2.102" in found["detail"]
    finally:
        internet.run("outside-us", "systemctl", "start", "postfix")
    back = until(lambda: answered() == {"192.0.2.101", "192.0.2.102"}, 40)
    record_property("seconds until gone", gone)
    record_property("seconds until back", back)


@pytest.mark.parametrize(
    ("name", "rtype"),
    [
        (PARENT, "MX"),
        (f"weights.{AWS}", "A"),
        (f"geo.{GCP}", "A"),
        ("outside-us.test.", "MX"),
        ("_25._tcp.mail.outside-us.test.", "TLSA"),
        ("102.2.0.192.in-addr.arpa.", "PTR"),
        ("test.", "SOA"),
    ],
)
def test_answers_validate_from_the_root(internet: Internet, name: str, rtype: str) -> None:
    answer = internet.ask("outside-de", name, rtype)
    assert answer.code == "NOERROR"
    assert answer.values
    assert answer.validated


def test_what_does_not_exist_is_denied_provably(internet: Internet) -> None:
    for name, code in (
        (f"nothing.{AWS}", "NXDOMAIN"),
        ("nothing.test.", "NXDOMAIN"),
        (f"mx.{PARENT}", "NOERROR"),
    ):
        answer = internet.ask("outside-de", name, "A")
        assert (answer.code, answer.values, answer.validated) == (code, [], True), name


def test_a_wrong_key_in_the_parent_fails_validation(internet: Internet) -> None:
    """The check can fail: a DS that is not the zone's makes a validating resolver refuse the whole zone."""
    internet.call("put_zone", provider="route53", zone="child.signed.test")
    ds = internet.call("set_dnssec", provider="route53", zone="child.signed.test", on=True)
    address = {
        "Name": "a.child.signed.test",
        "Type": "A",
        "TTL": 5,
        "ResourceRecords": [{"Value": "192.0.2.9"}],
    }
    internet.call("put_record", provider="route53", zone="child.signed.test", record=address)
    internet.call("put_zone", provider="cloudflare", zone="signed.test")
    internet.call("set_dnssec", provider="cloudflare", zone="signed.test", on=True)
    digest = {"key_tag": ds["key_tag"], "algorithm": 13, "digest_type": 2, "digest": "AB" * 32}
    servers = internet.call("get_zone", provider="route53", zone="child.signed.test")["name_servers"]
    delegation = [{"name": "child", "type": "NS", "content": n, "ttl": 60} for n in servers]
    wrong = [*delegation, {"name": "child", "type": "DS", "data": digest, "ttl": 60}]
    internet.call("put_records", provider="cloudflare", zone="signed.test", records=wrong)
    assert internet.ask("outside-us", "a.child.signed.test", "A").code == "SERVFAIL"
    right = [
        *delegation,
        {"name": "child", "type": "DS", "data": {**digest, "digest": ds["digest"]}, "ttl": 60},
    ]
    internet.call("put_records", provider="cloudflare", zone="signed.test", records=right)
    # Another resolver, without the wrong one in its cache.
    answer = internet.ask("outside-de", "a.child.signed.test", "A")
    assert (answer.values, answer.validated) == (["192.0.2.9"], True)
    for provider, zone in (("route53", "child.signed.test"), ("cloudflare", "signed.test")):
        internet.call("delete_zone", provider=provider, zone=zone)


def test_signing_goes_on_and_off_and_the_resolver_follows(internet: Internet) -> None:
    internet.call("put_zone", provider="clouddns", zone="switch.test")
    record = {"name": "a.switch.test", "type": "A", "ttl": 1, "rrdatas": ["192.0.2.9"]}
    internet.call("put_record", provider="clouddns", zone="switch.test", record=record)

    def state() -> tuple[str, bool]:
        answer = internet.ask("outside-de", "a.switch.test", "A")
        return answer.code, answer.validated

    assert state() == ("NOERROR", False)
    internet.call("set_dnssec", provider="clouddns", zone="switch.test", on=True)
    until(lambda: state() == ("NOERROR", True), 30)
    internet.call("set_dnssec", provider="clouddns", zone="switch.test", on=False)
    until(lambda: state() == ("NOERROR", False), 30)
    internet.call("delete_zone", provider="clouddns", zone="switch.test")
    until(lambda: state()[0] == "NXDOMAIN", 30)


def test_reverse_names(internet: Internet) -> None:
    internet.call("set_ptr", address="198.51.100.7", name="edge-1.eu.nodes.example.test")
    answer = internet.ask("outside-de", "7.100.51.198.in-addr.arpa", "PTR")
    assert (answer.values, answer.validated) == (["edge-1.eu.nodes.example.test."], True)
    internet.call("delete_ptr", address="198.51.100.7")
    assert internet.ask("outside-us", "7.100.51.198.in-addr.arpa", "PTR").code == "NXDOMAIN"


HOSTILE_TEXTS = [
    'quotes " and \\ backslash',
    "'; os.execute('id') --",
    "]]..[[",
    "semi;colon and (brackets) and @",
    "\x7f",
    "ünïcode",
    "a" * 1000,
    "%s %d \\010 \\n",
    "mailinfra({})",
]


def test_hostile_texts_come_back_as_they_went_in(internet: Internet) -> None:
    """Plain and by a rule: no text of a record is ever code or ends its quotes."""
    quoted = {
        f"t{number}": " ".join(
            '"' + "".join(f"\\{b:03d}" for b in text.encode()[i : i + 255]) + '"'
            for i in range(0, len(text.encode()), 255)
        )
        for number, text in enumerate(HOSTILE_TEXTS)
    }
    before = internet.call("list_records", provider="route53", zone=AWS)
    plain = [
        {"Name": f"{n}.{AWS}", "Type": "TXT", "TTL": 5, "ResourceRecords": [{"Value": v}]}
        for n, v in quoted.items()
    ]
    ruled = [{**r, "Name": f"rule-{r['Name']}", "SetIdentifier": "'\"", "Weight": 1} for r in plain]
    internet.call("put_records", provider="route53", zone=AWS, records=[*before, *plain, *ruled])
    for number, text in enumerate(HOSTILE_TEXTS):
        for prefix in ("", "rule-"):
            answer = internet.ask("outside-de", f"{prefix}t{number}.{AWS}", "TXT", server=ROUTE53)
            assert answer.code == "NOERROR", text
            assert decoded(answer.values) == text.encode(), (prefix, text)
    internet.call("put_records", provider="route53", zone=AWS, records=before)


def decoded(values: list[str]) -> bytes:
    import dns.rdata

    assert len(values) == 1
    return b"".join(dns.rdata.from_text("IN", "TXT", values[0]).strings)


def test_a_large_rule_is_answered_and_a_larger_one_refused(internet: Internet) -> None:
    def fleet(count: int) -> list[dict[str, Any]]:
        return [weighted("large", f"s{i}", 1, f"198.51.{100 + i // 250}.{i % 250}") for i in range(count)]

    before = internet.call("list_records", provider="route53", zone=AWS)
    internet.call("put_records", provider="route53", zone=AWS, records=[*before, *fleet(1000)])
    answers = internet.ask_often("outside-de", f"large.{AWS}", "A", 50, server=ROUTE53)
    assert len({a.values[0] for a in answers}) > 30
    with pytest.raises(InvalidParams, match="at most 60000"):
        internet.call("put_records", provider="route53", zone=AWS, records=[*before, *fleet(3000)])
    internet.call("put_records", provider="route53", zone=AWS, records=before)


def test_the_clouds_resolver_answers_on_the_link(internet: Internet) -> None:
    for server in ("169.254.169.253", "169.254.169.254"):
        answer = internet.ask("outside-us", PARENT, "MX", server=server)
        assert (answer.values, answer.validated) == ([f"10 mx1.{AWS}"], True)
        over_tcp = internet.run("outside-us", "dig", "+tcp", "+short", f"@{server}", PARENT, "MX")
        assert over_tcp.split() == ["10", f"mx1.{AWS}"]


def test_zones_outlive_the_name_servers_machine_and_its_disk(
    internet: Internet, record_property: Any
) -> None:
    def serves() -> bool:
        answer = internet.ask("outside-de", f"geo.{AWS}", "A", server=ROUTE53)
        return answer.values == ["198.51.100.1"]

    def serves_again() -> bool:
        try:
            return bool(internet.call("status")["serving"]) and serves()
        except AssertionError:
            return False

    internet.sandbox.client.call("machines.kill", id="internet")
    record_property("seconds until it serves again", until(serves_again, 60))
    spec = internet.sandbox.client.call("machines.get", id="internet")["spec"]
    internet.sandbox.client.call("machines.delete", id="internet")
    internet.sandbox.client.call("machines.create", spec=spec)
    record_property("seconds until a new disk serves", until(serves_again, 60))
    assert internet.ask("outside-us", f"weights.{AWS}", "A").validated


def test_an_outside_host_judges_mail_as_a_receiver_does(internet: Internet) -> None:
    """Mail from one outside domain to the other, signed with a published key: valid; the same altered: not."""
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    text = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
    internet.call(
        "set_hosts", name="s1._domainkey.outside-de.test", records=[{"type": "TXT", "values": [text]}]
    )
    sign = textwrap.dedent("""
        import dkim, sys
        key, data = sys.stdin.buffer.read().split(b"=====\\n")
        data = data.replace(b"\\n", b"\\r\\n")
        sys.stdout.buffer.write(dkim.sign(data, b"s1", b"outside-de.test", key) + data)
    """)
    message = (
        "From: a@outside-de.test\nTo: b@outside-us.test\nSubject: judged\nMessage-ID: <1@outside-de.test>\n"
    )
    message += "\nHello\n"
    signed = internet.run("outside-de", "python3", "-c", sign, stdin=private.decode() + "=====\n" + message)
    internet.run(
        "outside-de",
        "sendmail",
        "-f",
        "a@outside-de.test",
        "b@outside-us.test",
        stdin=signed.replace("\r", ""),
    )
    inbox = "/var/mail/outside/inbox/new"
    find = f"grep -l 'Subject: judged' {inbox}/* 2>/dev/null || true"
    until(lambda: internet.run("outside-us", "sh", "-c", find).strip() != "", 30)
    file = internet.run("outside-us", "sh", "-c", find).split()[0]
    verdict = json.loads(internet.run("outside-us", "verify-message", file))
    assert [(s["domain"], s["selector"], s["valid"]) for s in verdict["dkim"]] == [
        ("outside-de.test", "s1", True)
    ]
    assert verdict["opendkim"]["valid"], verdict
    assert verdict["spf"]["result"] == "pass"
    assert verdict["dmarc"]["pass"]
    assert verdict["dmarc"]["dkim_aligned"]
    received = internet.run("outside-us", "cat", file)
    assert "using TLSv1.3" in received
    altered = (
        received.replace("Hello", "Hallo")
        .replace("192.0.2.101", "192.0.2.66")
        .replace("0:de::25", "0:de::66")
    )
    verdict = json.loads(internet.run("outside-us", "verify-message", stdin=altered))
    assert not verdict["dkim"][0]["valid"]
    assert not verdict["opendkim"]["valid"]
    assert verdict["spf"]["result"] == "fail"
    assert not verdict["dmarc"]["pass"]
