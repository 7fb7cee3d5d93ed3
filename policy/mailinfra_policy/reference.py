"""The reference page of the policies, made from the rules: `python -m mailinfra_policy.reference [FOLDER]`."""

import sys
import typing
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mailinfra_policy.config import Config
from mailinfra_policy.rule import Rule
from mailinfra_policy.rules import all_rules
from mailinfra_policy.values import show

FOLDER = Path("docs")
PAGE = "policies.md"

_HEAD = """# The policies

Every rule of the pack: what it asks for, why, how to mend a violation, the controls that it serves, and the types of
resources that it judges. The page is made from the code (`python -m mailinfra_policy.reference`); do not edit it.

The rules look at raw resources of pulumi-aws, pulumi-gcp and pulumi-cloudflare, whoever's program declares them.
`mailinfra check` applies them without engine, credentials or network:

    mailinfra check --stack prod                      # the project in this folder
    mailinfra check --program DIR --stack dev         # any Pulumi program in Python
    mailinfra check --file state.json                 # pulumi stack export
    mailinfra check --file preview.json               # pulumi preview --json --show-sames

Exit code 0: clean; 1: findings, or an exception past its day; 2: something could not be judged, and may hide a
violation. `--format` is `text`, `json`, `sarif` or `junit`; `--report DIR` also writes a page for a person and the
same as JSON. `examples/ci/` has ready workflows, `examples/policies/` programs to try it on.

A program is run in a process of its own. It reaches no network and gets no credentials; what only the cloud will know
is *unknown*, and an unknown value never passes a rule. Ids, ARNs and links that follow from the inputs are known, and
public keys that the program publishes are stood in for by keys of the declared type and length. Values that the
stack's config keeps encrypted are unknown.

The pack's config is `--config FILE`, else `policy-<stack>.json` (or `.yaml`), else `policy.json`, beside the
stack's own; the file that `pulumi --policy-pack-config` takes serves both. Where it
names no zones and the stack declares a fleet (`mailinfra:fleet`), the zones are the fleet's.
"""


def page() -> str:
    """The page, Markdown."""
    rules = all_rules()
    lines = [_HEAD, "## All rules", "", "| rule | severity | what it asks for |", "| --- | --- | --- |"]
    lines += [
        f"| [`{rule.id}`](#{rule.id}) | {rule.severity.value} | {_cell(rule.title)} |" for rule in rules
    ]
    lines.append("")
    for rule in rules:
        lines += _rule(rule)
    lines += ["## The config", "", "Every field has a default; an unknown one is an error.", ""]
    for path, model in _models(Config):
        lines += _fields(path, model)
    return "\n".join(lines)


def _rule(rule: Rule) -> Iterator[str]:
    yield f"### {rule.id}"
    yield ""
    yield f"{rule.title}. Severity: {rule.severity.value}."
    yield ""
    yield f"Why: {rule.why}"
    yield ""
    yield f"Mend: {rule.mend}"
    yield ""
    yield "Controls: " + ", ".join(map(str, rule.controls)) + "."
    yield ""
    for cloud, tokens in groupby(sorted(rule.covers), key=lambda token: token.partition(":")[0]):
        names = sorted({f"`{token.partition(':')[2]}`" for token in tokens})
        yield f"- {cloud}: {', '.join(names)}"
    yield ""


def _models(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        inner, suffix = _inner(field.annotation)
        if inner is not None:
            yield from _models(inner, f"{path}.{name}{suffix}" if path else f"{name}{suffix}")


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model that a field holds, and how: directly, in a list (`[]`) or by name (`.*`)."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return _inner(arguments[0])[0], "[]"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _inner(arguments[1])[0], ".*"
    return (annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None), ""


def _fields(path: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"### `{path}`" if path else "### The document"
    yield ""
    yield " ".join((model.__doc__ or "").split())
    yield ""
    yield "| field | what it is | default |"
    yield "| --- | --- | --- |"
    for name, field in model.model_fields.items():
        default = (
            "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        )
        yield f"| `{name}` | {_cell(field.description or '')} | {_cell(default)} |"
    yield ""


def _default(value: Any) -> str:
    if value is PydanticUndefined or value in ("", (), {}, frozenset()):
        return "none"
    if isinstance(value, BaseModel):
        return "its fields' defaults"
    return f"`{show(_plain(value), 400)}`"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(value)
    return value


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Writes the page to the folder named on the command line, else to `docs`."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    (folder / PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
