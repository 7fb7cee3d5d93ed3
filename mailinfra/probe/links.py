"""Claims about the links between the fleet's own nodes: TLS 1.3, both sides with the fleet's certificates, or none."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from mailinfra.backup.plan import followers
from mailinfra.fleet import Role
from mailinfra.placement import mailbox_host, mailbox_hosts
from mailinfra.plan import NodePlan
from mailinfra.probe import mail
from mailinfra.probe.row import Claim, Finding, ProbeError, Stage, count, listed
from mailinfra.probe.site import Site, each

TLS_FOLDER = "/var/lib/mailinfra/tls"
PORTS = ((Role.MAILBOX, 2525), (Role.EGRESS, 2526), (Role.MAILBOX, 993))
"""The ports between nodes, by the role that listens."""
KINDS = {
    "tls12": "TLS 1.2 is refused between nodes",
    "no-certificate": "No client certificate is refused between nodes",
    "wrong-ca": "A certificate of a wrong authority is refused between nodes",
}


def _targets(site: Site) -> list[dict[str, Any]]:
    found = []
    for role, port in PORTS:
        for node in site.nodes(role):
            target: dict[str, Any] = {"host": node.fqdn, "port": port, "region": node.region}
            own = [person for person in site.people if person.home == node.region]
            if port == 2526:
                target["recipient"] = f"probe-{mail.token()}@{site.outside[0].domain}"
            elif not own:
                continue  # a region without users has no mailbox to offer mail for
            elif port == 993:
                target |= {"user": own[0].address, "password": own[0].password}
            else:
                target["recipient"] = own[0].address
            found.append(target)
    return found + _replicas(site)


def _replicas(site: Site) -> list[dict[str, Any]]:
    """Every mailbox node's replica, to be tried by that node: it lets nobody else in."""
    fleet = site.plan.fleet
    replicas = followers(fleet)
    found: list[dict[str, Any]] = []
    for store in site.plan.copies:
        hosts = mailbox_hosts(fleet, fleet.region(store.region))
        for person in site.people:
            home = mailbox_host(person.address, hosts) if person.home == store.region else ""
            if home in replicas and home not in {target["source"] for target in found}:
                found.append(
                    {
                        "host": replicas[home],
                        "port": 2527,
                        "region": store.replica,
                        "user": person.address,
                        "source": home,
                    }
                )
    return found


def _source(site: Site, region: str, number: int) -> NodePlan:
    """A node of another region to try a target from."""
    others = [node for node in site.plan.nodes if node.region != region]
    if not others:
        raise ProbeError("the fleet has one region only, so no link between regions")
    return others[number % len(others)]


def attempts(site: Site) -> list[dict[str, Any]]:
    """Every kind of try at every port between nodes, each from a node of another region that may use it."""
    by_source: dict[str, list[dict[str, Any]]] = {}
    nodes = {node.fqdn: node for node in site.plan.nodes}
    for number, target in enumerate(_targets(site)):
        node = nodes[target["source"]] if "source" in target else _source(site, target["region"], number)
        source = site.machine(node)
        by_source.setdefault(source, []).append(target)

    def tries(item: tuple[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = site.run(item[0], "links", {"tls": TLS_FOLDER, "targets": item[1]}, 120)
        return found

    return [found for group in each(tries, by_source.items()) for found in group]


def _refused(site: Site, kind: str) -> Iterable[Finding]:
    tries = [found for found in site.once(attempts) if found["kind"] == kind]
    wrong = [
        f"{found['host']}:{found['port']} {found['outcome']} {found['tls']} {found['why']}".strip()
        for found in tries
        if found["outcome"] != "refused"
    ]
    why = Counter(f"{found['port']}: {found['why']}" for found in tries if found["outcome"] == "refused")
    finding = count(len(tries) - len(wrong), len(tries), "servers", wrong=wrong)
    yield Finding(
        finding.ok,
        finding.measured,
        finding.limit,
        finding.unit,
        detail=finding.detail or listed(sorted(why)),
    )


def tls12(site: Site) -> Iterable[Finding]:
    """The right certificate over TLS 1.2 at most."""
    return _refused(site, "tls12")


def no_certificate(site: Site) -> Iterable[Finding]:
    """TLS 1.3 without a certificate: no mail is taken, no right password accepted."""
    return _refused(site, "no-certificate")


def wrong_ca(site: Site) -> Iterable[Finding]:
    """A chain like the node's own, names and all, made on the spot under another key."""
    return _refused(site, "wrong-ca")


def accepted(site: Site) -> Iterable[Finding]:
    """The node's own certificate is accepted, over TLS 1.3: without this no refusal would prove anything."""
    tries = [found for found in site.once(attempts) if found["kind"] == "right"]
    wrong = [
        f"{found['host']}:{found['port']} {found['outcome']} {found['tls']} {found['why']}".strip()
        for found in tries
        if (found["outcome"], found["tls"]) != ("accepted", "TLSv1.3")
    ]
    ciphers = sorted({f"{found['tls']} {found['cipher']}" for found in tries if found["tls"]})
    finding = count(len(tries) - len(wrong), len(tries), "sessions", wrong=wrong)
    yield Finding(
        finding.ok,
        finding.measured,
        finding.limit,
        finding.unit,
        detail=finding.detail or ", ".join(ciphers),
    )


CLAIMS = (
    Claim("links.accepted", "Between nodes the accepted session is TLS 1.3", ("R23",), accepted, Stage.FIRST),
    *(
        Claim(f"links.{kind}", title, ("R23",), measure, Stage.FIRST)
        for (kind, title), measure in zip(KINDS.items(), (tls12, no_certificate, wrong_ca), strict=True)
    ),
)
