"""SARIF 2.1.0, for code scanners: https://docs.oasis-open.org/sarif/sarif/v2.1.0/."""

import hashlib
import json
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from mailinfra_policy.config import Level
from mailinfra_policy.formats.outcome import Outcome, expired, urn
from mailinfra_policy.judge import EXPIRED, Judged
from mailinfra_policy.rule import Framework, Rule, Severity

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
}
# GitHub's bands: critical above 9, high from 7, medium from 4.
_SCORES = {Severity.CRITICAL: "9.5", Severity.HIGH: "8.0", Severity.MEDIUM: "5.0", Severity.LOW: "2.0"}
_TEXTS = {
    Framework.GDPR: "https://eur-lex.europa.eu/eli/reg/2016/679/oj",
    Framework.SOC2: "https://www.aicpa-cima.com/resources/download/2017-trust-services-criteria-with-revised-points-of-focus-2022",
    Framework.ISO27001: "https://www.iso.org/standard/27001",
    Framework.NIST: "https://doi.org/10.6028/NIST.SP.800-177r1",
}
"""Where the text of a rule's first control is."""


def render(outcome: Outcome) -> str:
    """The outcome as a SARIF log. What an exception accepts is there too, suppressed."""
    rules = [_rule(rule, outcome) for rule in outcome.verdict.rules]
    results = [_result(item, outcome) for item in (*outcome.findings, *outcome.verdict.accepted)]
    late = expired(outcome)
    if late:
        rules.append(
            {
                "id": EXPIRED,
                "shortDescription": {"text": "An exception is past its day"},
                "defaultConfiguration": {"level": "error"},
            }
        )
    for entry in late:
        message = f"{entry['place']}: found {entry['found']}; allowed: {entry['allowed']} ({entry['about']})"
        results.append(
            {
                "ruleId": EXPIRED,
                "level": "error",
                "message": {"text": message},
                "locations": [{"physicalLocation": _physical(outcome.home, 1)}],
                "partialFingerprints": {"finding/v1": _print(EXPIRED, entry["about"])},
            }
        )
    indices = {rule["id"]: index for index, rule in enumerate(rules)}
    for result in results:
        result["ruleIndex"] = indices[result["ruleId"]]
    run = {
        "tool": {
            "driver": {
                "name": "mailinfra",
                "semanticVersion": metadata.version("mailinfra"),
                "rules": rules,
            }
        },
        "invocations": [
            {
                "executionSuccessful": outcome.exit_code != 2,
                "exitCode": outcome.exit_code,
                "toolExecutionNotifications": [
                    {
                        "level": "error" if gap.blocking else "note",
                        "message": {"text": f"not judged: {gap.place}: {gap.reason}"},
                    }
                    for gap in outcome.gaps
                ],
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(rule: Rule, outcome: Outcome) -> dict[str, Any]:
    controls = ", ".join(map(str, rule.controls))
    name = "".join(part.capitalize() for part in rule.id.split("-"))
    level = outcome.verdict.config.level(rule.id)
    return {
        "id": rule.id,
        "name": name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {
            "text": f"{rule.why}\n{rule.mend}\n{controls}",
            "markdown": f"{rule.why}\n\n**Mend:** {rule.mend}\n\n{controls}",
        },
        "helpUri": _TEXTS[rule.controls[0].framework],
        "defaultConfiguration": {
            "enabled": level is not Level.OFF,
            "level": "note" if level is Level.ADVISORY else _LEVELS[rule.severity],
        },
        "properties": {
            "tags": ["security", rule.id.split("-")[0], *map(str, rule.controls)],
            "security-severity": _SCORES[rule.severity],
        },
    }


def _result(item: Judged, outcome: Outcome) -> dict[str, Any]:
    finding, resource = item.finding, item.finding.resource
    place = f"{resource.type}::{resource.name}" if resource else "the stack"
    source = resource.source if resource else None
    result: dict[str, Any] = {
        "ruleId": item.rule.id,
        "level": "note" if item.level is Level.ADVISORY else _LEVELS[item.rule.severity],
        "message": {
            "text": f"{place} {finding.path}".rstrip()
            + f": found {finding.found}; allowed: {finding.allowed}"
        },
        "locations": [
            {
                "physicalLocation": _physical(source.file, source.line)
                if source
                else _physical(outcome.home, 1),
                "logicalLocations": [
                    {
                        "name": resource.name if resource else outcome.source,
                        "fullyQualifiedName": f"{urn(finding)}#{finding.path}",
                        "kind": "resource",
                    }
                ],
            }
        ],
        "partialFingerprints": {"finding/v1": _print(item.rule.id, urn(finding), finding.path)},
        "properties": {
            "urn": urn(finding),
            "path": finding.path,
            "found": finding.found,
            "allowed": finding.allowed,
            "unknown": finding.unknown,
        },
    }
    if item.accepted:
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": item.accepted.reason}
        ]
    return result


def _physical(file: str, line: int) -> dict[str, Any]:
    path = PurePath(file)
    if path.is_absolute():
        artifact = {"uri": Path(file).as_uri()}
    else:
        artifact = {"uri": quote(path.as_posix()), "uriBaseId": "%SRCROOT%"}
    return {"artifactLocation": artifact, "region": {"startLine": line}}


def _print(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
