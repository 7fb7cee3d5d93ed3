"""The pack as the engine talks to it: a server of the Analyzer protocol.

Pulumi's own library (`pulumi_policy`) is not used, because it makes a mandatory rule an advisory one where a value is
not known, and reads every resource's properties anew for every policy (docs/adr/0006-analyzer.md).
"""
# ruff: noqa: N802 (the methods' names are the protocol's)

import json
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import version
from threading import Lock
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import analyzer_pb2 as wire
from pulumi.runtime.proto import analyzer_pb2_grpc, plugin_pb2

from mailinfra.errors import ConfigError, Problem
from mailinfra_policy import config as conf
from mailinfra_policy.config import Config, Level
from mailinfra_policy.judge import EXPIRED, Judge
from mailinfra_policy.operation import EXPIRED_TITLE, Operation, Report
from mailinfra_policy.resource import Provider, Resource
from mailinfra_policy.rule import Rule, Severity
from mailinfra_policy.rules import all_rules
from mailinfra_policy.values import Value, plain, secret

NAME = "mailinfra"
"""The pack's name."""
CONFIG = "config"
"""The policy that carries the pack's config document."""
FLEET = "mailinfra:fleet"
"""The key of a stack's config whose zones the pack takes where its own config has none."""

_LEVELS = {
    wire.ADVISORY: Level.ADVISORY,
    wire.DISABLED: Level.OFF,
    wire.MANDATORY: Level.MANDATORY,
    wire.REMEDIATE: Level.MANDATORY,
}
_ENFORCED = {Level.ADVISORY: wire.ADVISORY, Level.MANDATORY: wire.MANDATORY}
_SEVERITIES = {
    Severity.LOW: wire.POLICY_SEVERITY_LOW,
    Severity.MEDIUM: wire.POLICY_SEVERITY_MEDIUM,
    Severity.HIGH: wire.POLICY_SEVERITY_HIGH,
    Severity.CRITICAL: wire.POLICY_SEVERITY_CRITICAL,
}
# Resources can be large, and the whole stack comes as one message.
_MESSAGE_BYTES = 400 * 1024 * 1024


def schema() -> dict[str, Any]:
    """The JSON schema of each property of the config document, complete in itself, for the engine's own check."""
    whole = Config.model_json_schema()
    parts = whole.get("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inlined(parts[node["$ref"].rsplit("/", 1)[1]])
        return {key: inlined(value) for key, value in node.items()}

    # A default at this level would reach us as if the user had written it.
    return {
        name: {key: value for key, value in inlined(node).items() if key != "default"}
        for name, node in whole["properties"].items()
    }


def settings(
    policies: Mapping[str, tuple[Level, Mapping[str, Any]]],
    stack_config: Mapping[str, str],
    rules: Iterable[Rule],
) -> Config:
    """The pack's config from what the engine hands over: a level and properties for each policy.

    A policy's own level wins over the document's where it is not the default. Raises `ConfigError`.
    """
    ids = frozenset(rule.id for rule in rules)
    problems = []
    for name, (_, properties) in sorted(policies.items()):
        if name not in ids | {CONFIG, EXPIRED, "all"}:
            problems.append(
                Problem(name, name, f"{CONFIG}, {EXPIRED}, all, or a rule: {', '.join(sorted(ids))}")
            )
        elif name != CONFIG:
            problems += [Problem(f"{name}.{key}", key, "enforcementLevel") for key in sorted(properties)]
    document = dict(policies[CONFIG][1]) if CONFIG in policies else {}
    if not document.get("zones"):
        document["zones"] = _fleet_zones(stack_config)
    try:
        config = conf.load(document, ids)
    except ConfigError as error:
        # The engine's own messages name the policy first.
        problems += [Problem(f"{CONFIG}.{item.path}", item.found, item.allowed) for item in error.problems]
    if problems:
        raise ConfigError(problems, conf.WHAT)
    chosen = {
        name: config.rules.get(name, conf.RuleConfig()).model_copy(update={"level": level})
        for name, (level, _) in policies.items()
        if name in ids and level is not Level.MANDATORY
    }
    return config.model_copy(update={"rules": {**config.rules, **chosen}})


def _fleet_zones(stack_config: Mapping[str, str]) -> Mapping[str, Any]:
    """The zones of the fleet that the stack's config declares. What is wrong with it is the program's to tell."""
    try:
        zones = json.loads(stack_config.get(FLEET, "{}"))["zones"]
        return {name: {"countries": zone["countries"]} for name, zone in zones.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def registered(request: wire.AnalyzeRequest) -> Resource:
    """A resource as it is about to be made: its inputs and no outputs."""
    inputs = json_format.MessageToDict(request.properties)
    return Resource(
        urn=request.urn,
        type=request.type,
        name=request.name,
        props=plain(inputs),
        secrets=frozenset(name for name, value in inputs.items() if secret(value)),
        provider=_provider(request),
        parent=request.options.parent,
        protect=request.options.protect,
    )


def finished(resource: wire.AnalyzerResource) -> Resource:
    """A resource as the finished stack holds it: its outputs, and what it was made from, but not its inputs."""
    return Resource(
        urn=resource.urn,
        type=resource.type,
        name=resource.name,
        props={},
        outputs=_properties(resource.properties),
        provider=_provider(resource),
        parent=resource.parent,
        dependencies=tuple(resource.dependencies),
        property_dependencies={key: tuple(made.urns) for key, made in resource.propertyDependencies.items()},
        protect=resource.options.protect,
    )


def _provider(of: wire.AnalyzeRequest | wire.AnalyzerResource) -> Provider | None:
    if not of.HasField("provider"):
        return None
    return Provider.declared(of.provider.type, _properties(of.provider.properties), of.provider.name)


def _properties(struct: struct_pb2.Struct) -> dict[str, Value]:
    found: dict[str, Value] = plain(json_format.MessageToDict(struct))
    return found


def _ordered(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same with its keys in order: on the wire they have none, and a message shall not depend on chance."""
    found: dict[str, Any] = json.loads(json.dumps(document, sort_keys=True))
    return found


class Analyzer(analyzer_pb2_grpc.AnalyzerServicer):
    """The rules as one policy pack, for one preview or update."""

    def __init__(self, rules: Iterable[Rule], today: date) -> None:
        self._rules = tuple(rules)
        self._today = today
        self._stack = wire.AnalyzerStackConfigureRequest()
        self._operation: Operation | None = None
        # The engine asks one thing after the other, but does not promise to.
        self._lock = Lock()

    def Handshake(
        self, request: wire.AnalyzerHandshakeRequest, context: grpc.ServicerContext
    ) -> wire.AnalyzerHandshakeResponse:
        """Nothing to agree on."""
        return wire.AnalyzerHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        """The package's version."""
        return plugin_pb2.PluginInfo(version=version(NAME))

    def GetAnalyzerInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> wire.AnalyzerInfo:
        """The rules, the config's schema, and the check of the exceptions."""
        info = wire.AnalyzerInfo(
            name=NAME,
            displayName="Mail infrastructure",
            description="Residency, TLS, keys, backups, mail DNS, exposure and traces on AWS, GCP and Cloudflare",
            version=version(NAME),
            supportsConfig=True,
            policies=[_info(rule) for rule in self._rules],
        )
        expired = info.policies.add(
            name=EXPIRED,
            displayName=EXPIRED_TITLE,
            description="Accepted violations are accepted until a day.",
        )
        expired.enforcementLevel = wire.MANDATORY
        expired.severity = wire.POLICY_SEVERITY_HIGH
        config = info.policies.add(
            name=CONFIG, displayName="Config", description="What all rules are judged by."
        )
        config.enforcementLevel = wire.MANDATORY
        config.configSchema.properties.update(schema())
        return info

    def ConfigureStack(
        self, request: wire.AnalyzerStackConfigureRequest, context: grpc.ServicerContext
    ) -> wire.AnalyzerStackConfigureResponse:
        """Take in the stack: whether this is a preview, and its config."""
        self._stack = request
        return wire.AnalyzerStackConfigureResponse()

    def Configure(
        self, request: wire.ConfigureAnalyzerRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        """Take in the pack's config; a wrong one ends the operation before any resource is judged."""
        policies = {
            name: (_LEVELS[policy.enforcementLevel], _ordered(json_format.MessageToDict(policy.properties)))
            for name, policy in request.policyConfig.items()
        }
        try:
            self._begin(policies)
        except ConfigError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return empty_pb2.Empty()

    def Analyze(self, request: wire.AnalyzeRequest, context: grpc.ServicerContext) -> wire.AnalyzeResponse:
        """Judge a resource before it is made."""
        with self._lock:
            return _response(self._running().registered(registered(request)))

    def AnalyzeStack(
        self, request: wire.AnalyzeStackRequest, context: grpc.ServicerContext
    ) -> wire.AnalyzeResponse:
        """Judge the stack as a whole."""
        with self._lock:
            return _response(self._running().finished(map(finished, request.resources)))

    def Remediate(
        self, request: wire.AnalyzeRequest, context: grpc.ServicerContext
    ) -> wire.RemediateResponse:
        """Nothing: the pack changes no resource."""
        return wire.RemediateResponse()

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """Nothing: no call takes long."""
        return empty_pb2.Empty()

    def _begin(self, policies: Mapping[str, tuple[Level, Mapping[str, Any]]]) -> Operation:
        config = settings(policies, self._stack.config, self._rules)
        expired = policies[EXPIRED][0] if EXPIRED in policies else Level.MANDATORY
        self._operation = Operation(Judge(self._rules, config, self._today), self._stack.dry_run, expired)
        return self._operation

    def _running(self) -> Operation:
        return self._operation or self._begin({})


def _info(rule: Rule) -> wire.PolicyInfo:
    return wire.PolicyInfo(
        name=rule.id,
        displayName=rule.title,
        description=rule.why,
        enforcementLevel=wire.MANDATORY,
        policy_type=wire.POLICY_TYPE_RESOURCE if rule.judge else wire.POLICY_TYPE_STACK,
        severity=_SEVERITIES[rule.severity],
        tags=[str(control) for control in rule.controls],
        remediation_steps=rule.mend,
    )


def _response(reports: Iterable[Report]) -> wire.AnalyzeResponse:
    return wire.AnalyzeResponse(
        diagnostics=[
            wire.AnalyzeDiagnostic(
                policyName=report.rule,
                policyPackName=NAME,
                policyPackVersion=version(NAME),
                description=report.title,
                message=report.message,
                enforcementLevel=_ENFORCED[report.level],
                severity=_SEVERITIES[report.severity],
                urn=report.urn,
            )
            for report in reports
        ]
    )


def serve(rules: Iterable[Rule] | None = None) -> None:
    """Serve the pack (or one of some rules) on a loopback port, told on standard output, until the engine ends us."""
    server = grpc.server(
        ThreadPoolExecutor(max_workers=4), options=[("grpc.max_receive_message_length", _MESSAGE_BYTES)]
    )
    analyzer_pb2_grpc.add_AnalyzerServicer_to_server(
        Analyzer(all_rules() if rules is None else rules, date.today()), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    server.wait_for_termination()
