"""The reference pages, made from the models: `python -m mailinfra.reference [FOLDER]`."""

import json
import sys
import typing
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mailinfra.checks import CHECKS
from mailinfra.cost import LEFT_OUT, Usage
from mailinfra.directory import Group, User
from mailinfra.fleet import Fleet
from mailinfra.prices import AS_OF, PRICES
from mailinfra.wording import describe_field

FOLDER = Path("docs")

_HEAD = """# The config of a fleet

Every field that `mailinfra:fleet` in a stack's config may have. The page is made from the code
(`python -m mailinfra.reference`); do not edit it.

A field without a default is required. An unknown field is an error, and so is what does not fit together (see
the end): all problems are reported at once, each with its path. `stacks/` holds four whole configs.
"""

_TOGETHER = """## What must fit together
"""


_USERS_HEAD = """# The users file

What `mailinfra directory publish` reads: who has an address, and what their home is decided by. The page is made
from the code (`python -m mailinfra.reference`); do not edit it.

The file's ending says its form:

- `.csv`: a header line, then one user a line. `aliases` and `targets` are separated by spaces; a column that is
  none of the fields below is an attribute. A password hash has commas in it, so it stands in double quotes.
- `.jsonl`: one JSON object a line.
- `.yaml`: a list of mappings; slow beyond some thousand users.

An entry with `targets` is a group, every other one a user. Everything wrong is reported at once, with its line. A
plain password is refused: the file holds a hash, or says where to ask for the password.
"""

_COST_HEAD = """# What a fleet costs

`mailinfra cost` estimates what a stack costs in a month, from its config alone: no account, no network. The page is
made from the code (`python -m mailinfra.reference`); do not edit it.

    mailinfra cost --stack prod                       # by region and by account
    mailinfra cost --stack prod --items               # and every item
    mailinfra cost --stack prod --stack dr --like prod
    mailinfra cost --stack prod --mailboxes 5000 --messages-per-day 80 --assume fill=0.7
    mailinfra cost --stack prod --format json         # or csv

- *Standing* is what a stack costs when no mail comes: machines, disks, addresses, keys, zones, health checks, polling
  and its logs. A pilot light costs this much. *By use* is what grows with mailboxes and messages: snapshots, vaults,
  replicas, traffic, signatures, queries.
- `--like prod` shows each other stack also at prod's size: zone by zone, prod's node groups (with their counts, sizes
  and disks) are divided evenly among the stack's regions in the zone of the same name, egress only among those whose
  cloud lets SMTP out. So each zone keeps its whole capacity. What finds no place is said.
- Without `--mailboxes`, a stack has as many as its mail volumes hold. Mailboxes are spread over the regions by the
  size of their mail volumes.
- Logs and repositories are counted as when they are full: what is deleted after a time is kept for that time.
- A region without a price is named, the item counts as 0, and every sum that it is part of says `+ ?` (JSON:
  `"complete": false`). `--prices FILE` puts prices of your own over the table: `prices: {<SKU>: {<region>: <USD>}}`,
  in YAML or JSON, `"*"` for every region.
"""


def pages() -> dict[str, str]:
    """Each page, Markdown, by its file name."""
    rules = [f"- {_text(check.__doc__ or '')}" for check in CHECKS]
    fields = [_section(path, model) for path, model in sections(Fleet)]
    people = [_section("", User, "A user"), _section("", Group, "A group")]
    return {
        "config.md": "\n".join([_HEAD, *fields, _TOGETHER, *rules, ""]),
        "users.md": "\n".join([_USERS_HEAD, *people]),
        "cost.md": "\n".join([_COST_HEAD, *_cost()]),
    }


def _cost() -> Iterator[str]:
    yield _section("", Usage, "What is assumed")
    yield "`--assume NAME=NUMBER` changes any of it.\n"
    yield "## What is not counted\n"
    yield "\n".join(f"- {text}" for text in LEFT_OUT)
    yield "\n## The price table\n"
    yield f"List prices on demand in USD, put together on {AS_OF}. `published`: a copy of the provider's own page or"
    yield "price list, as of the day under `read`; `quoted`: what others say of it; `memory`: what the authors"
    yield "remember, to be checked first. More on the sources in `mailinfra/prices.py`.\n"
    yield "| SKU | for one | origin | read | to be asked | regions |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for sku in PRICES.values():
        regions = ", ".join(f"{region} {_usd(usd)}" for region, usd in sku.usd.items()).replace("* ", "all: ")
        read = sku.read.isoformat() if sku.read else ""
        yield f"| `{sku.name}` | {sku.unit} | {sku.origin.value} | {read} | <{sku.page}> | {regions} |"
    yield ""


def _usd(amount: Decimal) -> str:
    return f"{round(amount, 6).normalize():f}"


def sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Each model with its config path, depth first: `regions[].groups[]`."""
    yield path, model
    for name, field in model.model_fields.items():
        inner, suffix = _inner(field.annotation)
        if inner is not None:
            yield from sections(inner, f"{path}.{name}{suffix}" if path else f"{name}{suffix}")


def _section(path: str, model: type[BaseModel], title: str = "The fleet") -> str:
    lines = [f"## `{path}`" if path else f"## {title}", "", _text(model.__doc__ or ""), ""]
    lines += ["| field | what it is | allowed | default |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        cells = (f"`{name}`", _text(field.description or ""), _allowed(path, name, field), _default(field))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    for name, field in model.model_fields.items():
        enum = _enum(field.annotation)
        if enum is not None and _explains(enum):
            lines += ["", f"`{name}`: {_text(enum.__doc__ or '')}"]
    return "\n".join([*lines, ""])


def _allowed(path: str, name: str, field: FieldInfo) -> str:
    inner, suffix = _inner(field.annotation)
    if inner is None:
        return describe_field(field)
    target = f"{path}.{name}{suffix}" if path else f"{name}{suffix}"
    link = f"[`{target}`](#{_anchor(target)})"
    if not suffix:
        return f"fields as in {link}"
    return f"{describe_field(field).partition(',')[0]}: {link}"


def _anchor(heading: str) -> str:
    return "".join(letter for letter in heading.lower() if letter.isalnum() or letter in "_- ")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "its fields' defaults"
    if value is None:
        return "none"
    return f"`{json.dumps(_plain(value), ensure_ascii=False)}`"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model that a field holds, and how: directly, in a list (`[]`) or by name (`.*`)."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _inner(arguments[0])
    if origin is tuple:
        return _inner(arguments[0])[0], "[]"
    if origin is dict:
        return _inner(arguments[1])[0], ".*"
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return (annotation if is_model else None), ""


def _enum(annotation: Any) -> type[Enum] | None:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation
    return next((found for item in typing.get_args(annotation) if (found := _enum(item))), None)


def _explains(enum: type[Enum]) -> bool:
    """Whether an enum's docstring says what its values mean."""
    return any(f"`{item.value}`" in (enum.__doc__ or "") for item in enum)


def _text(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """Writes the pages to the folder named on the command line, else to `docs`."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
