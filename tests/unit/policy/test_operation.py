"""One operation: what is said when, in a preview and in an update."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from mailinfra_policy.config import Level
from mailinfra_policy.judge import EXPIRED, Judge
from mailinfra_policy.operation import Operation, Report
from mailinfra_policy.resource import Provider, Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.rules.exposure_metadata_tokens import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import TODAY, resource, settings

TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
KEY, BUCKET = "aws:kms/key:Key", "aws:s3/bucket:Bucket"
PATH = "metadataOptions.httpTokens"


def template(tokens: Any, hops: Any = 1) -> Resource:
    options = {"httpTokens": tokens, "httpPutResponseHopLimit": hops}
    return replace(resource(TEMPLATE, "node"), props={"metadataOptions": options}, id=None)


def rule(name: str, **how: Any) -> Rule:
    covers = {BUCKET: (Guard("bucket"),)}
    controls = (Control(Framework.SOC2, "CC6.1"),)
    return Rule(name, name, Severity.LOW, "why", "mend", controls, covers, **how)


def encrypted(of: Resource, context: Context) -> Iterator[Finding]:
    """The bucket names a key of the stack (any input will do for a test)."""
    if not context.stack.referred(of, "bucket", KEY):
        yield Finding(of, "bucket", "no key", "a key")


def bucket(value: Any) -> Resource:
    return replace(resource(BUCKET, "mail"), props={"bucket": value}, id=None)


KEYED = replace(resource(KEY, "key"), id=None)
FINISHED_KEY = replace(KEYED, outputs={"arn": "arn:key", "id": "1234"})


def operation(*rules: Rule, preview: bool, today: date = TODAY, **config: Any) -> Operation:
    return Operation(Judge(rules, settings(**config), today), preview)


def finished(of: Resource, **more: Any) -> Resource:
    return replace(of, props={}, **{"outputs": of.props, **more})


def gist(reports: list[Report]) -> list[tuple[str, Level, str]]:
    """Rule, level, and the place and what was found there."""
    return [(item.rule, item.level, item.message.splitlines()[1].split(";")[0]) for item in reports]


def test_a_wrong_value_is_told_at_once_and_once() -> None:
    for preview in (True, False):
        run = operation(RULE, preview=preview)
        node = template("optional")
        assert gist(run.registered(node)) == [(RULE.id, Level.MANDATORY, f'{PATH}: found "optional"')]
        assert run.finished([finished(node)]) == []


def test_an_unknown_value_is_a_note_at_the_end_of_a_preview() -> None:
    run = operation(RULE, preview=True)
    node = template(UNKNOWN)
    assert run.registered(node) == []
    (report,) = run.finished([finished(node)])
    assert (report.level, report.urn) == (Level.ADVISORY, node.urn)
    assert "decides before this resource is made" in report.message


def test_an_unknown_value_is_a_violation_where_the_config_says_so() -> None:
    run = operation(RULE, preview=True, unknown="violation")
    node = template(UNKNOWN)
    run.registered(node)
    assert [report.level for report in run.finished([finished(node)])] == [Level.MANDATORY]


def test_what_is_unknown_in_an_update_is_a_violation_before_it_is_made() -> None:
    (report,) = operation(RULE, preview=False).registered(template(UNKNOWN))
    assert report.level is Level.MANDATORY


def test_what_a_stack_rule_does_not_know_is_a_violation_in_a_preview_too() -> None:
    def judge(context: Context) -> Iterator[Finding]:
        yield Finding(None, "", "not known", "known", unknown=True)

    (report,) = operation(rule("whole", judge_stack=judge), preview=True).finished([])
    assert (report.level, report.urn) == (Level.MANDATORY, "")


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize(("made_from", "told"), [((KEYED.urn,), False), ((), True)])
def test_a_reference_in_a_preview_is_followed_at_the_end(
    preview: bool, made_from: tuple[str, ...], told: bool
) -> None:
    """In an update its value is known, in a preview what it was made from; before the end, neither tells anything."""
    value = UNKNOWN if preview else "arn:key" if made_from else "arn:other"
    run = operation(rule("encrypted", judge=encrypted), preview=preview)
    mail = bucket(value)
    assert run.registered(KEYED) == run.registered(mail) == []
    key = finished(KEYED, outputs={"arn": UNKNOWN} if preview else {"arn": "arn:key"})
    reports = run.finished([finished(mail, property_dependencies={"bucket": made_from}), key])
    assert gist(reports) == ([("encrypted", Level.MANDATORY, "bucket: found no key")] if told else [])


def test_a_reference_that_nothing_can_be_meant_by_is_decided_at_once() -> None:
    """What an input was made from was registered before it: here there is no key."""
    run = operation(rule("encrypted", judge=encrypted), preview=False)
    assert gist(run.registered(bucket("arn:key"))) == [("encrypted", Level.MANDATORY, "bucket: found no key")]


def test_a_known_name_is_followed_at_once() -> None:
    run = operation(rule("encrypted", judge=encrypted), preview=True)
    run.registered(replace(KEYED, props={"name": "mail-key"}))
    mail = bucket("mail-key")
    assert run.registered(mail) == run.finished([finished(mail), FINISHED_KEY]) == []


def test_a_look_up_is_referred_to_and_not_judged() -> None:
    run = operation(RULE, rule("encrypted", judge=encrypted), preview=False)
    mail = bucket("arn:key")
    looked_up = finished(template("optional"))
    # Another key of the stack may be meant until the end.
    run.registered(replace(KEYED, urn=KEYED.urn + "2"))
    assert run.registered(mail) == []
    assert run.finished([finished(mail), FINISHED_KEY, looked_up]) == []


def test_a_rule_that_raises_names_itself_and_the_resource() -> None:
    def judge(of: Resource, context: Context) -> Iterator[Finding]:
        raise KeyError("forgotten")

    (report,) = operation(rule("broken", judge=judge), preview=True).registered(bucket("b"))
    assert (report.rule, report.level) == ("broken", Level.MANDATORY)
    assert "the rule itself failed (KeyError: 'forgotten')" in report.message


def test_a_secret_is_not_told() -> None:
    def judge(of: Resource, context: Context) -> Iterator[Finding]:
        yield Finding(of, "bucket", of.get("bucket"), "another name")
        raise ValueError(of.get("bucket"))

    hidden = replace(bucket("opensesame"), secrets=frozenset({"bucket"}))
    reports = operation(rule("loud", judge=judge), preview=True).registered(hidden)
    assert len(reports) == 2
    assert "bucket: found a secret; allowed: another name" in reports[0].message
    assert "opensesame" not in str(reports)


def test_an_advisory_rule_stays_one() -> None:
    run = operation(RULE, preview=True, unknown="violation", rules={RULE.id: {"level": "advisory"}})
    assert [item.level for item in run.registered(template("optional", UNKNOWN))] == [Level.ADVISORY]


def excused(expires: str) -> dict[str, Any]:
    return {
        "exceptions": [
            {"rule": RULE.id, "resource": f"{TEMPLATE}::*", "reason": "An old agent.", "expires": expires}
        ]
    }


def test_an_exception_in_force_is_silent() -> None:
    run = operation(RULE, preview=False, **excused("2026-11-23"))
    node = template("optional")
    assert run.registered(node) == run.finished([finished(node)]) == []


def test_an_expired_exception_is_told_before_anything_is_made() -> None:
    run = operation(RULE, preview=False, **excused("2026-11-22"))
    (report,) = run.registered(resource("pulumi:pulumi:Stack"))
    assert (report.rule, report.level, report.urn) == (EXPIRED, Level.MANDATORY, "")
    assert "found 2026-11-22; allowed: 2026-11-23 or later" in report.message
    node = template("optional")
    assert [item.rule for item in run.registered(node)] == [RULE.id]
    assert run.finished([finished(node)]) == []


def test_an_expired_exception_is_told_where_nothing_is_registered() -> None:
    run = operation(RULE, preview=True, **excused("2020-01-01"))
    assert [item.rule for item in run.finished([])] == [EXPIRED]


def test_a_resource_registered_again_is_judged_by_its_last_inputs() -> None:
    run = operation(RULE, preview=False)
    assert len(run.registered(template("optional"))) == 1
    node = template("required")
    assert run.registered(node) == run.finished([finished(node)]) == []


def test_the_nested_settings_of_a_provider_are_json() -> None:
    declared = Provider.declared(
        "pulumi:providers:aws",
        {"region": "eu-central-1", "defaultTags": '{"tags":{"residency-zone":"eu"}}', "odd": "{no json"},
        "p",
    )
    assert declared.props["odd"] == "{no json"
    assert replace(bucket("b"), provider=declared).tag("residency-zone") == "eu"


def test_a_name_is_its_owners_not_that_of_those_who_carry_it() -> None:
    thing = "aws:s3/bucketObject:BucketObject"
    objects = [resource(thing, name, {"bucket": "mail", "key": name}) for name in ("a", "b")]
    owner = resource(BUCKET, "mail", {"bucket": "mail"})
    assert Stack([*objects, owner]).referred(objects[0], "bucket") == [owner]
    assert Stack(objects).referred(objects[0], "bucket") == []
    assert Stack(objects).referred(objects[0], "bucket", thing) == [objects[1]]


def test_a_value_that_no_output_tells_is_followed_by_what_it_was_made_from() -> None:
    """The engine tells no ids at the end."""
    run = operation(rule("encrypted", judge=encrypted), preview=False)
    mail = bucket("1234")
    assert run.registered(KEYED) == run.registered(mail) == []
    key = finished(KEYED, outputs={})
    assert run.finished([finished(mail, property_dependencies={"bucket": (KEYED.urn,)}), key]) == []
