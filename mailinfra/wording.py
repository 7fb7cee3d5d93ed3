"""What a config field may hold, in plain words: errors and the reference page say the same."""

import types
import typing
from collections.abc import Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailinfra.errors import Problem

MAX_FOUND = 80
"""Characters of what was found that an error shows."""

_TYPES: dict[Any, str] = {str: "text", int: "a whole number", bool: "true or false", float: "a number"}


class Words(str):
    """Attached to a type with `Annotated`: what it allows, in words that replace the pattern's."""

    __slots__ = ()


def describe(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a value of an annotated type may be."""
    if typing.get_origin(annotation) is typing.Annotated:
        base, *inner = typing.get_args(annotation)
        return describe(base, [*inner, *metadata])
    flat = [part for item in metadata for part in _parts(item)]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(item, flat) for item in arguments if item is not type(None))
    if origin is tuple:
        return f"a list{_length(flat)}, each entry {describe(arguments[0])}"
    if origin is dict:
        return f"a mapping{_length(flat)}, from {describe(arguments[0])} to {describe(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return f"one of {', '.join(str(item.value) for item in annotation)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a mapping with the fields {', '.join(annotation.model_fields)}"
    words = next((str(item) for item in flat if isinstance(item, Words)), "")
    text = words or _TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))
    return f"{text}{_bounds(flat)}{_characters(flat)}"


def describe_field(field: FieldInfo) -> str:
    """What a model's field may hold."""
    return describe(field.annotation, field.metadata)


def problem(model: type[BaseModel], item: Any) -> Problem:
    """One of pydantic's errors (an item of `ValidationError.errors()`) about `model`, in plain words."""
    location = tuple(item["loc"])
    kind = item["type"]
    found = "nothing" if kind == "missing" else shown(item["input"])
    if kind == "extra_forbidden":
        return Problem(path(location), found, _known_fields(model, location))
    is_key = bool(location) and location[-1] == "[key]"
    annotation, metadata = _at(model, location[:-1] if is_key else location, is_key=is_key)
    allowed = describe(annotation, metadata) if annotation is not None else item["msg"]
    if kind == "value_error":
        allowed = str(item["ctx"]["error"])
    elif kind == "string_type" and isinstance(item["input"], bool | int | float):
        # YAML reads an unquoted NO as false and 1 as a number.
        allowed += ', in quotes: "…"'
    return Problem(path(location[:-1] if is_key else location), found, allowed)


def path(location: Sequence[int | str]) -> str:
    """A config path: `regions[2].zone`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "fleet"


def shown(value: Any) -> str:
    """A value as an error shows it, shortened."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, data that holds itself
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= MAX_FOUND else f"{text[: MAX_FOUND - 3]}..."


def _parts(item: Any) -> list[Any]:
    """Field(...) inside Annotated holds its constraints in `metadata`."""
    return list(item.metadata) if isinstance(item, FieldInfo) else [item]


def _bound(items: Sequence[Any], kind: type, name: str) -> Any:
    found = [getattr(item, name) for item in items if isinstance(item, kind)]
    if not found:
        return None
    return max(found) if name in ("ge", "min_length") else min(found)


def _bounds(items: Sequence[Any]) -> str:
    low = _bound(items, annotated_types.Ge, "ge")
    high = _bound(items, annotated_types.Le, "le")
    if low is None and high is None:
        return ""
    if high is None:
        return f", {low} or more"
    return f" from {low} to {high}" if low is not None else f", at most {high}"


def _characters(items: Sequence[Any]) -> str:
    high = _bound(items, annotated_types.MaxLen, "max_length")
    low = _bound(items, annotated_types.MinLen, "min_length")
    text = f", at least {low} characters" if low else ""
    return f"{text}, at most {high} characters" if high is not None else text


def _length(items: Sequence[Any]) -> str:
    low = _bound(items, annotated_types.MinLen, "min_length")
    high = _bound(items, annotated_types.MaxLen, "max_length")
    if low and high:
        return f" of {low} to {high}"
    if low:
        return f" of {low} or more"
    return f" of at most {high}" if high else ""


def _at(model: type[BaseModel], location: Sequence[int | str], *, is_key: bool) -> tuple[Any, list[Any]]:
    """The annotation of what stands at a location; (None, []) where the model has nothing there."""
    annotation: Any = model
    metadata: list[Any] = []
    for number, part in enumerate(location):
        while typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            annotation = next(item for item in typing.get_args(annotation) if item is not type(None))
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            if field is None:
                return None, []
            annotation, metadata = field.annotation, list(field.metadata)
        elif typing.get_origin(annotation) is tuple:
            annotation, metadata = typing.get_args(annotation)[0], []
        elif typing.get_origin(annotation) is dict:
            last = number == len(location) - 1
            annotation, metadata = typing.get_args(annotation)[0 if is_key and last else 1], []
        else:
            return None, []
    return annotation, metadata


def _known_fields(model: type[BaseModel], location: Sequence[int | str]) -> str:
    owner, _ = _at(model, location[:-1], is_key=False)
    while typing.get_origin(owner) is typing.Annotated:
        owner = typing.get_args(owner)[0]
    known = list(owner.model_fields) if isinstance(owner, type) and issubclass(owner, BaseModel) else []
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"no such field; perhaps {close[0]}" if close else f"one of {', '.join(known)}"
