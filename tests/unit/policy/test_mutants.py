"""Mutants: what is spoilt, and what counts as caught."""

from collections.abc import Iterator

from mailinfra_policy import mutants
from mailinfra_policy.expect import one_of
from mailinfra_policy.judge import Judge
from mailinfra_policy.resource import Provider, Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
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
