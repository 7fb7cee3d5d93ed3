"""JUnit XML: a suite for each rule, a failed case for each finding."""

from xml.etree import ElementTree as xml  # noqa: N813 (written, never read)

from mailinfra_policy.formats.outcome import Outcome, expired, safe
from mailinfra_policy.judge import EXPIRED, Judged

_SUITE = "mailinfra check"


def render(outcome: Outcome) -> str:
    """The outcome as XML; a rule without a finding is one case that passed, an accepted finding is skipped."""
    root = xml.Element("testsuites", name=_SUITE)
    for rule in outcome.verdict.rules:
        found = [item for item in outcome.findings if item.rule.id == rule.id]
        accepted = [item for item in outcome.verdict.accepted if item.rule.id == rule.id]
        suite = xml.SubElement(root, "testsuite", name=rule.id)
        for item in found:
            message = f"found {item.finding.found}; allowed: {item.finding.allowed}"
            _case(suite, rule.id, _name(item), "failure", message, f"{rule.why} {rule.mend}")
        for item in accepted:
            reason = item.accepted.reason if item.accepted else ""
            _case(suite, rule.id, _name(item), "skipped", f"accepted: {reason}", "")
        if not found and not accepted:
            xml.SubElement(suite, "testcase", classname=rule.id, name=rule.title)
    if late := expired(outcome):
        suite = xml.SubElement(root, "testsuite", name=EXPIRED)
        for entry in late:
            message = f"found {entry['found']}; allowed: {entry['allowed']}"
            _case(suite, EXPIRED, entry["place"], "failure", message, entry["about"])
    if gaps := [gap for gap in outcome.gaps if gap.blocking]:
        suite = xml.SubElement(root, "testsuite", name="not-judged")
        for gap in gaps:
            _case(suite, "not-judged", gap.place, "error", gap.reason, "")
    for suite in root:
        _count(suite)
    _count(root)
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _case(suite: xml.Element, rule: str, name: str, kind: str, message: str, text: str) -> None:
    case = xml.SubElement(suite, "testcase", classname=rule, name=safe(name))
    xml.SubElement(case, kind, message=safe(message)).text = safe(text) or None


def _name(item: Judged) -> str:
    resource = item.finding.resource
    place = f"{resource.type}::{resource.name}" if resource else "the stack"
    if resource and resource.source:
        place = f"{resource.source.file}:{resource.source.line}: {place}"
    return f"{place} {item.finding.path}".rstrip()


def _count(element: xml.Element) -> None:
    for attribute, kind in (
        ("tests", "testcase"),
        ("failures", "failure"),
        ("errors", "error"),
        ("skipped", "skipped"),
    ):
        element.set(attribute, str(sum(1 for _ in element.iter(kind))))
