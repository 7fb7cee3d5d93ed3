"""The sandbox's network: one router namespace with no way out, and a namespace for each machine behind it.

The router plays what lies between machines: the internet's routes, the clouds' one-to-one address mapping
and their firewalls. All calls may be repeated; each brings the kernel to the state asked for. Needs root.
"""

import contextlib
import ctypes
import hashlib
import ipaddress
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from mailinfra.sandbox.context import StateFile
from mailinfra.sandbox.model import CloudKind, FirewallRule, MachineSpec
from mailinfra.sandbox.paths import SandboxError

GATEWAY = "169.254.0.1"
GATEWAY_IPV6 = "fe80::1"
METADATA = "169.254.169.254"
"""Both clouds' metadata service, and GCE's resolver."""
RESOLVER = "169.254.169.253"
"""The VPC resolver of AWS."""
ROUTER = "192.0.2.254"
"""Whence the host's own connections into the sandbox come."""
ROUTER_IPV6 = "2001:db8:0:ffff::fe"
NAMESPACES = Path("/run/netns")
DNS_PORT, SMTP_PORT = 53, 25

P = ParamSpec("P")
R = TypeVar("R")
_CLONE_NEWNET = 0x40000000
_MACHINE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_libc = ctypes.CDLL(None, use_errno=True)


class NetworkError(SandboxError):
    """The kernel refused a change of the sandbox's network."""


@contextlib.contextmanager
def in_namespace(path: Path) -> Iterator[None]:
    """Let the calling thread work in a network namespace: sockets made meanwhile belong to it for good.

    Threads and processes started meanwhile inherit it. Raises `NetworkError` when there is no such namespace.
    """
    try:
        target = path.open("rb")
    except FileNotFoundError:
        raise NetworkError(f"network namespace {path.name} does not exist") from None
    with target, Path("/proc/thread-self/ns/net").open("rb") as own:
        _setns(target.fileno())
        try:
            yield
        finally:
            _setns(own.fileno())


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise NetworkError(f"cannot enter a network namespace: {os.strerror(number)} (root is needed)")


def run_in_namespace(path: Path, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function in a thread of its own inside a network namespace; its result or exception is the
    caller's.
    """
    result: Future[R] = Future()

    def work() -> None:
        try:
            with in_namespace(path):
                result.set_result(function(*args, **kwargs))
        except BaseException as error:  # handed on whole to the caller
            result.set_exception(error)

    thread = threading.Thread(target=work, name=f"in-{path.name}", daemon=True)
    thread.start()
    return result.result()


@dataclass(frozen=True)
class Endpoint:
    """A machine as the router sees it. `private_ipv4` of outside hosts is their public address."""

    id: str
    interface: str
    """The router's end of the machine's cable."""
    kind: CloudKind
    region: str
    private_ipv4: str
    ipv6: str | None
    addresses: tuple[str, ...]
    firewall: tuple[FirewallRule, ...]
    egress_port_25: bool

    @property
    def in_cloud(self) -> bool:
        """Whether a cloud's address mapping and firewall apply to it."""
        return self.kind in ("aws", "gcp")


def ruleset(endpoints: Iterable[Endpoint], mapping: dict[str, str]) -> str:
    """The router's whole nft ruleset, as one atomic replacement. `mapping` is public to private IPv4.

    Order of a packet's way: the public destination becomes the private one, the sender's limits are applied,
    the private source becomes the public one, the receiver's firewall is applied (so it sees addresses as a
    cloud's firewall does).
    """
    machines = sorted(endpoints, key=lambda endpoint: endpoint.id)
    pairs = sorted(mapping.items())
    private = ", ".join(sorted({e.private_ipv4 for e in machines if e.in_cloud}))
    lines = ["table inet mailinfra", "delete table inet mailinfra", "table inet mailinfra {"]
    for endpoint in machines:
        lines += _chain(f"from_{endpoint.interface}", _sender_rules(endpoint, machines, mapping))
        if endpoint.in_cloud:
            lines += _chain(f"to_{endpoint.interface}", _receiver_rules(endpoint, machines))
    destinations = [f"dnat ip to ip daddr map {{ {_elements(pairs)} }}"] if pairs else []
    lines += _chain("prerouting", ["type nat hook prerouting priority dstnat; policy accept;", *destinations])
    lines += _chain("output", ["type nat hook output priority -100; policy accept;", *destinations])
    senders = [f"iifname vmap {{ {_jumps('from', machines)} }}"] if machines else []
    lines += _chain(
        "forward",
        [
            "type filter hook forward priority filter; policy drop;",
            *senders,
            "ct state invalid drop",
            *(
                [f"oifname {{ {', '.join(_quoted(e.interface) for e in machines)} }} accept"]
                if machines
                else []
            ),
        ],
    )
    sources = []
    if pairs:
        # Inside one network no address is translated.
        sources = [
            *([f"ct original ip daddr {{ {private} }} return"] if private else []),
            f"snat ip to ip saddr map {{ {_elements((b, a) for a, b in pairs)} }}",
        ]
    lines += _chain("postrouting", ["type nat hook postrouting priority srcnat; policy accept;", *sources])
    cloud = [endpoint for endpoint in machines if endpoint.in_cloud]
    receivers = [f"oifname vmap {{ {_jumps('to', cloud)} }}"] if cloud else []
    lines += _chain(
        "firewall",
        [
            "type filter hook postrouting priority srcnat + 10; policy accept;",
            # The router itself is the clouds' own machinery (metadata, APIs, health checks).
            "fib saddr type local accept",
            "ct state established,related accept",
            *receivers,
        ],
    )
    return "\n".join([*lines, "}", ""])


def _sender_rules(endpoint: Endpoint, machines: list[Endpoint], mapping: dict[str, str]) -> list[str]:
    own = [endpoint.private_ipv4, *([endpoint.ipv6] if endpoint.ipv6 else []), *endpoint.addresses]
    rules = [f"ip saddr != {{ {', '.join(a for a in own if ':' not in a)} }} drop"]
    six = [address for address in own if ":" in address]
    rules.append(f"ip6 saddr != {{ {', '.join(six)} }} drop" if six else "meta nfproto ipv6 drop")
    if not endpoint.in_cloud:
        return rules
    if endpoint.kind == "gcp" or not endpoint.egress_port_25:
        rules.append(f"tcp dport {SMTP_PORT} drop")
    if endpoint.private_ipv4 not in mapping.values():
        # Without a public address there is no way out of its own network (IPv4).
        peers = _peers(endpoint, machines)
        same = f"ct original ip daddr != {{ {', '.join(peers)} }} " if peers else "meta nfproto ipv4 "
        rules.append(f"ct direction original {same}drop")
    return rules


def _receiver_rules(endpoint: Endpoint, machines: list[Endpoint]) -> list[str]:
    peers = _peers(endpoint, machines)
    outsiders = f"ip saddr != {{ {', '.join(peers)} }} " if peers else ""
    rules = [f"ct original ip daddr {endpoint.private_ipv4} {outsiders}drop"]
    for rule in endpoint.firewall:
        for family, sources in _by_family(rule.sources):
            if match := _match(rule, family, sources):
                rules.append(f"{match} accept")
    return [*rules, "drop"]


def _peers(endpoint: Endpoint, machines: list[Endpoint]) -> list[str]:
    """Private addresses that share the machine's network: the same cloud and region, itself included."""
    return sorted(m.private_ipv4 for m in machines if (m.kind, m.region) == (endpoint.kind, endpoint.region))


def _by_family(sources: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Sources as ("ip" or "ip6", CIDRs without overlaps, which nft would refuse)."""
    networks = [ipaddress.ip_network(source, strict=False) for source in sources]
    four = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network))
    return [
        (family, cidrs)
        for family, cidrs in (("ip", [str(n) for n in four]), ("ip6", [str(n) for n in six]))
        if cidrs
    ]


def _match(rule: FirewallRule, family: str, sources: list[str]) -> str | None:
    """The nft match of a rule for one family; None when it can match nothing there."""
    if {"icmp": "ip", "icmpv6": "ip6"}.get(rule.protocol, family) != family:
        return None
    anywhere = sources in (["0.0.0.0/0"], ["::/0"])
    who = (
        f"meta nfproto {'ipv4' if family == 'ip' else 'ipv6'}"
        if anywhere
        else f"{family} saddr {{ {', '.join(sources)} }}"
    )
    if rule.protocol == "all":
        return who
    if rule.protocol in ("tcp", "udp") and rule.ports is not None:
        return f"{who} {rule.protocol} dport {rule.ports[0]}-{rule.ports[1]}"
    return f"{who} meta l4proto {'ipv6-icmp' if rule.protocol == 'icmpv6' else rule.protocol}"


def _chain(name: str, rules: list[str]) -> list[str]:
    return [f"  chain {name} {{", *(f"    {rule}" for rule in rules), "  }"]


def _elements(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{key} : {value}" for key, value in pairs)


def _quoted(text: str) -> str:
    return f'"{text}"'


def _jumps(prefix: str, machines: Iterable[Endpoint]) -> str:
    return ", ".join(f'"{m.interface}" : jump {prefix}_{m.interface}' for m in machines)


class Network:
    """The network of one sandbox. `tools` is the root folder of an image that has nft. Safe to use from
    threads.
    """

    def __init__(self, prefix: str, tools: Path, state: StateFile) -> None:
        self.prefix = prefix
        self.router = f"{prefix}-net"
        self._tools = tools
        self._state = state
        self._endpoints: dict[str, Endpoint] = {}
        self._mapping: dict[str, str] = dict(state.load().get("mapping", {}))
        self._routed: set[str] = set()
        self._lock = threading.RLock()

    @property
    def router_path(self) -> Path:
        """The router's namespace."""
        return NAMESPACES / self.router

    def namespace(self, machine: str) -> Path:
        """A machine's namespace."""
        return NAMESPACES / f"{self.prefix}-{machine}"

    def start(self) -> None:
        """Make the router, with its own addresses and a ruleset that forwards nothing yet."""
        with self._lock:
            _add_namespace(self.router_path)
            run_in_namespace(self.router_path, _set_kernel, forwarding=True)
            _ip(self.router, "link set lo up")
            for address in (GATEWAY, METADATA, RESOLVER, ROUTER, ROUTER_IPV6):
                self.add_service_address(address)
            self._apply()

    def add_service_address(self, address: str) -> None:
        """Give the router one more address of its own (IPv4 or IPv6), for a service that listens there."""
        length = ipaddress.ip_address(address).max_prefixlen
        nodad = " nodad" if length == 128 else ""
        _ip(self.router, f"addr replace {address}/{length} dev lo{nodad}")

    def attach(self, spec: MachineSpec) -> None:
        """Make the machine's namespace, cable and routes, and apply its firewall. See `map_address` for the rest."""
        if not _MACHINE_ID.fullmatch(spec.id):
            raise NetworkError(f"machine id {spec.id!r}: allowed are at most 63 of a-z, 0-9 and '-'")
        interface = self.prefix + hashlib.sha256(spec.id.encode()).hexdigest()[:8]
        path = self.namespace(spec.id)
        with self._lock:
            _add_namespace(path)
            run_in_namespace(path, _set_kernel, forwarding=False)
            if not _has_link(self.router, interface):
                if _has_link(path.name, "eth0"):
                    _ip(path.name, "link delete eth0")
                _ip(self.router, f"link add {interface} type veth peer name eth0 netns {path.name}")
            _ip(
                path.name,
                "link set lo up",
                "link set eth0 up",
                f"addr replace {spec.private_ipv4}/32 dev eth0",
                f"route replace {GATEWAY}/32 dev eth0 scope link",
                f"route replace default via {GATEWAY} dev eth0 src {spec.private_ipv4}",
            )
            _ip(
                self.router,
                f"link set {interface} up",
                f"addr replace {GATEWAY_IPV6}/64 dev {interface} nodad",
                f"route replace {spec.private_ipv4}/32 dev {interface} src {ROUTER}",
            )
            if spec.ipv6:
                _ip(
                    path.name,
                    f"addr replace {spec.ipv6}/128 dev eth0 nodad",
                    f"-6 route replace default via {GATEWAY_IPV6} dev eth0 src {spec.ipv6}",
                )
                _ip(self.router, f"-6 route replace {spec.ipv6}/128 dev {interface} src {ROUTER_IPV6}")
            for address in spec.addresses:
                six = ":" in address
                length, source = (128, ROUTER_IPV6) if six else (32, ROUTER)
                _ip(path.name, f"addr replace {address}/{length} dev eth0{' nodad' if six else ''}")
                family = "-6 " if six else ""
                _ip(self.router, f"{family}route replace {address}/{length} dev {interface} src {source}")
            self._endpoints[spec.id] = Endpoint(
                id=spec.id,
                interface=interface,
                kind=spec.kind,
                region=spec.region,
                private_ipv4=spec.private_ipv4,
                ipv6=spec.ipv6,
                addresses=spec.addresses,
                firewall=spec.firewall,
                egress_port_25=spec.egress_port_25,
            )
            self._apply()

    def detach(self, machine: str) -> None:
        """Take the machine's namespace, cable, firewall and address mappings away."""
        with self._lock:
            endpoint = self._endpoints.pop(machine, None)
            if endpoint is not None:
                self._mapping = {a: b for a, b in self._mapping.items() if b != endpoint.private_ipv4}
                self._state.save({"mapping": self._mapping})
                self._apply()
            _delete_namespace(self.namespace(machine))

    def set_firewall(
        self, machine: str, rules: tuple[FirewallRule, ...], egress_port_25: bool | None = None
    ) -> None:
        """Replace a machine's firewall in place; connections that stand are kept, as in both clouds."""
        with self._lock:
            if machine not in self._endpoints:
                raise NetworkError(f"no machine {machine!r} on the network")
            endpoint = replace(self._endpoints[machine], firewall=rules)
            if egress_port_25 is not None:
                endpoint = replace(endpoint, egress_port_25=egress_port_25)
            self._endpoints[machine] = endpoint
            self._apply()

    def map_address(self, public: str, private: str | None) -> None:
        """Map a fixed public IPv4 address to a private one, instead of what it meant before; None unmaps
        it.
        """
        ipaddress.IPv4Address(public)
        with self._lock:
            # One to one: the machine's former public address goes.
            self._mapping = {a: b for a, b in self._mapping.items() if a != public and b != private}
            if private is not None:
                self._mapping[public] = str(ipaddress.IPv4Address(private))
            self._state.save({"mapping": self._mapping})
            self._apply()

    def public_of(self, private: str) -> str | None:
        """The public IPv4 address mapped to a private one."""
        return next((a for a, b in self._mapping.items() if b == private), None)

    @property
    def mapping(self) -> dict[str, str]:
        """Public to private IPv4 addresses."""
        return dict(self._mapping)

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in a thread inside the router namespace."""
        return run_in_namespace(self.router_path, function, *args, **kwargs)

    def listen(self, host: str, port: int) -> socket.socket:
        """A TCP socket that listens on an address of the router's."""
        return self.run(_bound, host, port, socket.SOCK_STREAM)

    def datagram(self, host: str, port: int) -> socket.socket:
        """A UDP socket bound to an address of the router's."""
        return self.run(_bound, host, port, socket.SOCK_DGRAM)

    def connect(self, host: str, port: int, timeout: float, machine: str | None = None) -> socket.socket:
        """A TCP connection from the router, or from a machine's namespace. Raises OSError as sockets do."""
        path = self.router_path if machine is None else self.namespace(machine)
        return run_in_namespace(path, socket.create_connection, (host, port), timeout)

    def _apply(self) -> None:
        # The router's own connections are routed before their destination is translated, so each public address
        # needs a route of its own; where it leads does not matter.
        for public in set(self._mapping) - self._routed:
            _ip(self.router, f"route replace {public}/32 dev lo src {ROUTER}")
        for public in self._routed - set(self._mapping):
            _ip(self.router, f"route delete {public}/32 dev lo")
        self._routed = set(self._mapping)
        text = ruleset(self._endpoints.values(), self._mapping)
        done = subprocess.run(
            ["nsenter", f"--net={self.router_path}", "chroot", str(self._tools), "/usr/sbin/nft", "-f", "-"],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise NetworkError(f"nft refused the router's rules: {done.stderr.strip()}")


def remove_all(prefix: str) -> None:
    """Remove every namespace of a sandbox, and with them all that is in the network. Works without a
    daemon.
    """
    for path in namespaces(prefix):
        _delete_namespace(path)


def namespaces(prefix: str) -> list[Path]:
    """The sandbox's network namespaces that exist now."""
    return sorted(NAMESPACES.glob(f"{prefix}-*")) if NAMESPACES.is_dir() else []


def _bound(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        if kind == socket.SOCK_STREAM:
            made.listen(128)
    except OSError as error:
        made.close()
        raise NetworkError(f"cannot listen on {host} port {port} in the sandbox: {error.strerror}") from error
    return made


def _set_kernel(forwarding: bool) -> None:
    """Kernel settings of the namespace that the calling thread is in."""
    for name, value in (
        ("ipv4/ip_forward", int(forwarding)),
        ("ipv4/conf/all/rp_filter", 0),
        ("ipv4/conf/default/rp_filter", 0),
        ("ipv6/conf/all/disable_ipv6", 0),
        ("ipv6/conf/default/disable_ipv6", 0),
        ("ipv6/conf/all/forwarding", int(forwarding)),
        # An address that is still being probed for duplicates cannot be bound; there are none here.
        ("ipv6/conf/default/accept_dad", 0),
        ("ipv6/conf/default/accept_ra", 0),
    ):
        path = Path("/proc/sys/net", name)
        if path.exists():
            path.write_text(f"{value}\n")


def _add_namespace(path: Path) -> None:
    if not _is_namespace(path):
        if path.exists():  # what a crash between `touch` and `mount` of `ip netns add` leaves
            path.unlink()
        _command(["ip", "netns", "add", path.name])


def _is_namespace(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_dev != NAMESPACES.stat().st_dev
    return False


def _delete_namespace(path: Path) -> None:
    if _is_namespace(path):
        _command(["ip", "netns", "delete", path.name])
    path.unlink(missing_ok=True)


def _has_link(namespace: str, name: str) -> bool:
    shown = subprocess.run(["ip", "-n", namespace, "link", "show", name], capture_output=True, check=False)
    return shown.returncode == 0


def _ip(namespace: str, *commands: str) -> None:
    for command in commands:
        _command(["ip", "-n", namespace, *command.split()])


def _command(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
