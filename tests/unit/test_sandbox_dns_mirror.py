"""The mirror: what changed is brought, what was lost is brought again, keys in a safe order."""

import time
from collections.abc import Iterable
from typing import Any

import pytest

from mailinfra.sandbox.dns import mirror, zones
from mailinfra.sandbox.dns.keys import ZoneKey
from mailinfra.sandbox.dns.mirror import Mirror
from mailinfra.sandbox.dns.pdns import ServerError
from mailinfra.sandbox.dns.translate import RRset
from mailinfra.sandbox.dns.zones import Plan, Served

log: list[tuple[str, ...]] = []


class Held:
    """A name server in memory."""

    def __init__(self, _connect: object, address: str, _key: str, _port: int) -> None:
        self.name = next(name for name, known in zones.ADDRESSES.items() if known == address)
        self.content: dict[str, dict[tuple[str, str], RRset]] = {}
        self.broken = False

    def zones(self) -> list[str]:
        if self.broken:
            raise ServerError("out of reach")
        return list(self.content)

    def contents(self, zone: str) -> list[tuple[str, str]]:
        return [*self.content[zone], (zone, "SOA")]

    def create(self, zone: str, _soa: str, rrsets: Iterable[RRset]) -> None:
        log.append((self.name, "create", zone))
        self.content[zone] = {(r.name, r.rtype): r for r in rrsets}

    def remove(self, zone: str) -> None:
        log.append((self.name, "remove", zone))
        self.content.pop(zone, None)

    def change(self, zone: str, replace: Iterable[RRset], remove: Iterable[tuple[str, str]]) -> None:
        for key in remove:
            assert key[1] != "SOA"
            del self.content[zone][key]
            log.append((self.name, "delete", *key))
        for r in replace:
            self.content[zone][r.name, r.rtype] = r
            log.append((self.name, "replace", r.name, r.rtype))

    def sign(self, zone: str, key: ZoneKey | None) -> None:
        log.append((self.name, "sign" if key else "unsign", zone))

    def rectify(self, zone: str) -> None:
        log.append((self.name, "rectify", zone))


class World:
    """A plan, name servers in memory and a mirror between them."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.mirror = Mirror(lambda *_: pytest.fail("no network here"), "key", lambda: (self.plan, {}))
        self.probed: dict[str, Any] = {}

    def server(self, name: zones.Server) -> Held:
        held = self.mirror._servers[name]
        assert isinstance(held, Held)
        return held

    def put(self, server: zones.Server, zone: str, *rrsets: RRset, key: ZoneKey | None = None) -> None:
        self.plan.zones[server, zone] = Served("soa", rrsets, key)

    def serve(self) -> list[tuple[str, ...]]:
        log.clear()
        self.mirror.serve(time.monotonic())
        return list(log)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(mirror, "NameServer", Held)
    monkeypatch.setattr(Mirror, "_prober", lambda *_: {})
    return World()


A, B = RRset("a.z.test.", "A", 60, ("192.0.2.1",)), RRset("b.z.test.", "A", 60, ("192.0.2.2",))


def test_only_what_changed_is_brought(world: World) -> None:
    world.put("route53", "z.test.", A, B)
    assert world.serve() == [("route53", "create", "z.test."), ("route53", "unsign", "z.test.")]
    assert world.serve() == []
    world.put("route53", "z.test.", RRset("a.z.test.", "A", 30, ("192.0.2.1",)))
    assert world.serve() == [
        ("route53", "delete", "b.z.test.", "A"),
        ("route53", "replace", "a.z.test.", "A"),
    ]
    world.plan.zones.clear()
    assert world.serve() == [("route53", "remove", "z.test.")]
    assert world.mirror.state().serving


def test_a_server_that_lost_its_zones_gets_them_again(world: World) -> None:
    world.put("route53", "z.test.", A)
    world.put("clouddns", "y.test.")
    world.serve()
    world.server("route53").content.clear()
    world.mirror._look()
    world.serve()
    assert world.server("route53").content["z.test."] == {("a.z.test.", "A"): A}


def test_what_a_server_holds_from_before_is_put_right(world: World) -> None:
    world.server("route53").content = {"z.test.": {("b.z.test.", "A"): B}, "old.test.": {}}
    world.put("route53", "z.test.", A)
    world.serve()
    assert world.server("route53").content == {"z.test.": {("a.z.test.", "A"): A}}


def test_a_server_out_of_reach_is_told_and_made_up_for(world: World) -> None:
    world.put("route53", "z.test.", A)
    world.server("clouddns").broken = True
    with pytest.raises(ServerError, match="kept, but not served yet: out of reach"):
        world.serve()
    assert not world.mirror.state().serving
    world.server("clouddns").broken = False
    world.serve()
    assert world.mirror.state().serving
    assert world.server("route53").content["z.test."]


def test_a_zone_signs_before_its_parent_says_so_and_a_while_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ZoneKey.make()
    ds = RRset("z.test.", "DS", 5, (key.ds_value("z.test."),))
    world.put("root", "test.")
    world.put("route53", "z.test.", A)
    world.serve()
    world.put("root", "test.", ds)
    world.put("route53", "z.test.", A, key=key)
    assert world.serve() == [("route53", "sign", "z.test."), ("root", "replace", "z.test.", "DS")]
    world.put("root", "test.")
    world.put("route53", "z.test.", A)
    assert world.serve() == [("root", "delete", "z.test.", "DS")]
    later = time.monotonic() + mirror.UNSIGN_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert world.serve() == [("route53", "unsign", "z.test.")]
    assert world.serve() == []
