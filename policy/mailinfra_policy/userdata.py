"""What a server is told at its first boot, taken apart: base64, gzip, MIME parts, cloud-config, scripts, heredocs.

Hostile input is bounded: what grows beyond `LIMIT` bytes, `DEPTH` wrappers or `PARTS` parts is refused, not read.

Formats: https://docs.cloud-init.io/en/latest/explanation/format.html
"""

import base64
import binascii
import email
import email.policy
import re
import shlex
import zlib
from dataclasses import dataclass, field, replace

import yaml

LIMIT = 4 * 1024 * 1024
"""The most bytes that user-data may unpack to, all parts together. Clouds take 16 KiB (AWS) and 256 KiB (Google)."""
DEPTH = 6
"""The most wrappers around a text (base64 in gzip in a MIME part …)."""
PARTS = 256
"""The most parts or files."""
WIDTH = 4096
"""How far into a line a heredoc's file name is looked for."""
_GZIP = b"\x1f\x8b"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_BLOB = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}={0,2}(?![A-Za-z0-9+/=])")
_HEREDOC = re.compile(r"<<(-?)\s*(?:'([^'\n]+)'|\"([^\"\n]+)\"|\\?([^\s'\"<>|&;()]+))")
_PATH = re.compile(r"(?<![\w./-])/[\w@%+./-]+")


class UndecodableError(ValueError):
    """User-data whose content cannot be told: it says why."""


@dataclass(frozen=True)
class File:
    """A file that the server is given: its path (empty if not told) and text."""

    path: str
    text: str


@dataclass
class UserData:
    """What was found: files, lines of commands (comments left out, continued lines joined) and packages by name."""

    files: list[File] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)


def split(line: str) -> list[str]:
    """A command line's words, as a shell takes them; one that no shell would take is split at spaces."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


@dataclass(frozen=True)
class _Budget:
    """What is left of the limits; one mutable count that all parts share."""

    left: list[int] = field(default_factory=lambda: [LIMIT, PARTS])
    depth: int = DEPTH

    def spend(self, size: int) -> None:
        self.left[0] -= size
        self.left[1] -= 1
        if self.left[0] < 0:
            raise UndecodableError(f"more than {LIMIT} bytes when unpacked")
        if self.left[1] < 0:
            raise UndecodableError(f"more than {PARTS} parts")

    def deeper(self) -> "_Budget":
        if self.depth == 0:
            raise UndecodableError(f"more than {DEPTH} wrappers, one in another")
        return replace(self, depth=self.depth - 1)


def read(data: str, *, encoded: bool = False) -> UserData:
    """User-data taken apart. `encoded`: it has to be base64. Raises `UndecodableError`."""
    found = UserData()
    raw = data.encode("utf-8", "surrogateescape")
    if encoded and (opened := _opened(raw, sure=True)) is not None:
        raw = opened
    elif encoded:
        raise UndecodableError("no base64")
    try:
        _part(raw, found, _Budget())
    except RecursionError:
        raise UndecodableError("nested too deeply") from None
    return found


def _opened(raw: bytes, *, sure: bool = False) -> bytes | None:
    """What base64 text stands for: None if it is none, or (unless `sure`) if nothing readable comes out."""
    compact = b"".join(raw.split())
    if not _BASE64.fullmatch(compact):
        return None
    try:
        opened = base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        return None
    return opened if sure or opened[:2] == _GZIP or _readable(opened) else None


def _readable(raw: bytes) -> bool:
    try:
        return all(sign.isprintable() or sign in "\t\r\n" for sign in raw.decode())
    except UnicodeDecodeError:
        return False


def _unzipped(raw: bytes, budget: _Budget) -> bytes:
    """Gzip undone: all its members, as cloud-init does."""
    opened = b""
    while raw[:2] == _GZIP:
        machine, limit = zlib.decompressobj(wbits=31), budget.left[0] - len(opened)
        try:
            opened += machine.decompress(raw, limit + 1)
        except zlib.error as error:
            raise UndecodableError(f"broken gzip: {error}") from None
        if len(opened) > budget.left[0]:
            raise UndecodableError(f"more than {LIMIT} bytes when unpacked")
        if not machine.eof:
            raise UndecodableError("gzip that breaks off")
        raw = machine.unused_data
        budget.spend(0)
    return opened


def _part(raw: bytes, found: UserData, budget: _Budget, path: str = "") -> None:
    """One part of user-data (or, with a path, one file), whatever it is wrapped in."""
    budget.spend(len(raw))
    if raw[:2] == _GZIP:
        _part(_unzipped(raw, budget), found, budget.deeper(), path)
        return
    if not path and len(raw) > 16 and (opened := _opened(raw)) is not None:
        _part(opened, found, budget.deeper())
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise UndecodableError("neither text nor gzip") from None
    if path:
        found.files.append(File(path, text))
        return
    first, _, rest = text.partition("\n")
    if first.startswith("## template:"):
        text, (first, _, _) = rest, rest.partition("\n")
    head = first.strip()
    if head.lower().startswith(("content-type:", "mime-version:")):
        _mime(raw, found, budget)
    elif head == "#cloud-config":
        _cloud_config(text, found, budget)
    elif head == "#cloud-config-archive":
        for item in _list(_yaml(text)):
            content = item.get("content", "") if isinstance(item, dict) else item
            _part(_bytes(content), found, budget.deeper())
    elif head in {"#include", "#include-once"}:
        raise UndecodableError("it is fetched from elsewhere at boot")
    elif "\0" in text:
        raise UndecodableError("neither text nor gzip")
    else:
        _script(text, found, budget)


def _mime(raw: bytes, found: UserData, budget: _Budget) -> None:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    for part in message.walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        if part.get_content_type() in {"text/x-include-url", "text/x-include-once-url"}:
            raise UndecodableError("it is fetched from elsewhere at boot")
        content = payload if isinstance(payload, bytes) else b""
        if part.get_content_type() == "text/cloud-config" and not content.startswith((b"#", _GZIP)):
            content = b"#cloud-config\n" + content
        _part(content, found, budget.deeper())


def _yaml(text: str) -> object:
    try:
        loaded: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UndecodableError(f"broken YAML: {str(error).splitlines()[0]}") from None
    return loaded


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _cloud_config(text: str, found: UserData, budget: _Budget) -> None:
    data = _yaml(text)
    if data is None:
        return
    if not isinstance(data, dict):
        raise UndecodableError("a cloud-config that is no mapping")
    for item in _list(data.get("write_files")):
        if not isinstance(item, dict):
            raise UndecodableError("a cloud-config's write_files with no file")
        if "source" in item:
            raise UndecodableError(f"{item.get('path')} is fetched from elsewhere at boot")
        content = _bytes(item.get("content") or "")
        encoding = str(item.get("encoding") or "").lower()
        if encoding in {"b64", "base64", "gz+base64", "gzip+base64", "gz+b64", "gzip+b64"}:
            opened = _opened(content, sure=True)
            if opened is None and content.strip():
                raise UndecodableError(f"{item.get('path')}: no base64")
            content = opened or b""
        _part(content, found, budget.deeper(), str(item.get("path") or "/"))
    for key in ("bootcmd", "runcmd"):
        for command in _list(data.get(key)):
            line = shlex.join(map(str, command)) if isinstance(command, list) else str(command)
            # `sh -c "…"` holds the command as one word.
            inner = (
                [str(word) for word in command if "\n" in str(word) or " " in str(word)]
                if isinstance(command, list)
                else []
            )
            for script in (line, *inner):
                budget.spend(len(script))
                _script(script, found, budget)
    for package in _list(data.get("packages")):
        found.packages.append(str(package[0] if isinstance(package, list) and package else package))


def _script(text: str, found: UserData, budget: _Budget) -> None:
    """A script's commands; a file of each heredoc whose command names a path; what base64 blobs stand for."""
    lines = iter(text.replace("\\\n", " ").splitlines())
    for line in lines:
        if line.lstrip().startswith("#"):
            continue
        found.commands.append(line)
        # A string of three angles is no heredoc.
        for match in _HEREDOC.finditer(line.replace("<<<", "   ")):
            strip, *ends = match.groups()
            end = next(name for name in ends if name)
            body = []
            for inner in lines:
                if (inner.lstrip("\t") if strip else inner) == end:
                    break
                body.append(inner)
            budget.spend(0)
            found.files.append(File(_target(line[:WIDTH]), "\n".join(body) + "\n"))
    for blob in _BLOB.findall(text):
        if (opened := _opened(blob.encode())) is not None:
            budget.spend(len(opened))
            _blob(opened, found, budget.deeper())


def _target(line: str) -> str:
    """The path that a heredoc's command writes to: after `>`, else the first that it names."""
    written = re.search(r">\s*['\"]?(/[\w@%+./-]+)", line)
    paths = _PATH.findall(line)
    return written.group(1) if written else paths[0] if paths else ""


def _blob(raw: bytes, found: UserData, budget: _Budget) -> None:
    opened = _unzipped(raw, budget) if raw[:2] == _GZIP else raw
    if not _readable(opened):
        return
    budget.spend(len(opened))
    # Where it is put is not followed: the reader of files looks at what it says.
    found.files.append(File("", opened.decode()))
