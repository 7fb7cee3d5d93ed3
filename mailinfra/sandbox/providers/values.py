"""Property values as plain Python data, and the two ways across the wire.

A value is None, bool, int, float, str, list or dict. Secrets never reach a provider of ours: it tells the
engine that it does not take them, and the engine then hands them over plain and marks the results again. An
unknown value (at preview) is the string `UNKNOWN`. An asset or archive is a dict with `SIGNATURE`, its path,
text or uri, and the hash of its content, which the engine adds.
"""

import json
from typing import Any

from google.protobuf import json_format, struct_pb2

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Stands for a value that is not known yet (sdk/go/common/resource/plugin/rpc.go: UnknownStringValue)."""
SIGNATURE = "4dabf18193072939515e22adb298388d"
"""Key that marks a dict as something else than a dict (sdk/go/common/resource/sig/sig.go)."""
ASSET = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE = "0def7320c3a5731c473e5ecbe6d01bc7"

Object = dict[str, Any]


def from_wire(struct: struct_pb2.Struct) -> Object:
    """A message's properties as plain data; whole numbers become int."""
    value: Object = _numbers(json_format.MessageToDict(struct))
    return value


def _numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return value


def to_wire(value: Object) -> struct_pb2.Struct:
    """Plain data as a message; what is None is left out, as the engine does."""
    struct = struct_pb2.Struct()
    json_format.ParseDict(without_none(value), struct)
    return struct


def without_none(value: Any) -> Any:
    """The same value with every dict's entries dropped that are None."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_none(item) for item in value]
    return value


def has_unknown(value: Any) -> bool:
    """Whether anything in the value is not known yet."""
    if isinstance(value, dict):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknown(item) for item in value)
    return bool(value == UNKNOWN)


def is_asset(value: Any) -> bool:
    """Whether the value is an asset or an archive."""
    return isinstance(value, dict) and value.get(SIGNATURE) in {ASSET, ARCHIVE}


def describe(value: Any) -> str:
    """A value for an error message: what kind it is and, if short, what it is."""
    if is_asset(value):
        return "an asset" if value[SIGNATURE] == ASSET else "an archive"
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    kind = kinds.get(type(value), "nothing")
    text = json.dumps(value, default=str)
    return f"{kind} {text}" if len(text) <= 80 else f"{kind} {text[:77]}..."


def child(path: str, key: str | int) -> str:
    """The path of a value inside another: `a.b`, `a[0]`, `tags["x.y"]`, as the engine writes it."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if key and all(c.isalnum() or c in "_$" for c in key) and not key[0].isdigit():
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key)}]"
