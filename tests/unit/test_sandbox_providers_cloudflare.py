from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.control import NotFound
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.base import SandboxProvider
from mailinfra.sandbox.providers.cloudflare import cloud
from mailinfra.sandbox.providers.cloudflare.dns import zone_id
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import UNKNOWN, Object

RECORD = "urn:pulumi:test::case::cloudflare:index/dnsRecord:DnsRecord::r"
ZONE = "urn:pulumi:test::case::cloudflare:index/zone:Zone::z"
A: Object = {"zoneId": zone_id("example.test"), "name": "a", "type": "A", "content": "198.51.100.7", "ttl": 1}


class Control:
    """The sandbox's DNS with records in a dict."""

    def __init__(self) -> None:
        self.zones: dict[str, dict[str, Object]] = {"example.test.": {}}

    def call(self, method: str, **given: Any) -> Any:
        name = f"{given.get('zone', '').rstrip('.')}."
        match method:
            case "dns.status":
                return {"zones": [{"zone": zone, "provider": "cloudflare"} for zone in self.zones]}
            case "dns.get_zone" if name not in self.zones:
                raise NotFound(name)
            case "dns.get_zone" | "dns.put_zone":
                self.zones.setdefault(name, {})
                return {"zone": name, "name_servers": ["ns1.cloudflare.test."]}
            case "dns.delete_zone":
                self.zones.pop(name, None)
            case "dns.put_record":
                record = {"id": f"r{len(self.zones[name])}", **given["record"]}
                self.zones[name][record["id"]] = record
                return record
            case "dns.list_records":
                return list(self.zones[name].values())
            case "dns.delete_record":
                self.zones[name].pop(given["record"]["id"], None)
        return None


@pytest.fixture
def provider() -> SandboxProvider:
    paths = Paths.of("unit")
    made = SandboxProvider(cloud(Paths(paths.name, Path("/nonexistent"), paths.cache)))
    made.cloud.__dict__["control"] = Control()
    return made


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"type": "SPF"}, "type"),
        ({"content": None}, "content"),
        ({"data": {"flags": 0}}, "content"),
        ({"type": "MX", "content": "mx.test"}, "priority"),
        ({"name": None}, "name"),
        ({"contents": "x"}, "contents"),
        ({"ttl": "soon"}, "ttl"),
    ],
)
def test_bad_inputs_are_named(provider: SandboxProvider, changes: Object, path: str) -> None:
    inputs = {key: value for key, value in {**A, **changes}.items() if value is not None}
    _, failures = provider.check(RECORD, {}, inputs, b"")
    assert path in {failure.path for failure in failures}


def test_good_inputs_and_unknown_ones_pass(provider: SandboxProvider) -> None:
    for inputs in (A, {**A, "type": UNKNOWN}, {**A, "type": "MX", "content": UNKNOWN, "priority": UNKNOWN}):
        assert provider.check(RECORD, {}, inputs, b"")[1] == []


@pytest.mark.parametrize(
    ("changes", "replaces"),
    [
        ({"content": "198.51.100.8"}, False),
        ({"name": "b"}, False),
        ({"ttl": 60}, False),
        ({"proxied": False}, False),
        ({"type": "AAAA"}, True),
        ({"zoneId": "other"}, True),
    ],
)
def test_what_replaces_a_record(provider: SandboxProvider, changes: Object, replaces: bool) -> None:
    found = provider.diff(RECORD, "r0", A, A, {**A, **changes})
    assert found.changes
    assert bool(found.replaces) is replaces


def test_a_record_comes_and_goes(provider: SandboxProvider) -> None:
    data = {"usage": 2, "selector": 1, "matchingType": 1, "certificate": "ab"}
    inputs = {"zoneId": zone_id("example.test"), "name": "_25._tcp", "type": "TLSA", "ttl": 60, "data": data}
    identifier, state = provider.create(RECORD, inputs, False)
    stored = provider.cloud.control.call("dns.list_records", zone="example.test")
    assert stored[0]["data"] == {"usage": 2, "selector": 1, "matching_type": 1, "certificate": "ab"}
    found = provider.read(RECORD, identifier, inputs, state)
    assert found is not None
    assert found[0] == inputs
    imported = provider.read(RECORD, f"{inputs['zoneId']}/{identifier}", {}, {})
    assert imported is not None
    assert imported[0]["data"] == data
    changed = {**inputs, "ttl": 120}
    provider.update(RECORD, identifier, inputs, state, changed, False)
    drifted = provider.read(RECORD, identifier, inputs, state)
    assert drifted is not None
    assert drifted[0]["ttl"] == 120
    provider.delete(RECORD, identifier, state)
    assert provider.read(RECORD, identifier, inputs, state) is None


def test_a_zone_is_made_once(provider: SandboxProvider) -> None:
    inputs: Object = {"account": {"id": "0" * 32}, "name": "other.test"}
    identifier, state = provider.create(ZONE, inputs, False)
    assert identifier == zone_id("Other.TEST.")
    assert state["nameServers"] == ["ns1.cloudflare.test"]
    with pytest.raises(ProviderError, match="already exists"):
        provider.create(f"{ZONE}2", inputs, False)
    provider.delete(ZONE, identifier, state)
    assert provider.read(ZONE, identifier, inputs, state) is None


def test_a_zone_is_found_by_id_and_by_name(provider: SandboxProvider) -> None:
    token = "cloudflare:index/getZone:getZone"
    by_name, failures = provider.invoke(token, {"filter": {"match": "all", "name": "example.test"}})
    assert failures == []
    by_id, _ = provider.invoke(token, {"zoneId": by_name["id"]})
    assert by_id["name"] == by_name["name"] == "example.test"
    with pytest.raises(ProviderError, match=r"no zone 'none\.test'"):
        provider.invoke(token, {"filter": {"match": "all", "name": "none.test"}})
    with pytest.raises(ProviderError, match="one of zoneId and filter"):
        provider.invoke(token, {})
    listed, _ = provider.invoke("cloudflare:index/getZones:getZones", {})
    assert [zone["name"] for zone in listed["results"]] == ["example.test"]


def test_every_live_type_is_one_of_the_sdk(provider: SandboxProvider) -> None:
    for token in provider.live_types():
        schema, adapter = provider.sdk.schema(token), provider.adapter(token)
        assert adapter.rules.replaces <= schema.inputs.keys()
        assert adapter.computed | adapter.volatile <= schema.outputs
