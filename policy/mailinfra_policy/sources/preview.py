"""Resources as `pulumi preview --json` shows them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mailinfra_policy import values
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.sources import state
from mailinfra_policy.sources.loaded import Gap, Loaded, SourceError
from mailinfra_policy.values import UNKNOWN

_BLINDED = "[secret]"  # pkg/backend/display/json.go: what stands for a secret's value


def load(document: Mapping[str, Any]) -> Loaded:
    """What the stack will be like. Raises SourceError, also where the preview leaves unchanged resources out."""
    steps = document.get("steps") or []
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        raise SourceError(f"steps: found {values.show(steps, 60)}; allowed: a list of steps")
    failed = [
        str(item.get("message", "")).strip()
        for item in document.get("diagnostics") or []
        if isinstance(item, Mapping) and item.get("severity") == "error"
    ]
    if failed:
        raise SourceError(f"the preview failed: {failed[0]}")
    unchanged = values.get(document, "changeSummary.same") or 0
    if not isinstance(unchanged, int):
        raise SourceError(f"changeSummary.same: found {values.show(unchanged, 60)}; allowed: a number")
    shown = sum(step.get("op") == "same" for step in steps)
    if shown < unchanged:
        raise SourceError(
            f"steps: found {shown} of {unchanged} unchanged resources; allowed: all of them "
            "(pulumi preview --json --show-sames)"
        )
    # A replacement is told in several steps; the last one that has a new state tells what will be there.
    last = {str(step.get("urn")): step["newState"] for step in steps if step.get("newState")}
    found, gaps = state.resources(list(last.values()), "steps[].newState")
    stack = Stack(found)
    if blinded := sorted({item.type for item in found if _has_blinded(item.props)}):
        reason = "a secret's value, which this preview hides (pulumi preview --show-secrets shows it)"
        gaps += [Gap(token, reason, blocking=False) for token in blinded]
        stack = Stack(_seen(found))
    config = document.get("config")
    return Loaded(stack, tuple(sorted(set(gaps))), config if isinstance(config, Mapping) else {})


def _has_blinded(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_blinded, value.values()))
    if isinstance(value, list):
        return any(map(_has_blinded, value))
    return isinstance(value, str) and value == _BLINDED


def _seen(found: list[Resource]) -> list[Resource]:
    return [replace(item, props=_unblind(item.props), outputs=_unblind(item.outputs)) for item in found]


def _unblind(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _unblind(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unblind(item) for item in value]
    return UNKNOWN if isinstance(value, str) and value == _BLINDED else value
