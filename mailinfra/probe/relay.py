"""Claims about strangers: nobody relays through the fleet, and mail for unknown users is refused at the door."""

from collections.abc import Iterable
from typing import Any

from mailinfra.fleet import Role
from mailinfra.probe import mail
from mailinfra.probe.row import Claim, Finding, count
from mailinfra.probe.site import Site, door, each
from mailinfra.sandbox.dns.outside import OutsideHost

CLOSED_SECONDS = 3.0
"""How long a firewall's silence is listened to."""


def forms(victim: str, domain: str) -> list[str]:
    """A stranger's address, and the ways to write it that have fooled servers."""
    local, _, host = victim.partition("@")
    return [
        victim,
        f"{local}%{host}@{domain}",
        f'"{victim}"@{domain}',
        f"{host}!{local}@{domain}",
        f"@{domain}:{victim}",
        f"{victim}@{domain}",
        f"{victim}@[127.0.0.1]",
        f'"{victim}"',
    ]


def _sessions(site: Site) -> list[tuple[str, str, int, str]]:
    """Every door that the world may knock at: address, node, port, TLS."""
    doors = []
    for role, ports in (
        (Role.MX, ((25, "starttls"),)),
        (Role.SUBMISSION, ((465, "implicit"), (587, "starttls"))),
    ):
        for node in site.nodes(role):
            for address in site.addresses(node.fqdn):
                doors += [(address, node.fqdn, port, tls) for port, tls in ports]
    return doors


def no_relay(site: Site) -> Iterable[Finding]:
    """From every outside host to every address: no form of a stranger's address is accepted, whoever the sender."""
    return each(lambda outside: _no_relay(site, outside), site.outside)


def _name(site: Site, fqdn: str, port: int) -> str:
    return site.plan.mx_hosts[0] if port == 25 else fqdn


def _no_relay(site: Site, outside: OutsideHost) -> Finding:
    primary = site.plan.fleet.primary_domain
    victim = f"victim-{mail.token()}@{outside.domain}"
    senders = (f"stranger@{outside.domain}", site.people[0].address, "")
    calls: list[dict[str, Any]] = [
        {"address": address, "port": port, "tls": tls, "name": _name(site, fqdn, port), "sender": sender,
         "recipients": forms(victim, primary)}
        for address, fqdn, port, tls in _sessions(site)
        for sender in senders
    ]  # fmt: skip
    tried, wrong = 0, []
    for call, found in zip(calls, site.run(outside.id, "smtp", calls, 180), strict=True):
        where = f"{door(call['address'], call['port'])} from <{call['sender']}>"
        refused = found["sender"] and found["sender"][0] >= 400
        if not found["sender"] or (not refused and len(found["recipients"]) < len(call["recipients"])):
            wrong.append(f"{where}: not tried: {found['error'] or found['banner'] or 'nobody listens'}")
            continue
        tried += len(call["recipients"])
        for recipient, (code, text) in zip(call["recipients"], found["recipients"], strict=False):
            if code < 400:
                wrong.append(f"{where}: RCPT TO:<{recipient}> {code} {text}")
    every = sum(len(call["recipients"]) for call in calls)
    return count(tried - len([w for w in wrong if "RCPT" in w]), every, "tries refused",
                 subject=f"from {outside.country}", wrong=wrong)  # fmt: skip


def unknown_refused(site: Site) -> Iterable[Finding]:
    """Every mx node refuses, for good, a recipient whom the directory does not know, in every domain."""
    outside = site.outside[0]
    recipients = [f"nobody-{mail.token()}@{domain}" for domain in site.plan.fleet.domains]
    calls: list[dict[str, Any]] = [
        {"address": address, "port": 25, "tls": "starttls", "name": site.plan.mx_hosts[0],
         "sender": f"stranger@{outside.domain}", "recipients": recipients}
        for node in site.nodes(Role.MX)
        for address in site.addresses(node.fqdn)
    ]  # fmt: skip
    wrong = []
    for call, found in zip(calls, site.run(outside.id, "smtp", calls), strict=True):
        codes = [code for code, _ in found["recipients"]]
        if len(codes) != len(recipients) or not all(500 <= code < 600 for code in codes):
            wrong.append(f"{call['address']}: {found['recipients'] or found['error'] or found['banner']}")
    yield count(len(calls) - len(wrong), len(calls), "addresses refuse", wrong=wrong)


def inner_doors(site: Site) -> Iterable[Finding]:
    """What is only between nodes is closed to the world: egress and mailbox nodes answer no outside host."""
    doors = [
        (address, port)
        for role, ports in ((Role.EGRESS, (25, 2526)), (Role.MAILBOX, (25, 2525, 2527)))
        for node in site.nodes(role)
        if not {Role.MX, Role.SUBMISSION} & set(node.roles)
        for address in site.addresses(node.fqdn)
        for port in ports
    ]
    calls = [
        {"address": address, "port": port, "tls": "none", "name": "", "seconds": CLOSED_SECONDS}
        for address, port in doors
    ]
    found = site.run(site.outside[-1].id, "smtp", calls)
    wrong = [f"{door(item['address'], item['port'])} is open" for item in found if item["connected"]]
    yield count(len(found) - len(wrong), len(found), "ports closed", wrong=wrong)


CLAIMS = (
    Claim("relay.refused", "Relaying for strangers is refused", ("R02", "R23"), no_relay),
    Claim("relay.unknown", "Unknown recipients are refused", ("R02",), unknown_refused),
    Claim("relay.closed", "Inner ports are closed to the world", ("R02", "R23"), inner_doors),
)
