"""AWS policy documents (IAM, bucket, key, queue, topic policies) as rules ask about them.

Answers are `bool` or `UNKNOWN`, and `UNKNOWN` cannot be used as a condition by accident (its truth raises). What is
not known anywhere in a statement makes the answers that hang on it `UNKNOWN`; what only *may* hold (NotAction,
NotPrincipal, conditions) is read against the resource: as wide where it allows, as narrow where it denies.

Source: the grammar of the IAM JSON policy language,
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from mailinfra_policy import values
from mailinfra_policy.values import UNKNOWN, Unknown, Value

Answer = bool | Unknown
"""Yes, no, or not known before the update."""

_ELEMENTS = {
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
}


class PolicyError(ValueError):
    """A text that is no policy document: it says where and what was found."""


def any_of(answers: Iterable[Answer]) -> Answer:
    """Whether one of some answers is yes; `UNKNOWN` where that hangs on one that is not known."""
    open_ = False
    for answer in answers:
        if answer is UNKNOWN:
            open_ = True
        elif answer:
            return True
    return UNKNOWN if open_ else False


def all_of(answers: Iterable[Answer]) -> Answer:
    """Whether all of some answers are yes; `UNKNOWN` where that hangs on one that is not known."""
    open_ = False
    for answer in answers:
        if answer is UNKNOWN:
            open_ = True
        elif not answer:
            return False
    return UNKNOWN if open_ else True


def negated(answer: Answer) -> Answer:
    """The contrary; what is not known stays so."""
    return UNKNOWN if answer is UNKNOWN else not answer


@dataclass(frozen=True)
class Names:
    """A set of actions, resources or principals: patterns with `*` and `?`, or (`excluded`) all but those.

    `unknown`: there may be more patterns than these.
    """

    patterns: tuple[str, ...] = ()
    excluded: bool = False
    unknown: bool = False
    folded: bool = False
    """Upper and lower case are the same (actions)."""

    def covers(self, asked: str) -> Answer:
        """Whether every name that fits the asked pattern is in the set: `covers("s3:*")`."""
        found = any(includes(self._fold(pattern), self._fold(asked)) for pattern in self.patterns)
        if not self.excluded:
            return True if found else UNKNOWN if self.unknown else False
        if any(overlaps(self._fold(pattern), self._fold(asked)) for pattern in self.patterns):
            return False
        return UNKNOWN if self.unknown else True

    def touches(self, asked: str) -> Answer:
        """Whether some name that fits the asked pattern is in the set: `touches("kms:Put*")`."""
        if self.excluded:
            if any(includes(self._fold(pattern), self._fold(asked)) for pattern in self.patterns):
                return False
            return UNKNOWN if self.unknown else True
        found = any(overlaps(self._fold(pattern), self._fold(asked)) for pattern in self.patterns)
        return True if found else UNKNOWN if self.unknown else False

    def _fold(self, text: str) -> str:
        return text.casefold() if self.folded else text


@dataclass(frozen=True)
class Condition:
    """One key's test within a statement. All of a statement's conditions have to hold for it to apply.

    `operator` and `key` are in small letters, the operator without its set prefix and `IfExists` suffix, which are
    `quantifier` (`forallvalues`, `foranyvalue` or empty) and `if_exists`. `values`: any of them fits; text (also what
    was written as a number or a truth value: `false`), or `UNKNOWN`.
    """

    operator: str
    key: str
    values: tuple[str | Unknown, ...]
    quantifier: str = ""
    if_exists: bool = False

    def is_(self, operators: Collection[str], key: str, allowed: Collection[str]) -> Answer:
        """Whether it tests that key by one of those operators for these values and no other.

        It does not where it would also hold for a request without the key (`IfExists`, `ForAllValues`). The case of
        letters counts in the values only, and not in truth values.
        """
        if self.quantifier == "forallvalues" or self.if_exists:
            return False
        if self.operator not in {item.casefold() for item in operators} or self.key != key.casefold():
            return UNKNOWN if "*" in {self.operator, self.key} else False
        fold = str.casefold if self.operator == "bool" else str
        return all_of(
            UNKNOWN if isinstance(value, Unknown) else fold(value) in allowed for value in self.values
        )


@dataclass(frozen=True)
class Statement:
    """One statement. `path` is its place in the document (`Statement[0]`).

    `principals` is None where the statement has none (identity policies), else patterns such as `AWS:*`,
    `AWS:arn:aws:iam::111122223333:root`, `Service:sns.amazonaws.com`, `Federated:…`, `CanonicalUser:…`; a bare `*` is
    `AWS:*`. `conditions` is `UNKNOWN` where it is not known whether there are any.
    """

    path: str
    sid: str | Unknown
    effect: str | Unknown
    principals: Names | None
    actions: Names
    resources: Names
    conditions: tuple[Condition, ...] | Unknown

    @property
    def allows(self) -> Answer:
        """Whether its effect is Allow."""
        return UNKNOWN if self.effect is UNKNOWN else self.effect == "Allow"

    @property
    def denies(self) -> Answer:
        """Whether its effect is Deny."""
        return UNKNOWN if self.effect is UNKNOWN else self.effect == "Deny"

    @property
    def conditional(self) -> Answer:
        """Whether it has any condition."""
        return UNKNOWN if self.conditions is UNKNOWN else bool(self.conditions)

    @property
    def everyone(self) -> Answer:
        """Whether it speaks of everyone: `*`, and for an Allow also everyone but some (NotPrincipal)."""
        if self.principals is None:
            return False
        if self.principals.excluded:
            return negated(self.denies)
        return self.principals.covers("AWS:*")

    def held(self, holds: Callable[[Condition], Answer]) -> Answer:
        """Whether every condition of it holds, as `holds` says of each."""
        if self.conditions is UNKNOWN:
            return UNKNOWN
        return all_of(holds(condition) for condition in self.conditions)

    def applies(self, action: str, resource: str = "*") -> Answer:
        """Whether it speaks of any such action on any such resource (conditions and principals aside)."""
        return all_of((self.actions.touches(action), self.resources.touches(resource)))


def statements(document: Value) -> list[Statement]:
    """The statements of a policy document: JSON text or data.

    One that is not known gives a single statement of which nothing is known; None gives none. Raises `PolicyError`
    for what is no policy document, an unknown element of a statement included.
    """
    try:
        data = values.document(document)
    except ValueError as error:
        raise PolicyError(f"no JSON: {error}") from None
    if data is None or data == "":
        return []
    if data is UNKNOWN:
        return [unknown("")]
    if not isinstance(data, Mapping):
        raise PolicyError(f"a {type(data).__name__}, not a policy document")
    listed = data.get("Statement")
    if listed is UNKNOWN:
        return [unknown("Statement")]
    if isinstance(listed, Mapping):
        listed = [listed]
    if not isinstance(listed, list):
        raise PolicyError(f"Statement: {values.show(listed)}, not a list of statements")
    return [_statement(item, f"Statement[{index}]") for index, item in enumerate(listed)]


def unknown(path: str) -> Statement:
    """A statement of which nothing is known."""
    nothing = Names(unknown=True)
    return Statement(path, UNKNOWN, UNKNOWN, nothing, nothing, nothing, UNKNOWN)


def denied(
    found: Iterable[Statement],
    actions: Collection[str],
    resources: Collection[str],
    holds: Callable[[Condition], Answer] = lambda condition: False,
) -> Answer:
    """Whether the statements deny everyone each of some actions on each of some resources, in some situation.

    Actions and resources are patterns, each to be covered whole by one statement. `holds` says whether a condition
    holds in the situation, such as "the request came without TLS"; by default none does, so only statements without
    conditions count. One that excludes actions, resources or principals counts where it surely covers what is asked.
    """
    found = list(found)
    return all_of(
        any_of(
            all_of(
                (
                    statement.denies,
                    statement.everyone,
                    statement.actions.covers(action),
                    statement.resources.covers(resource),
                    statement.held(holds),
                )
            )
            for statement in found
        )
        for action in actions
        for resource in resources
    )


def denied_without(
    found: Iterable[Statement],
    key: str,
    value: str,
    actions: Collection[str],
    resources: Collection[str],
) -> Answer:
    """Whether everyone is denied unless the request's `key` has the `value`.

    Takes a test by `Bool` for the other truth value and by `StringNotEquals`, `ArnNotEquals` or `NumericNotEquals` for
    the value itself: `denied_without(found, "aws:SecureTransport", "true", ["s3:*"], [arn, f"{arn}/*"])`.
    """
    contrary = {"true": "false", "false": "true"}.get(value)

    def holds(condition: Condition) -> Answer:
        # A request without the key is one without the value: a negated test holds for it, and `IfExists` as well.
        if condition.quantifier:
            return False
        plain = replace(condition, if_exists=False)
        if contrary:
            truth = plain.is_(("Bool",), key, (contrary,))
            if truth is UNKNOWN or truth:
                return truth
        return plain.is_(("StringNotEquals", "ArnNotEquals", "ArnNotLike", "NumericNotEquals"), key, (value,))

    return denied(found, actions, resources, holds)


def _statement(data: Value, path: str) -> Statement:
    if data is UNKNOWN:
        return unknown(path)
    if not isinstance(data, Mapping):
        raise PolicyError(f"{path}: {values.show(data)}, not a statement")
    if strange := sorted(set(data) - _ELEMENTS):
        raise PolicyError(f"{path}: no element of a statement: {', '.join(strange)}")
    for one in ("Principal", "Action", "Resource"):
        if one in data and f"Not{one}" in data:
            raise PolicyError(f"{path}: both {one} and Not{one}")
    effect = data.get("Effect")
    if effect is not UNKNOWN and effect not in ("Allow", "Deny"):
        raise PolicyError(f"{path}.Effect: {values.show(effect)}, neither Allow nor Deny")
    sid = data.get("Sid", "")
    return Statement(
        path=path,
        sid=UNKNOWN if sid is UNKNOWN else str(sid),
        effect=effect,
        principals=_principals(data, path),
        actions=_names(data, "Action", path, folded=True),
        resources=_names(data, "Resource", path),
        conditions=(
            UNKNOWN
            if data.get("Condition") is UNKNOWN
            else _conditions(data.get("Condition"), f"{path}.Condition")
        ),
    )


def _names(data: Mapping[str, Value], element: str, path: str, *, folded: bool = False) -> Names:
    excluded = f"Not{element}" in data
    name = f"Not{element}" if excluded else element
    if name not in data:
        # A trust policy has no resource: the role itself is meant.
        return Names(("*",))
    texts = list(_texts(data[name], f"{path}.{name}"))
    patterns = tuple(text for text in texts if isinstance(text, str))
    return Names(patterns, excluded, UNKNOWN in texts, folded)


def _principals(data: Mapping[str, Value], path: str) -> Names | None:
    excluded = "NotPrincipal" in data
    name = "NotPrincipal" if excluded else "Principal"
    if name not in data:
        return None
    given = data[name]
    if given == "*":
        return Names(("AWS:*",), excluded)
    if given is UNKNOWN:
        return Names((), excluded, unknown=True)
    if not isinstance(given, Mapping):
        raise PolicyError(f"{path}.{name}: {values.show(given)}, neither `*` nor principals by kind")
    texts = [(kind, text) for kind, item in given.items() for text in _texts(item, f"{path}.{name}.{kind}")]
    patterns = tuple(f"{kind}:{text}" for kind, text in texts if isinstance(text, str))
    return Names(patterns, excluded, any(text is UNKNOWN for _, text in texts))


def _texts(value: Value, path: str) -> Iterator[str | Unknown]:
    for item in value if isinstance(value, list) else [value]:
        if item is UNKNOWN:
            yield UNKNOWN
        elif isinstance(item, str):
            yield item
        else:
            raise PolicyError(f"{path}: {values.show(item)}, not a text")


def _conditions(value: Value, path: str) -> tuple[Condition, ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise PolicyError(f"{path}: {values.show(value)}, not tests by operator")
    found: list[Condition] = []
    for written, tests in value.items():
        operator = str(written).casefold()
        quantifier, _, operator = operator.rpartition(":")
        if_exists = operator.endswith("ifexists")
        operator = operator.removesuffix("ifexists")
        if tests is UNKNOWN:
            # Which key it tests is not known: `*` stands for any.
            found.append(Condition(operator, "*", (UNKNOWN,), quantifier, if_exists))
            continue
        if not isinstance(tests, Mapping):
            raise PolicyError(f"{path}.{written}: {values.show(tests)}, not values by key")
        for key, given in tests.items():
            texts = tuple(_text(item) for item in (given if isinstance(given, list) else [given]))
            found.append(Condition(operator, str(key).casefold(), texts, quantifier, if_exists))
    return tuple(found)


def _text(value: Value) -> str | Unknown:
    if isinstance(value, bool):
        return "true" if value else "false"
    return UNKNOWN if isinstance(value, Unknown) else str(value)


def includes(pattern: str, asked: str) -> bool:
    """Whether a pattern takes in every name that fits the asked pattern.

    What is answered yes is so; a pattern of several that only together take it in is answered no.
    """
    return _meets(pattern, asked, False)


def overlaps(pattern: str, asked: str) -> bool:
    """Whether some name fits both patterns."""
    return _meets(pattern, asked, True)


@lru_cache(maxsize=8192)
def _meets(pattern: str, asked: str, both: bool) -> bool:
    """Walks both patterns at once: the set of places in `asked` that the pattern so far can have come to."""
    end = len(asked)

    def skipped(places: set[int]) -> set[int]:
        # A star of the asked pattern may stand for nothing, but only where one common name is enough.
        todo = list(places) if both else []
        while todo:
            place = todo.pop()
            if place < end and asked[place] == "*" and place + 1 not in places:
                places.add(place + 1)
                todo.append(place + 1)
        return places

    at = skipped({0})
    for sign in pattern:
        if not at:
            return False
        if sign == "*":
            at = set(range(min(at), end + 1))
            continue
        after: set[int] = set()
        for place in at:
            if place == end:
                continue
            other = asked[place]
            if both and other == "*":
                after.add(place)
            if other == sign or (sign == "?" and other != "*") or (both and other == "?"):
                after.add(place + 1)
        at = skipped(after)
    return end in at
