"""Tests of mailinfra.probe.publication: what is published must be what is served."""

import hashlib
from ipaddress import ip_address
from typing import Any

import dns.dnssec
import dns.name
import dns.rdata
import pytest

from mailinfra.probe import publication
from mailinfra.probe.row import ProbeError
from mailinfra.probe.site import Site
from tests.probe_helpers import Made, planned

WHOLE = planned()
POLICY = WHOLE.mta_sts_policy
KEY = "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ=="


def names(**values: list[str]) -> Any:
    """A resolver that validates and answers these values by name and type; others are as the plan has them."""

    def resolve(machine: str, told: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"ad": True, "rcode": "NOERROR", "error": "", "ttl": 60,
             "values": values.get(f"{name}/{kind}", known(name, kind))}
            for name, kind in told["queries"]
        ]  # fmt: skip

    return resolve


def known(name: str, kind: str) -> list[str]:
    if name.startswith("_mta-sts."):
        return [f"v=STSv1; id={hashlib.sha256(POLICY.encode()).hexdigest()[:32]}"]
    if kind == "MX":
        return [f"10 {host}." for host in WHOLE.mx_hosts]
    if kind in ("A", "AAAA"):
        return ["198.51.100.1"] if kind == "A" else ["2001:db8:a::1"]
    if kind == "DNSKEY":
        return [KEY]
    if kind == "DS":
        made = dns.dnssec.make_ds(
            dns.name.from_text(name), dns.rdata.from_text("IN", "DNSKEY", KEY), "SHA256"
        ).to_text()
        tag, algorithm, digest_type, digest = made.split()
        return [f"{tag} {algorithm} {digest_type} {digest[:40].upper()} {digest[40:].upper()}"]
    return ["something"]


def web(**change: Any) -> Any:
    def fetch(machine: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        good = {"status": 200, "type": "text/plain", "text": POLICY, "error": ""}
        return [{**call, **good, **(change if number == 2 else {})} for number, call in enumerate(calls)]

    return fetch


def test_a_policy_that_is_served_everywhere_is_right() -> None:
    findings = list(publication.mta_sts(Made(WHOLE, {"resolve": names(), "web": web()}).site()))
    assert [(finding.ok, finding.measured) for finding in findings] == [(True, 8), (True, 8)]


@pytest.mark.parametrize(
    "change",
    [
        {"status": 404},
        {"error": "SSLCertVerificationError"},
        {"type": "text/html"},
        {"text": POLICY + "mx: a.test\r\n"},
    ],
)
def test_a_policy_that_one_node_serves_otherwise_is_wrong(change: dict[str, Any]) -> None:
    findings = list(publication.mta_sts(Made(WHOLE, {"resolve": names(), "web": web(**change)}).site()))
    assert [finding.measured for finding in findings] == [7, 7]
    assert not any(finding.ok for finding in findings)


@pytest.mark.parametrize(
    "values",
    [
        {"_mta-sts.example.test/TXT": ["v=STSv1; id=1"]},
        {"_mta-sts.example.test/TXT": []},
        {"example.test/MX": ["10 mx.elsewhere.test."]},
        {"mta-sts.example.test/A": ["192.0.2.66"]},
    ],
)
def test_a_record_that_does_not_fit_the_policy_is_wrong(values: dict[str, list[str]]) -> None:
    site = Made(WHOLE, {"resolve": names(**values), "web": web()}).site()
    assert not next(iter(publication.mta_sts(site))).ok


def test_every_record_must_be_there_and_validate() -> None:
    assert all(finding.ok for finding in publication.dnssec(Made(WHOLE, {"resolve": names()}).site()))

    def unsigned(machine: str, told: dict[str, Any]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = names()(machine, told)
        answers[5]["ad"] = False
        return answers

    findings = list(publication.dnssec(Made(WHOLE, {"resolve": unsigned}).site()))
    assert len(findings) == 2
    assert not any(finding.ok for finding in findings)
    missing = names(**{"example.test/MX": []})
    assert not any(finding.ok for finding in publication.dnssec(Made(WHOLE, {"resolve": missing}).site()))


def test_the_parent_must_have_the_steering_zones_own_signer() -> None:
    (finding,) = publication.delegations(Made(WHOLE, {"resolve": names()}).site())
    assert (finding.ok, finding.measured) == (True, 2)
    wrong = names(**{"aws.mx.example.test/DS": [f"1 13 2 {'00' * 32}"]})
    (finding,) = publication.delegations(Made(WHOLE, {"resolve": wrong}).site())
    assert (finding.ok, finding.measured) == (False, 1)


def dane(machine: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**call, "ok": True, "why": "2 1 1"} for call in calls]


def test_every_node_is_checked_under_every_name_in_both_families() -> None:
    made = Made(WHOLE, {"resolve": names(), "dane": dane})
    findings = list(publication.tlsa(made.site()))
    assert [(finding.subject, finding.measured) for finding in findings] == [
        ("MX hosts", 32),
        ("clients' services", 32),
    ]
    assert all(finding.ok for finding in findings)


def test_one_handshake_that_does_not_match_is_wrong() -> None:
    def fails(machine: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = dane(machine, calls)
        found[0].update(ok=False, why="no TLSA record matched")
        return found

    mx, services = publication.tlsa(Made(WHOLE, {"resolve": names(), "dane": fails}).site())
    assert (mx.ok, mx.measured, services.ok) == (False, 31, True)


def reverse(site: Site, **values: list[str]) -> Any:
    """A resolver of reverse and forward names that fit together, but for `values`."""
    owners = {ip_address(a).reverse_pointer: f for f in site.outputs["nodes"] for a in site.addresses(f)}

    def resolve(machine: str, told: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        for name, kind in told["queries"]:
            own = [f"{owners[name]}."] if kind == "PTR" and name in owners else []
            if kind in ("A", "AAAA") and name in owners.values():
                own = list(site.addresses(name))
            found.append(
                {"values": values.get(f"{name}/{kind}", own), "ad": True, "rcode": "NOERROR", "error": ""}
            )
        return found

    return resolve


@pytest.mark.parametrize(
    ("seen", "values", "ok"),
    [
        (["198.51.100.2"], {}, True),
        (["2001:db8:a::2"], {}, False),
        (["192.0.2.77"], {}, False),
        (["198.51.100.2"], {"2.100.51.198.in-addr.arpa/PTR": []}, False),
        (["198.51.100.2"], {"2.100.51.198.in-addr.arpa/PTR": ["a.test.", "b.test."]}, False),
        (["198.51.100.2"], {"out-1.eu-central-1.nodes.example.test/A": ["192.0.2.1"]}, False),
    ],
)
def test_sending_addresses_need_a_name_that_leads_back(
    monkeypatch: pytest.MonkeyPatch, seen: list[str], values: dict[str, list[str]], ok: bool
) -> None:
    made = Made(WHOLE)
    site = made.site()
    assert site.owner("198.51.100.2").startswith("out-1.eu-central-1")
    made.scripts["resolve"] = reverse(site, **values)
    _, found = publication.sending_addresses, set(seen)
    declared = {"198.51.100.2"}
    monkeypatch.setattr(publication, "sending_addresses", lambda _: (declared, found))
    (finding,) = publication.reverse_names(site)
    assert finding.ok is ok


def test_without_a_receiver_nothing_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(WHOLE)
    site = made.site()
    made.scripts["resolve"] = reverse(site)
    monkeypatch.setattr(publication, "sending_addresses", lambda _: ({"198.51.100.2"}, set()))
    with pytest.raises(ProbeError, match="no receiver"):
        list(publication.reverse_names(site))


def test_a_forged_zone_is_made_and_taken_away_again() -> None:
    calls: dict[str, Any] = {
        "dns.put_zone": lambda **_: {"name_servers": ["ns1.route53.test."]},
        "dns.zone_ds": lambda **_: {"ds": "1 13 2 AB"},
    }
    made = Made(WHOLE, control=calls)

    def resolve(machine: str, told: dict[str, Any]) -> list[dict[str, Any]]:
        open_ = told.get("checking_disabled")
        values = ["192.0.2.99"] if open_ or made.state.get("lax") else []
        return [{"values": values, "rcode": "NOERROR" if values else "SERVFAIL", "ad": False, "error": ""}]

    made.scripts["resolve"] = resolve
    site = made.site()
    (finding,) = publication.fails_closed(site)
    assert (finding.ok, finding.measured) == (True, 2)
    done = [method for method, _ in site.control.calls]  # type: ignore[attr-defined]
    assert done.count("dns.delete_zone") == done.count("dns.put_zone") == 2
    made.state["lax"] = True
    (finding,) = publication.fails_closed(made.site())
    assert (finding.ok, finding.measured) == (False, 0)
