"""Mutants: what is spoilt, and what counts as caught."""

from collections.abc import Iterator
from dataclasses import replace

from mailinfra_policy import config, mutants
from mailinfra_policy.expect import one_of
from mailinfra_policy.judge import Judge
from mailinfra_policy.mutants import Fate, Trial
from mailinfra_policy.resource import Provider, Resource, Stack
from mailinfra_policy.rule import PROTECT, Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import TODAY, resource, settings

QUEUE = "aws:sqs/queue:Queue"


def rule(*guards: Guard, found: str = "region", blind: bool = False) -> Rule:
    """A rule that wants every queue in Frankfurt, by its own input or its provider's; `found` is the path it names."""

    def judge(item: Resource, _: Context) -> Iterator[Finding]:
        own = item.get("region")
        region = own if own is not None or item.provider is None else item.provider.props.get("region")
        if not blind and (region is UNKNOWN or region != "eu-central-1"):
            yield Finding(item, found, str(region), "Frankfurt")

    return Rule("x", "x", Severity.LOW, "x", "x", (Control(Framework.SOC2, "CC6.1"),), {QUEUE: guards}, judge)


def changes(stack: Stack, made: Rule) -> list[str]:
    return [mutant.change for mutant in mutants.mutants(stack, [made])]


MOVED = Guard("region", wrong=("sa-east-1",), provider="region")


def test_what_the_provider_says_is_spoilt_at_the_provider() -> None:
    stack = Stack([resource(QUEUE, "a"), resource(QUEUE, "b", outputs={"arn": "x"})])
    found = [*mutants.mutants(stack, [rule(MOVED)])]
    assert [mutant.change for mutant in found if mutant.resource.name == "a"] == [
        "with the provider's region taken away",
        "with the provider's region made unknown",
        'with the provider\'s region set to "sa-east-1"',
    ]
    moved = found[-1].stack.find(found[-1].resource.urn)
    assert moved and moved.provider and moved.provider.props["region"] == "sa-east-1"
    assert (moved.id, moved.outputs, moved.props) == (None, {}, {})
    # The other queue and the stack that was spoilt stay as they are.
    other = found[-1].stack.of(QUEUE)[0]
    assert other.provider and other.provider.props["region"] == "eu-central-1"
    assert mutants.survivors(stack, Judge([rule(MOVED)], settings(), TODAY)) == (6, [])


def test_a_provider_that_does_not_count_is_left_alone() -> None:
    own = resource(QUEUE, "a", {"region": "eu-central-1"})
    silent = resource(QUEUE, "b", provider=Provider("pulumi:providers:aws"))
    none = resource(QUEUE, "c", provider=None)
    assert changes(Stack([own, silent, none]), rule(MOVED)) == []


def test_a_blind_rule_lets_them_all_through() -> None:
    count, alive = mutants.survivors(
        Stack([resource(QUEUE)]), Judge([rule(MOVED, blind=True)], settings(), TODAY)
    )
    assert (count, len(alive)) == (3, 3)


def test_the_right_property_has_to_be_named() -> None:
    for guard, named, survive in (
        (Guard("region", wrong=("x",)), "region", 0),
        (Guard("region", wrong=("x",)), "tags", 2),
        (Guard("region", wrong=("x",), elsewhere=True), "tags", 0),
    ):
        stack = Stack([resource(QUEUE, "q", {"region": "eu-central-1"}, provider=None)])
        made = rule(Guard(guard.path, guard.wrong, needed=False, elsewhere=guard.elsewhere), found=named)
        count, alive = mutants.survivors(stack, Judge([made], settings(), TODAY))
        assert (count, len(alive)) == (2, survive)


def test_a_function_may_leave_a_value_alone() -> None:
    made = rule(Guard("name", wrong=(lambda value: value,), needed=False, opaque=True))
    assert changes(Stack([resource(QUEUE, "q", {"name": "n"})]), made) == []


def test_one_of_is_exact() -> None:
    item = resource(QUEUE, "q", {"region": "eu-central-1 "})
    assert len([*one_of(item, "region", ("eu-central-1",))]) == 1


def test_a_protection_taken_off_has_to_be_found() -> None:
    def judge(item: Resource, _: Context) -> Iterator[Finding]:
        if not item.protect:
            yield Finding(item, "", "unprotected", "protect=True")

    control = (Control(Framework.SOC2, "CC6.1"),)
    made = Rule("x", "x", Severity.LOW, "x", "x", control, {QUEUE: (Guard(PROTECT),)}, judge)
    stack = Stack([resource(QUEUE, "a", protect=True), resource(QUEUE, "b", protect=True)])
    assert changes(stack, made) == ["no longer protected"] * 2
    assert mutants.survivors(stack, Judge([made], settings(), TODAY)) == (2, [])


def test_a_mutant_of_what_an_exception_accepts_proves_nothing() -> None:
    made = rule(Guard("region", wrong=("x",), needed=False, opaque=True))
    stack = Stack(
        [resource(QUEUE, "a", {"region": "sa-east-1"}), resource(QUEUE, "b", {"region": "eu-central-1"})]
    )
    accepted = {"rule": "x", "resource": f"{QUEUE}::a", "reason": "kept where it is", "expires": "2027-01-01"}
    conf = config.load({"exceptions": [accepted]}, frozenset({"x"}))
    for settled, fates in ((conf, [Fate.EXCEPTED, Fate.CAUGHT]), (settings(), [Fate.SURVIVED, Fate.CAUGHT])):
        trial = Trial(stack, Judge([made], settled, TODAY))
        assert [trial.fate(mutant) for mutant in mutants.mutants(stack, [made])] == fates
        assert [item.finding.resource and item.finding.resource.name for item in trial.findings] == (
            [] if settled is conf else ["a"]
        )


def test_a_spoilt_stack_is_the_stack_with_one_resource_changed() -> None:
    first, key = resource(QUEUE, "a", {"kmsMasterKeyId": "k-id"}), resource("aws:kms/key:Key", "k")
    stack = Stack([first, key, resource(QUEUE, "b")])
    types = ("aws:kms/key:Key",)
    assert stack.referred(first, "kmsMasterKeyId", *types) == [key]
    other = mutants.spoil(first, "kmsMasterKeyId", "elsewhere")
    spoilt = stack.altered(other)
    assert spoilt.resources == [other, *stack.resources[1:]] and spoilt.of(QUEUE)[0] is other
    assert spoilt.referred(other, "kmsMasterKeyId", *types) == []
    renamed = stack.altered(replace(key, id="elsewhere"))
    assert renamed.referred(first, "kmsMasterKeyId", *types) == []
    assert [item.name for item in renamed.referred(other, "kmsMasterKeyId", *types)] == ["k"]
    gone = stack.without(key)
    assert gone.find(key.urn) is None and gone.of(*types) == [] and len(gone.resources) == 2
    assert gone.referred(first, "kmsMasterKeyId", *types) == []
    # The stack itself stays as it was.
    assert stack.referred(first, "kmsMasterKeyId", *types) == [key] and stack.named("elsewhere") == []
    assert len(stack.resources) == 3 and first.get("kmsMasterKeyId") == "k-id"
