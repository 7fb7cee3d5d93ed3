"""IAM policy documents, judged as AWS judges them.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

Verdict = Literal["allow", "deny", "none"]
Context = Mapping[str, str]
"""Condition keys of a request, in lower case, with their values."""


def statements(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A document's statements; a single one may stand without a list."""
    found = document.get("Statement", [])
    return list(found) if isinstance(found, list) else [found]


def judge(
    given: list[dict[str, Any]],
    action: str,
    resource: str,
    context: Context,
    principals: frozenset[str] | None = None,
) -> Verdict:
    """What statements say of an action (`s3:GetObject`) on a resource (an ARN): an explicit deny wins.

    `principals` are the names that the caller goes by, for a resource's policy; None for an identity's, which names no
    principal.
    """
    verdict: Verdict = "none"
    for statement in given:
        deny = statement.get("Effect") == "Deny"
        if (
            _action(statement, action)
            and _resource(statement, resource, context)
            and (principals is None or _principal(statement, principals))
            and _conditions(statement.get("Condition", {}), context, unknown=deny)
        ):
            if deny:
                return "deny"
            verdict = "allow"
    return verdict


def _many(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _like(value: str, pattern: str) -> bool:
    # Of the shell's wildcards policies know only `*` and `?`.
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


def _action(statement: Mapping[str, Any], action: str) -> bool:
    if "NotAction" in statement:
        return not any(_like(action.lower(), name.lower()) for name in _many(statement["NotAction"]))
    return any(_like(action.lower(), name.lower()) for name in _many(statement.get("Action", [])))


def _resource(statement: Mapping[str, Any], resource: str, context: Context) -> bool:
    if "NotResource" in statement:
        return not any(_like(resource, _expand(name, context)) for name in _many(statement["NotResource"]))
    return any(_like(resource, _expand(name, context)) for name in _many(statement.get("Resource", "*")))


def _expand(text: str, context: Context) -> str:
    """Policy variables; one without a value leaves a text that matches nothing."""
    return re.sub(r"\$\{([^}]+)\}", lambda match: context.get(match[1].lower(), "\0"), text)


def _principal(statement: Mapping[str, Any], principals: frozenset[str]) -> bool:
    if "NotPrincipal" in statement:
        return not _named(statement["NotPrincipal"], principals)
    return _named(statement.get("Principal"), principals)


def _named(principal: Any, principals: frozenset[str]) -> bool:
    if principal == "*":
        return True
    if not isinstance(principal, Mapping):
        return False
    # A provider of identities is always named in full.
    return any(name == "*" or name in principals for name in _many(principal.get("AWS", []))) or any(
        name in principals for name in _many(principal.get("Federated", []))
    )


def _number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def test(value: str, wanted: str) -> bool:
        try:
            return compare(float(value), float(wanted))
        except ValueError:
            return False

    return test


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "stringequals": lambda value, wanted: value == wanted,
    "stringequalsignorecase": lambda value, wanted: value.lower() == wanted.lower(),
    "stringlike": _like,
    "arnequals": _like,
    "arnlike": _like,
    "bool": lambda value, wanted: value.lower() == wanted.lower(),
    "numericequals": _number(lambda value, wanted: value == wanted),
    "numericlessthan": _number(lambda value, wanted: value < wanted),
    "numericlessthanequals": _number(lambda value, wanted: value <= wanted),
    "numericgreaterthan": _number(lambda value, wanted: value > wanted),
    "numericgreaterthanequals": _number(lambda value, wanted: value >= wanted),
}


def _conditions(conditions: Mapping[str, Mapping[str, Any]], context: Context, unknown: bool) -> bool:
    """Whether all conditions hold; an operator that is not known here counts as `unknown` says."""
    return all(
        _condition(operator, key.lower(), _many(wanted), context, unknown)
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _condition(operator: str, key: str, wanted: list[str], context: Context, unknown: bool) -> bool:
    name = operator.rpartition(":")[2].lower()
    value = context.get(key)
    if name == "null":
        return (value is None) == (wanted[0].lower() == "true")
    if name.endswith("ifexists"):
        if value is None:
            return True
        name = name.removesuffix("ifexists")
    negative = "not" in name
    test = _OPERATORS.get(name.replace("not", "", 1))
    if test is None:
        return unknown
    if value is None:
        return negative
    found = any(test(value, _expand(text, context)) for text in wanted)
    return found != negative
