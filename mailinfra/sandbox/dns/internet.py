"""The machine that plays the internet: four name servers, the prober of health checks, a resolver."""

from importlib import resources
from string import Template

from mailinfra.sandbox.dns import zones
from mailinfra.sandbox.dns.translate import ROUTING_LUA
from mailinfra.sandbox.model import MachineFile, MachineSpec

MACHINE = "internet"
IPV6 = "2001:db8:0:1::1"
"""Whence IPv6 endpoints are probed. The name servers themselves are reached by IPv4 only."""
API_PORT = 8081
PROBER_PORT = 8082
LIBRARY = "/usr/local/lib/mailinfra"
HEALTH = "/var/lib/mailinfra-health"


def text(name: str, **values: object) -> str:
    """A file of this package, with `$name` replaced by the values given."""
    content = resources.files("mailinfra.sandbox.dns").joinpath(name).read_text()
    return Template(content).substitute(values) if values else content


def resolver_files(hints: str, anchor: str) -> dict[str, MachineFile]:
    """What makes a resolver on any machine trust and find this internet's root, where Debian keeps the real ones."""
    return {
        "/usr/share/dns/root.hints": MachineFile.text(hints),
        "/usr/share/dns/root.key": MachineFile.text(anchor),
        "/etc/unbound/unbound.conf.d/sandbox-internet.conf": MachineFile.text(
            text("image/sandbox-internet.conf")
        ),
    }


def machine(key: str, geoip: MachineFile) -> MachineSpec:
    """The machine, with the name servers' API key and a first GeoIP database."""
    files = {
        ROUTING_LUA: MachineFile.text(text("routing.lua")),
        f"{LIBRARY}/prober.py": MachineFile.text(text("prober.py")),
        f"{LIBRARY}/pdns-database": MachineFile.text(text("image/pdns-database.sh"), 0o755),
        f"{LIBRARY}/geoip-reload": MachineFile.text(text("image/geoip-reload.sh"), 0o755),
        "/etc/mailinfra-health/key": MachineFile.text(key + "\n", 0o400, "pdns"),
        f"{HEALTH}/geo.mmdb": geoip,
        "/etc/systemd/system/mailinfra-health.service": MachineFile.text(
            text("image/mailinfra-health.service", address=zones.ADDRESSES["root"], port=PROBER_PORT)
        ),
        "/etc/systemd/system/pdns@.service.d/database.conf": MachineFile.text(
            text("image/pdns-database.conf")
        ),
        "/etc/unbound/unbound.conf.d/resolver.conf": MachineFile.text(
            text("image/resolver.conf", resolver=zones.RESOLVER)
        ),
    }
    for server, address in zones.ADDRESSES.items():
        files[f"/etc/powerdns/pdns-{server}.conf"] = MachineFile.text(
            text("image/pdns.conf", server=server, address=address, key=key), 0o640, "pdns"
        )
    first, *others = zones.ADDRESSES.values()
    return MachineSpec(
        id=MACHINE,
        kind="internet",
        hostname=zones.ROOT_SERVER.rstrip("."),
        region="internet",
        country="",
        private_ipv4=first,
        ipv6=IPV6,
        addresses=(*others, zones.RESOLVER),
        files=files,
        units=(
            "mailinfra-health.service",
            *(f"pdns@{server}.service" for server in zones.ADDRESSES),
            "unbound.service",
        ),
    )
