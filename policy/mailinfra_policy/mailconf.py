"""Postfix's and Dovecot's settings as a server's files and commands make them.

Sources: postconf(5), master(5), https://doc.dovecot.org/2.3/configuration_manual/config_file/
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mailinfra_policy.userdata import UserData, split

_VERSIONS = {"SSLV2": 0, "SSLV3": 1, "TLSV1": 2, "TLSV1.0": 2, "TLSV1.1": 3, "TLSV1.2": 4, "TLSV1.3": 5}
_NAMES = ("SSLv2", "SSLv3", "1.0", "1.1", "1.2", "1.3")
_EDITORS = frozenset({"echo", "printf", "sed", "perl", "crudini", "tee", "awk", "grep"})

_REMOVAL = re.compile(r"\b(purge|remove|autoremove|mask|disable)\b")


@dataclass(frozen=True)
class Setting:
    """A setting, its value, and where it was found (`master.cf submission`, `postconf`, …)."""

    name: str
    value: str
    place: str


@dataclass(frozen=True)
class Service:
    """A service of master.cf: `type` is `inet`, `unix`, …; `options` are what `-o` overrides."""

    name: str
    type: str
    command: str
    options: Mapping[str, str]


@dataclass
class Postfix:
    """Postfix: main.cf's settings (each as often as it is given), master.cf's services."""

    settings: list[Setting] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """A setting's last value, with `$name` put in."""
        found = [item.value for item in self.settings if item.name == name]
        return self.expand(found[-1]) if found else None

    def expand(self, value: str, depth: int = 4) -> str:
        """A value with the settings that it names put in; what is not set stays as it is written."""

        def put(match: re.Match[str]) -> str:
            name = match.group(1) or match.group(2)
            found = [item.value for item in self.settings if item.name == name]
            return self.expand(found[-1], depth - 1) if found and depth else match.group(0)

        return re.sub(r"\$(?:(\w+)|[({](\w+)[)}])", put, value)


def lowest(value: str) -> str | None:
    """The lowest version that a list of protocols lets in: `1.2`, `SSLv3`, …; None if it cannot be told.

    Postfix: `>=TLSv1.2`, `!SSLv3, !TLSv1`, `TLSv1.2, TLSv1.3`. Dovecot: `TLSv1.2`, `LATEST`, `ANY`, or a list.
    """
    if value.strip() == "LATEST":
        return _NAMES[5]
    # OpenSSL has forgotten SSLv2: that it is not excluded lets nothing in.
    tokens = [token for token in re.split(r"[\s,:]+", value.strip()) if token]
    least, most, named, left = 0, 5, set[int](), set(range(1, 6))
    if not tokens:
        return _NAMES[1]
    for token in tokens:
        match = re.fullmatch(r"(>=|<=|!)?([A-Za-z0-9.]+)", token)
        version = _VERSIONS.get(match.group(2).upper()) if match else None
        if match is None or version is None:
            return None
        sign = match.group(1)
        if sign == ">=":
            least = max(least, version)
        elif sign == "<=":
            most = min(most, version)
        elif sign == "!":
            left.discard(version)
        else:
            named.add(version)
    allowed = {version for version in (named or left) & left if least <= version <= most}
    return _NAMES[min(allowed)] if allowed else None


def reaches(value: str, floor: str) -> bool:
    """Whether a list of protocols lets in nothing below a floor (`1.2`, `1.3`)."""
    found = lowest(value)
    return found is not None and _NAMES.index(found) >= _NAMES.index(floor)


def uses(data: UserData, program: str) -> bool:
    """Whether a program (`postfix`, `dovecot`) is installed or set up: a package of it, its files, its commands."""
    named = re.compile(rf"(?<![\w./@-]){program}(?![\w@])")
    return (
        any(program in line and named.search(line) and not _REMOVAL.search(line) for line in data.commands)
        or any(named.match(package) for package in data.packages)
        or any(f"/{program}/" in file.path for file in data.files)
    )


def postfix(data: UserData) -> Postfix:
    """Postfix as the files and commands make it."""
    found = Postfix()
    for file in data.files:
        name = file.path.rpartition("/")[2]
        if name == "main.cf" or (
            not file.path and re.search(r"^smtpd?_tls_\w+\s*=", file.text, re.MULTILINE)
        ):
            found.settings += _main(file.text, "main.cf")
        elif name == "master.cf":
            found.services += _master(file.text)
        elif "postconf" in file.text:
            for line in file.text.splitlines():
                _command(line, found)
    for line in data.commands:
        _command(line, found)
    return found


def _joined(text: str) -> Iterator[str]:
    """Postfix's logical lines: one that begins with white space continues the last; comments in between do not."""
    current = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and current:
            current += " " + line.strip()
        else:
            if current:
                yield current
            current = line.strip()
    if current:
        yield current


def _main(text: str, place: str) -> list[Setting]:
    found = []
    for line in _joined(text):
        name, sign, value = line.partition("=")
        if sign and re.fullmatch(r"\w+", name.strip()):
            found.append(Setting(name.strip(), value.strip(), place))
    return found


_OPTION = re.compile(r"-o\s+(?:\{\s*(\w+)\s*=\s*(.*?)\s*\}(?=\s|$)|(\w+)=(\S*))")


def _master(text: str) -> list[Service]:
    found = []
    for line in _joined(text):
        fields = line.split(None, 8)
        if len(fields) < 8:
            continue
        command, _, rest = fields[7], "", fields[8] if len(fields) > 8 else ""
        options = {m.group(1) or m.group(3): m.group(2) or m.group(4) or "" for m in _OPTION.finditer(rest)}
        found.append(Service(fields[0], fields[1], command, options))
    return found


def _command(line: str, found: Postfix) -> None:
    """What a command line sets: `postconf -e a=b`, `postconf -P service/type/a=b`, `echo a = b >> main.cf`."""
    if "postconf" in line:
        words = split(line)
        master = any(re.fullmatch(r"-\w*P\w*", word) for word in words)
        for word in words:
            name, sign, value = word.partition("=")
            parts = name.strip().split("/")
            if sign and master and len(parts) == 3:
                found.services.append(Service(parts[0], parts[1], "smtpd", {parts[2]: value.strip()}))
            elif sign and re.fullmatch(r"\w+", name.strip()):
                found.settings.append(Setting(name.strip(), value.strip(), "postconf"))
    elif "main.cf" in line and "=" in line:
        found.settings += [Setting(*pair, "a command") for pair in _edits(line, r"\w*smtpd?_\w+|\w*tls\w*")]


def _edits(line: str, names: str) -> Iterable[tuple[str, str]]:
    """Assignments within a command that edits a file: the last of each name (sed's replacement, not its pattern)."""
    found = re.findall(rf"\b({names})\s*=\s*([^'\"|/\\\n;#]*)", line)
    return {name: value.strip() for name, value in found}.items()


def dovecot(data: UserData) -> list[Setting]:
    """Dovecot's settings, flat: name, value, and the blocks they are in."""
    found: list[Setting] = []
    for file in data.files:
        if "/dovecot/" in file.path or (
            not file.path and re.search(r"^\s*ssl_\w+\s*=", file.text, re.MULTILINE)
        ):
            found += _blocks(file.text)
    for line in data.commands:
        if "dovecot" in line and "=" in line and _EDITORS & {word.rpartition("/")[2] for word in split(line)}:
            found += [
                Setting(*pair, "a command")
                for pair in _edits(line, r"ssl\w*|protocols|disable_plaintext_auth")
            ]
    return found


def _blocks(text: str) -> list[Setting]:
    found, where = [], list[str]()
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.endswith("{"):
            where.append(line[:-1].strip())
        elif line == "}":
            where = where[:-1]
        elif "=" in line:
            name, _, value = line.partition("=")
            value = re.split(r"\s#", value, maxsplit=1)[0]
            found.append(Setting(name.strip(), value.strip(), " / ".join(where) or "dovecot.conf"))
    return found
