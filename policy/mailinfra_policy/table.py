"""Tables of types as text: a line for each module of a cloud, the module's types, and marks after each type.

`s3 Bucket BucketObject! <bucket` is the module s3 with two types, the second one marked `!` and `<bucket`. A line that
begins with a space goes on with the line before it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MARK = re.compile(r"(?P<sign>[!@~<>#^&])(?P<path>[A-Za-z0-9.\[\]*]*)(?P<rest>\?|=[A-Za-z0-9]+)?")
_TYPE = re.compile(r"(?P<name>[A-Z][A-Za-z0-9]*)(?P<marks>.*)")


@dataclass(frozen=True)
class Mark:
    """What is said of a type: a sign, the input that it is about, and `?` or `=x` after that."""

    sign: str
    path: str
    rest: str


def rows(text: str) -> Iterator[tuple[str, str, tuple[Mark, ...]]]:
    """Each type of a table: module, class, marks. ValueError where the text is no table."""
    module = name = ""
    marks: list[Mark] = []
    for line in text.strip("\n").splitlines():
        words = line.split()
        if not line.startswith(" "):
            if name:
                yield module, name, tuple(marks)
                name = ""
            module, *words = words
        for word in words:
            rest = word
            if match := _TYPE.fullmatch(word):
                if name:
                    yield module, name, tuple(marks)
                name, rest, marks = match["name"], match["marks"], []
            if not name or _MARK.sub("", rest):
                raise ValueError(f"not a type or a mark: {word}")
            marks += [Mark(m["sign"], m["path"], m["rest"] or "") for m in _MARK.finditer(rest)]
    if name:
        yield module, name, tuple(marks)


def paths(marks: tuple[Mark, ...], sign: str) -> tuple[str, ...]:
    """The inputs that marks with a sign are about."""
    return tuple(mark.path for mark in marks if mark.sign == sign)


def token(cloud: str, module: str, name: str) -> str:
    """The SDK's token of a type: `aws:s3/bucketObject:BucketObject`."""
    return f"{cloud}:{module}/{name[0].lower()}{name[1:]}:{name}"
