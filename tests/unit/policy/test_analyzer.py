"""The pack's side of the Analyzer protocol."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import analyzer_pb2 as wire
from pulumi.runtime.proto import analyzer_pb2_grpc

import mailinfra_policy.analyzer
from mailinfra.errors import ConfigError
from mailinfra_policy import values
from mailinfra_policy.analyzer import FLEET, NAME, Analyzer, finished, registered, schema, settings
from mailinfra_policy.config import Config, Level
from mailinfra_policy.rules.exposure_metadata_tokens import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import TODAY

PACK = Path(mailinfra_policy.analyzer.__file__).parent / "pack"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = {SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "value": {"password": "opensesame"}}
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
MANDATORY: tuple[Level, Mapping[str, Any]] = (Level.MANDATORY, {})


def request(inputs: Mapping[str, Any], name: str = "node", **provider: Any) -> wire.AnalyzeRequest:
    made = wire.AnalyzeRequest(urn=f"urn:pulumi:s::p::{TEMPLATE}::{name}", type=TEMPLATE, name=name)
    made.properties.update(inputs)
    made.options.parent = "urn:parent"
    if provider:
        made.provider.type = "pulumi:providers:aws"
        made.provider.name = "far"
        made.provider.properties.update(provider)
    return made


def test_a_resource_is_read_from_the_wire() -> None:
    inputs = {"count": 5, "half": 0.5, "list": [UNKNOWN_TEXT, None], "login": SECRET}
    tags = json.dumps({"tags": {"residency-zone": "eu"}})
    read = registered(request(inputs, region="us-east-1", defaultTags=tags))
    assert read.props == {
        "count": 5,
        "half": 0.5,
        "list": [UNKNOWN, None],
        "login": {"password": "opensesame"},
    }
    assert isinstance(read.props["count"], int)
    assert (read.secrets, read.parent, read.outputs) == (frozenset({"login"}), "urn:parent", {})
    assert read.provider is not None
    assert read.provider.props["region"] == "us-east-1"
    assert read.tag("residency-zone") == "eu"


def test_a_resource_of_the_whole_stack_is_read_from_the_wire() -> None:
    sent = wire.AnalyzerResource(urn="urn:a", type=TEMPLATE, name="a", parent="urn:b", dependencies=["urn:c"])
    sent.properties.update({"arn": "arn:a"})
    sent.propertyDependencies["imageId"].urns.append("urn:c")
    read = finished(sent)
    assert (read.outputs, read.props, read.provider) == ({"arn": "arn:a"}, {}, None)
    assert (read.parent, read.dependencies) == ("urn:b", ("urn:c",))
    assert read.property_dependencies == {"imageId": ("urn:c",)}


def test_the_config_is_described_whole() -> None:
    described = schema()
    assert set(described) == set(Config.model_fields)
    assert "$ref" not in json.dumps(described)
    assert not any("default" in node for node in described.values())
    assert described["zones"]["additionalProperties"]["properties"]["countries"]["type"] == "array"


def test_a_level_is_taken_from_the_engine_or_the_document() -> None:
    document = {"rules": {RULE.id: {"level": "advisory"}}}
    taken = settings({"config": (Level.MANDATORY, document), RULE.id: MANDATORY}, {}, [RULE])
    assert taken.level(RULE.id) is Level.ADVISORY
    taken = settings({"config": (Level.MANDATORY, document), RULE.id: (Level.OFF, {})}, {}, [RULE])
    assert taken.level(RULE.id) is Level.OFF
    assert settings({RULE.id: MANDATORY}, {}, [RULE]).level(RULE.id) is Level.MANDATORY


def test_the_zones_are_the_fleets_where_the_pack_has_none() -> None:
    fleet = {FLEET: json.dumps({"zones": {"eu": {"countries": ["DE"]}}})}
    assert settings({}, fleet, [RULE]).zones["eu"].countries == {"DE"}
    own = {"zones": {"us": {"countries": ["US"]}}}
    assert set(settings({"config": (Level.MANDATORY, own)}, fleet, [RULE]).zones) == {"us"}


@pytest.mark.parametrize(
    "fleet", ["", "[]", "{", '{"zones": 5}', '{"zones": {"eu": 1}}', '{"zones": {"eu": {}}}']
)
def test_what_is_wrong_with_the_fleet_is_not_the_packs_to_tell(fleet: str) -> None:
    assert settings({}, {FLEET: fleet}, [RULE]).zones == {}


def test_everything_wrong_with_the_config_is_told_at_once() -> None:
    document = {"zone": "mars", "exceptions": [{"rule": "x", "resource": "a::b", "reason": "Because of it."}]}
    with pytest.raises(ConfigError) as raised:
        settings(
            {
                "config": (Level.MANDATORY, document),
                "tls-listner": (Level.ADVISORY, {}),
                RULE.id: (Level.MANDATORY, {"tokens": "optional"}),
            },
            {},
            [RULE],
        )
    assert [problem.path for problem in raised.value.problems] == [
        f"{RULE.id}.tokens",
        "tls-listner",
        "config.exceptions[0].expires",
    ]


@contextmanager
def serving(*rules: Any) -> Iterator[analyzer_pb2_grpc.AnalyzerStub]:
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    analyzer_pb2_grpc.add_AnalyzerServicer_to_server(Analyzer(rules, TODAY), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield analyzer_pb2_grpc.AnalyzerStub(channel)
    finally:
        server.stop(None).wait()


def test_a_whole_operation() -> None:
    with serving(RULE) as pack:
        pack.Handshake(wire.AnalyzerHandshakeRequest())
        pack.ConfigureStack(wire.AnalyzerStackConfigureRequest(project="p", stack="s", dry_run=True))
        info = pack.GetAnalyzerInfo(empty_pb2.Empty())
        assert [policy.name for policy in info.policies] == [RULE.id, "exception-expired", "config"]
        assert info.policies[0].policy_type == wire.POLICY_TYPE_RESOURCE
        assert info.policies[0].severity == wire.POLICY_SEVERITY_HIGH
        assert pack.GetPluginInfo(empty_pb2.Empty()).version == info.version
        policy = {
            item.name: wire.PolicyConfig(enforcementLevel=item.enforcementLevel) for item in info.policies
        }
        pack.Configure(wire.ConfigureAnalyzerRequest(policyConfig=policy))
        assert not pack.Remediate(request({})).remediations
        (told,) = pack.Analyze(request({"metadataOptions": {"httpTokens": "optional"}})).diagnostics
        assert (told.policyName, told.policyPackName) == (RULE.id, NAME)
        assert told.enforcementLevel == wire.MANDATORY
        assert told.severity == wire.POLICY_SEVERITY_HIGH
        later = {"metadataOptions": {"httpTokens": UNKNOWN_TEXT}}
        assert not pack.Analyze(request(later, "later")).diagnostics
        sent = wire.AnalyzerResource(urn=request({}, "later").urn, type=TEMPLATE, name="later")
        (told,) = pack.AnalyzeStack(wire.AnalyzeStackRequest(resources=[sent])).diagnostics
        assert (told.urn, told.enforcementLevel) == (sent.urn, wire.ADVISORY)
        pack.Cancel(empty_pb2.Empty())


def test_a_wrong_config_ends_the_operation() -> None:
    with serving(RULE) as pack:
        policy = {"config": wire.PolicyConfig(enforcementLevel=wire.MANDATORY)}
        policy["config"].properties.update({"zone": "mars"})
        with pytest.raises(grpc.RpcError) as raised:
            pack.Configure(wire.ConfigureAnalyzerRequest(policyConfig=policy))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "config.zone: found mars; allowed: nothing (there are none)" in raised.value.details()
        with pytest.raises(grpc.RpcError):
            pack.Configure(wire.ConfigureAnalyzerRequest(policyConfig=policy))


def test_without_a_config_the_rules_hold_as_they_are() -> None:
    with serving(RULE) as pack:
        (told,) = pack.Analyze(request({})).diagnostics
        assert told.enforcementLevel == wire.MANDATORY


def test_the_package_tells_where_its_pack_is() -> None:
    asked = [sys.executable, "-m", "mailinfra_policy"]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    assert Path(told.strip()) == PACK
    assert {path.name for path in PACK.iterdir()} >= {"PulumiPolicy.yaml", "__main__.py"}


def test_both_folders_run_the_same_pack() -> None:
    checkout = PACK.parents[1]
    assert (checkout / "__main__.py").read_text() == (PACK / "__main__.py").read_text()
    # They differ in the virtual environment only, which a checkout knows and a package is in.
    own = (checkout / "PulumiPolicy.yaml").read_text().splitlines()
    assert [line for line in own if "virtualenv" not in line] == (
        PACK / "PulumiPolicy.yaml"
    ).read_text().splitlines()


def test_a_secret_is_found_at_any_depth() -> None:
    assert values.secret({"a": [{"b": SECRET}]})
    assert not values.secret({"a": [{"b": "opensesame"}], "c": None})
