"""JSON, for programs and auditors."""

import json
from typing import Any

from mailinfra_policy.formats.outcome import Outcome, expired, urn
from mailinfra_policy.judge import Judged
from mailinfra_policy.rule import Severity


def render(outcome: Outcome) -> str:
    """The outcome as a JSON text that ends with a line break."""
    return json.dumps(content(outcome), indent=2) + "\n"


def content(outcome: Outcome) -> dict[str, Any]:
    """The outcome as plain data."""
    verdict = outcome.verdict
    return {
        "findings": [*map(finding, outcome.findings), *map(_expired, expired(outcome))],
        "judged": verdict.judged,
        "exceptions": outcome.exceptions,
        "not_judged": [
            {"place": gap.place, "reason": gap.reason, "blocking": gap.blocking} for gap in outcome.gaps
        ],
        "rules": [
            {
                "id": rule.id,
                "title": rule.title,
                "severity": rule.severity.value,
                "level": verdict.config.level(rule.id).value,
                "controls": [str(control) for control in rule.controls],
            }
            for rule in verdict.rules
        ],
        "source": outcome.source,
        "date": outcome.today.isoformat(),
        "exit_code": outcome.exit_code,
    }


def finding(item: Judged) -> dict[str, Any]:
    """One finding."""
    resource = item.finding.resource
    source = resource.source if resource else None
    return {
        "rule": item.rule.id,
        "severity": item.rule.severity.value,
        "level": item.level.value,
        "urn": urn(item.finding),
        "type": resource.type if resource else "",
        "name": resource.name if resource else "",
        "path": item.finding.path,
        "found": item.finding.found,
        "allowed": item.finding.allowed,
        "unknown": item.finding.unknown,
        "controls": [str(control) for control in item.rule.controls],
        "mend": item.rule.mend,
        "source": {"file": source.file, "line": source.line} if source else None,
    }


def _expired(item: dict[str, str]) -> dict[str, Any]:
    return {
        "rule": item["rule"],
        "severity": Severity.HIGH.value,
        "level": "mandatory",
        "urn": "",
        "type": "",
        "name": "",
        "path": item["place"],
        "found": item["found"],
        "allowed": item["allowed"],
        "unknown": False,
        "controls": [],
        "mend": f"Mend what the exception accepts, or have it accepted anew ({item['about']}).",
        "source": None,
    }
