"""What goes into a node's repository. Pure, but for looking at what there is.

Not in it, because it cannot be or need not be: the keys of DKIM and of the CA, which never leave their HSM; the
node's own TLS key and certificate, which a new node makes for itself; replicas, which are in their home's repository.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from mailinfra.node.agent import directory

MAIL = Path("/srv/mail")
QUEUE = Path("/var/spool/postfix")
QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "hold", "incoming", "maildrop", "trace")
CONFIG = (Path("/etc/mailinfra"), Path("/etc/postfix"), Path("/etc/dovecot"))
EXCLUDED = (
    # Dovecot makes its indexes again; tmp holds what is not delivered yet.
    "dovecot.index*",
    "dovecot.list.index*",
    f"{MAIL}/*/*/Maildir/tmp",
    f"{MAIL}/*/*/Maildir/.*/tmp",
    # Debian's packages put a self-signed key here.
    "/etc/dovecot/private",
)
MESSAGE = re.compile(r".*/(?:cur|new)/[^/]+")


def home(address: str, mail: Path = MAIL) -> Path:
    """Where a user's mail lies."""
    local, _, domain = address.partition("@")
    return mail / domain / local


def users(routes: bytes, hostname: str) -> list[str]:
    """The users whose home is a node, of all in `routes.jsonl`. `ValueError` for a directory that is wrong."""
    found = directory.routes(routes).values()
    return sorted(route.address for route in found if not route.targets and route.host == hostname)


def sources(addresses: Iterable[str], lookups: Path, mail: Path = MAIL) -> list[str]:
    """The folders to back up, those that are there."""
    wanted = [*(home(address, mail) for address in addresses), *(QUEUE / name for name in QUEUES), *CONFIG]
    return [str(path) for path in [*wanted, lookups] if path.is_dir()]


def user_of(path: str, mail: Path = MAIL) -> str:
    """Whose a path below the mail volume is; nothing for others."""
    parts = Path(path).parts[len(mail.parts) :]
    return f"{parts[1]}@{parts[0]}" if Path(path).is_relative_to(mail) and len(parts) > 2 else ""


def is_message(path: str, mail: Path = MAIL) -> bool:
    """Whether a file in a snapshot is a message."""
    return path.startswith(f"{mail}/") and bool(MESSAGE.fullmatch(path))


def base(name: str) -> str:
    """A message's file name without its flags, which change while the message stays."""
    return name.partition(":2,")[0]
