"""Claims about what is published: MTA-STS, TLSA records, DNSSEC, and reverse names."""

import hashlib
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from mailinfra import names
from mailinfra.fleet import MtaStsMode, Role
from mailinfra.probe import mail
from mailinfra.probe.row import Claim, Finding, NotClaimedError, ProbeError, count
from mailinfra.probe.signing import submissions
from mailinfra.probe.site import Site, door
from mailinfra.sandbox.dns.outside import OutsideHost

Answers = dict[tuple[str, str], dict[str, Any]]

STS_PATH = "/.well-known/mta-sts.txt"
SERVICES: tuple[tuple[names.Service, Role, int, bool], ...] = (
    ("imap", Role.IMAP, 993, False),
    ("pop3", Role.POP3, 995, False),
    ("smtp", Role.SUBMISSION, 465, False),
    ("smtp", Role.SUBMISSION, 587, True),
)
"""Services with TLSA records: name, role, port, whether TLS begins with STARTTLS."""


def resolve(site: Site, outside: OutsideHost, queries: Iterable[tuple[str, str]], **more: Any) -> Answers:
    """What a host's own validating resolver answers, by name and type."""
    wanted = list(dict.fromkeys(queries))
    answers = site.run(outside.id, "resolve", {"queries": wanted, **more})
    return dict(zip(wanted, answers, strict=True))


def mta_sts(site: Site) -> Iterable[Finding]:
    """Every mx node serves the planned policy over HTTPS for every domain; the record's id is the policy's hash, and
    the policy covers exactly the MX hosts that the DNS names."""
    fleet, outside = site.plan.fleet, site.outside[0]
    if fleet.authentication.mta_sts is MtaStsMode.OFF:
        raise NotClaimedError
    queries = [(f"_mta-sts.{domain}", "TXT") for domain in fleet.domains]
    queries += [(domain, "MX") for domain in fleet.domains]
    queries += [(names.mta_sts_host(domain), kind) for domain in fleet.domains for kind in ("A", "AAAA")]
    known = resolve(site, outside, queries)
    nodes = site.nodes(Role.MX)
    for domain in fleet.domains:
        host = names.mta_sts_host(domain)
        calls = [
            {"address": address, "host": host, "path": STS_PATH}
            for node in nodes
            for address in site.addresses(node.fqdn)
        ]
        answers = site.run(outside.id, "web", calls)
        wrong = [problem for answer in answers if (problem := _policy_problem(site, answer))]
        record = known[f"_mta-sts.{domain}", "TXT"]["values"]
        identity = hashlib.sha256(answers[0]["text"].encode()).hexdigest()[:32]
        if record != [f"v=STSv1; id={identity}"]:
            wrong.append(f"the record {record} has not the id of the policy that is served, {identity}")
        exchanges = {v.split()[1].rstrip(".") for v in known[domain, "MX"]["values"]}
        named = {v.partition(":")[2].strip() for v in answers[0]["text"].splitlines() if v.startswith("mx:")}
        if exchanges != named or not named:
            wrong.append(f"the policy names {sorted(named)}, the MX record {sorted(exchanges)}")
        for kind in ("A", "AAAA"):
            if not any(site.owner(address) for address in known[host, kind]["values"]):
                wrong.append(f"{host} {kind} leads to no node: {known[host, kind]['values']}")
        good = len(answers) - sum(bool(_policy_problem(site, answer)) for answer in answers)
        yield count(good, len(answers), "addresses serve it", subject=domain, wrong=wrong)


def _policy_problem(site: Site, answer: dict[str, Any]) -> str:
    if answer["error"] or answer["status"] != 200:
        return f"{answer['address']}: {answer['error'] or answer['status']}"
    if not answer["type"].startswith("text/plain"):
        return f"{answer['address']}: {answer['type'] or 'no content type'}, not text/plain (RFC 8461 3.2)"
    if answer["text"] != site.plan.mta_sts_policy:
        return f"{answer['address']}: not the planned policy"
    return ""


def tlsa(site: Site) -> Iterable[Finding]:
    """What every node presents for every name matches the name's TLSA records, by OpenSSL's own DANE verifier."""
    fleet, outside = site.plan.fleet, site.outside[-1]
    if not fleet.dns.dnssec:
        raise NotClaimedError
    wanted: list[tuple[str, str, int, bool, str]] = []
    for host in site.plan.mx_hosts:
        wanted += [("MX hosts", host, 25, True, node.fqdn) for node in site.nodes(Role.MX)]
    for service, role, port, starttls in SERVICES:
        for node in site.nodes(role):
            name = names.service_host(fleet, service, site.zone(node.region))
            wanted.append(("clients' services", name, port, starttls, node.fqdn))
    known = resolve(site, outside, [(f"_{port}._tcp.{name}", "TLSA") for _, name, port, _, _ in wanted])
    calls = [
        {"address": address, "port": port, "name": name, "starttls": starttls, "kind": kind,
         "records": known[f"_{port}._tcp.{name}", "TLSA"]["values"]}
        for kind, name, port, starttls, fqdn in wanted
        for address in site.addresses(fqdn)
    ]  # fmt: skip
    found = site.run(outside.id, "dane", calls, 120)
    for kind in ("MX hosts", "clients' services"):
        tries = [item for item in found if item["kind"] == kind]
        wrong = [
            f"{item['name']} at {door(item['address'], item['port'])}: {item['why']}"
            for item in tries
            if not item["ok"]
        ]
        unsigned = sorted({f"{n} is not validated" for (n, _), a in known.items() if not a["ad"]})
        good = len(tries) - len(wrong)
        yield count(good, len(tries), "handshakes", subject=kind, wrong=wrong + unsigned)


def dnssec(site: Site) -> Iterable[Finding]:
    """Every name of the fleet validates from the root on at an independent resolver."""
    if not site.plan.fleet.dns.dnssec:
        raise NotClaimedError
    queries = [(record.name, record.type) for record in site.plan.records]
    queries += [(one.name, one.type) for steering in site.plan.steering for one in steering.sets]
    for outside in site.outside:
        answers = resolve(site, outside, queries)
        wrong = [
            f"{name} {kind}: {answer['error'] or answer['rcode']}{'' if answer['ad'] else ', not validated'}"
            for (name, kind), answer in answers.items()
            if not (answer["ad"] and answer["values"])
        ]
        good = len(answers) - len(wrong)
        yield count(good, len(answers), "RRsets", subject=f"resolver in {outside.country}", wrong=wrong)


def delegations(site: Site) -> Iterable[Finding]:
    """The DS in the parent is that of the steering zone's key: two providers, two signers, one chain."""
    if not site.plan.fleet.dns.dnssec:
        raise NotClaimedError
    import dns.dnssec
    import dns.name
    import dns.rdata

    zones = [steering.zone for steering in site.plan.steering]
    known = resolve(site, site.outside[0], [(zone, kind) for zone in zones for kind in ("DS", "DNSKEY")])
    wrong = []
    for zone in zones:
        signers = {_joined(value) for value in known[zone, "DS"]["values"]}
        made = {
            _joined(
                dns.dnssec.make_ds(
                    dns.name.from_text(zone), dns.rdata.from_text("IN", "DNSKEY", value), "SHA256"
                ).to_text()
            )
            for value in known[zone, "DNSKEY"]["values"]
        }
        if not signers & made:
            wrong.append(f"{zone}: DS {sorted(signers)}, keys give {sorted(made)}")
    yield count(len(zones) - len(wrong), len(zones), "steering zones", wrong=wrong)


def _joined(value: str) -> str:
    """A DS with its digest in one piece."""
    tag, algorithm, kind, *digest = value.lower().split()
    return " ".join((tag, algorithm, kind, "".join(digest)))


def fails_closed(site: Site) -> Iterable[Finding]:
    """A zone whose DS is not of its key: the resolvers must give no answer, though the record is there."""
    mark = mail.token()[:8]
    parent, child = f"probe-{mark}.test", f"bogus.probe-{mark}.test"
    name = f"www.{child}"
    call = site.control.call
    try:
        call("dns.put_zone", provider="cloudflare", zone=parent)
        signer = call("dns.zone_ds", provider="cloudflare", zone=parent)
        servers = call("dns.put_zone", provider="route53", zone=child)["name_servers"]
        host = {"Name": f"{name}.", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.99"}]}
        call("dns.put_record", provider="route53", zone=child, record=host)
        call("dns.set_dnssec", provider="route53", zone=child, on=True)
        for server in servers:
            record = {"name": child, "type": "NS", "content": server.rstrip("."), "ttl": 60}
            call("dns.put_record", provider="cloudflare", zone=parent, record=record)
        # The DS of quite another key: the parent's own.
        tag, algorithm, kind, digest = signer["ds"].split()
        data = {"key_tag": int(tag), "algorithm": int(algorithm), "digest_type": int(kind), "digest": digest}
        record = {"name": child, "type": "DS", "ttl": 60, "data": data}
        call("dns.put_record", provider="cloudflare", zone=parent, record=record)
        call("dns.set_dnssec", provider="cloudflare", zone=parent, on=True)
        wrong = []
        for outside in site.outside:
            unchecked = resolve(site, outside, [(name, "A")], checking_disabled=True)[name, "A"]
            checked = resolve(site, outside, [(name, "A")])[name, "A"]
            if unchecked["values"] != ["192.0.2.99"]:
                wrong.append(f"{outside.country}: even unchecked there is no answer: {unchecked['rcode']}")
            if checked["rcode"] != "SERVFAIL" or checked["values"]:
                wrong.append(f"{outside.country}: {checked['rcode']} {checked['values']}")
        yield count(len(site.outside) - len(wrong), len(site.outside), "resolvers refuse", wrong=wrong)
    finally:
        call("dns.delete_zone", provider="route53", zone=child)
        call("dns.delete_zone", provider="cloudflare", zone=parent)


def sending_addresses(site: Site) -> tuple[set[str], set[str]]:
    """The addresses that the egress nodes shall send from, and those that outside receivers have seen.

    They are IPv4: both clouds give reverse names to such addresses only.
    """
    declared = {site.outputs["nodes"][node.fqdn]["ipv4"] for node in site.nodes(Role.EGRESS)}
    seen = {
        str(ip_address(item.verdict["spf"]["address"]))
        for item in site.once(submissions)
        if not item.problem and item.verdict["spf"].get("address")
    }
    return declared, seen


def reverse_names(site: Site) -> Iterable[Finding]:
    """Every sending address has one name, which leads back to it (RFC 8601 3, RFC 1912 2.1)."""
    declared, seen = sending_addresses(site)
    outside = site.outside[0]
    addresses = sorted(declared | seen)
    pointers = resolve(site, outside, [(ip_address(a).reverse_pointer, "PTR") for a in addresses])
    forward = []
    for address in addresses:
        kind = "AAAA" if ":" in address else "A"
        for value in pointers[ip_address(address).reverse_pointer, "PTR"]["values"]:
            forward.append((value.rstrip("."), kind))
    known = resolve(site, outside, forward) if forward else {}
    wrong = []
    for address in addresses:
        kind = "AAAA" if ":" in address else "A"
        found = [v.rstrip(".") for v in pointers[ip_address(address).reverse_pointer, "PTR"]["values"]]
        if len(found) != 1 or address not in known[found[0], kind]["values"]:
            wrong.append(f"{address}: {found or 'no name'}")
        elif site.owner(address) != found[0]:
            wrong.append(f"{address} is {site.owner(address) or 'nobody'}'s, but called {found[0]}")
    wrong += [f"{address} sends, but is no egress node's" for address in sorted(seen - declared)]
    if not seen:
        raise ProbeError("no receiver saw a sending address")
    detail = f"seen by receivers: {', '.join(sorted(seen))}"
    finding = count(len(addresses) - len(wrong), len(addresses), "addresses", wrong=wrong)
    yield Finding(finding.ok, finding.measured, finding.limit, finding.unit, detail=finding.detail or detail)


CLAIMS = (
    Claim("published.mta-sts", "The MTA-STS policy is served and equals its record", ("R13",), mta_sts),
    Claim("published.tlsa", "TLSA records match what is presented", ("R13",), tlsa),
    Claim("published.dnssec", "Every record validates from the root", ("R13",), dnssec),
    Claim("published.ds", "The parent's DS is the steering zone's", ("R13",), delegations),
    Claim("published.bogus", "A forged zone gets no answer", ("R13",), fails_closed),
    Claim("published.reverse", "Reverse names of sending addresses lead back", ("R13",), reverse_names),
)
