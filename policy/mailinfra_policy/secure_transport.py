"""Stores that take plain text unless their policy denies it (buckets, queues, topics, file systems of AWS)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mailinfra_policy.policies import (
    Answer,
    Condition,
    PolicyError,
    Statement,
    all_of,
    any_of,
    denied,
    denied_without,
    statements,
)
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Finding, Guard
from mailinfra_policy.values import UNKNOWN, Value, show


@dataclass(frozen=True)
class Store:
    """A kind of store: its types, the types of its policies with the property that names it, an own policy's property.

    `actions` are those that must not be had in plain text; `resources` the resources that they are had on, by ARN.
    """

    types: tuple[str, ...]
    policies: tuple[tuple[str, str], ...]
    inline: str
    actions: tuple[str, ...]
    resources: Callable[[str], tuple[str, ...]] = lambda arn: (arn,)
    arn: Callable[[Resource], Value] = lambda resource: resource.outputs.get("arn", UNKNOWN)

    @property
    def covers(self) -> dict[str, tuple[Guard, ...]]:
        """What a rule on such stores guards."""
        found: dict[str, tuple[Guard, ...]] = dict.fromkeys(self.types, ())
        for token, named in self.policies:
            found[token] = (Guard(""), Guard("policy", wrong=WRONG), Guard(named, wrong=("other",)))
        return found


def _open(**changes: Any) -> dict[str, Any]:
    closed = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}
    plain = {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    return {"Version": "2012-10-17", "Statement": [{**closed, **plain, **changes}]}


WRONG = (
    "{",
    {"Version": "2012-10-17", "Statement": []},
    _open(Effect="Allow"),
    _open(Action="s3:ListBucket"),
    _open(Principal={"AWS": "111122223333"}),
    _open(Condition={"Bool": {"aws:SecureTransport": "true"}}),
    _open(Condition={"Bool": {"aws:SecureTransports": "false"}}),
    _open(Resource="arn:aws:s3:::other"),
)
"""Policies that let plain text in."""

Asked = Callable[[Sequence[Statement], Sequence[str], Sequence[str]], Answer]
"""Whether statements deny what they have to, by actions and resources."""


def plain_denied(found: Sequence[Statement], actions: Sequence[str], resources: Sequence[str]) -> Answer:
    """Whether everyone is denied whatever comes without TLS."""
    return denied_without(found, "aws:SecureTransport", "true", actions, resources)


def older_denied(least: str) -> Asked:
    """Whether everyone is denied whatever comes with a TLS version below `least` (S3 alone can tell)."""

    def holds(condition: Condition) -> Answer:
        if "*" in {condition.operator, condition.key}:
            return UNKNOWN
        if condition.quantifier or (condition.operator, condition.key) != (
            "numericlessthan",
            "s3:tlsversion",
        ):
            return False
        return any_of(
            UNKNOWN if value is UNKNOWN else _number(value) >= float(least) for value in condition.values
        )

    return lambda found, actions, resources: denied(found, actions, resources, holds)


def _number(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0


def undenied(
    policy: Resource, stack: Stack, store: Store, asked: Sequence[tuple[Asked, str]]
) -> Iterator[Finding]:
    """What a store's own policy, or a policy of a store of this stack, does not deny; each with its text for the
    message. It is decided before the policy takes effect."""
    if policy.type in store.types:
        if store.inline and policy.get(store.inline) is not None:
            yield from _judged(policy, store.inline, store, store.arn(policy), asked)
        return
    for token, named in store.policies:
        if policy.type == token:
            for resource in stack.referred(policy, named, *store.types):
                yield from _judged(policy, "policy", store, store.arn(resource), asked)


def without_policy(stack: Stack, store: Store, asked: Sequence[tuple[Asked, str]]) -> Iterator[Finding]:
    """Every store of a kind that has no policy at all."""
    for resource in stack.of(*store.types):
        own = store.inline and resource.get(store.inline) is not None
        if not own and not any(stack.referring(resource, named, token) for token, named in store.policies):
            allowed = "a policy that denies everyone " + " and ".join(text for _, text in asked)
            yield Finding(resource, "", "no policy", allowed)


def _judged(
    policy: Resource, path: str, store: Store, arn: Value, asked: Sequence[tuple[Asked, str]]
) -> Iterator[Finding]:
    try:
        found = statements(policy.get(path))
    except PolicyError as error:
        yield Finding(policy, path, str(error), "a policy document")
        return
    missing, open_ = [], []
    for question, text in asked:
        answer = _answer(question, found, store, arn)
        if answer is UNKNOWN:
            open_.append(text)
        elif not answer:
            missing.append(text)
    if missing:
        yield Finding(
            policy,
            path,
            f"does not deny everyone {' or '.join(missing)}",
            f"a denial of {', '.join(store.actions)}",
        )
    elif open_:
        yield Finding(policy, path, show(UNKNOWN), f"a denial of {' and '.join(open_)}", unknown=True)


def _answer(question: Asked, found: Sequence[Statement], store: Store, arn: Value) -> Answer:
    if isinstance(arn, str):
        return question(found, store.actions, store.resources(arn))
    # Its name is not known yet: a denial for every resource is one for this one too.
    whole = question(found, store.actions, ("*",))
    return True if whole is True else UNKNOWN if any_of(_may(statement) for statement in found) else False


def _may(statement: Statement) -> bool:
    """Whether a statement might turn out to be the denial."""
    answer = all_of((statement.denies, statement.everyone))
    return answer is UNKNOWN or bool(answer)
