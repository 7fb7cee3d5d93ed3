"""Claims about secrets: no private DKIM key is anywhere but in its HSM, and the search would have found one."""

import base64
import gzip
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailinfra.probe import keys, mail, search, signing
from mailinfra.probe.row import Claim, Finding, ProbeError, Stage, count, listed
from mailinfra.probe.site import Site, each

PLANT_FOLDER = "/var/lib/mailinfra"
JOURNAL = ("journalctl", "--all", "--quiet", "--output=cat")


@dataclass(frozen=True)
class Searched:
    """What a search of one kind of place found. `amount` is how much was looked through, in bytes."""

    amount: int
    found: list[str]


def moduli(site: Site) -> list[int]:
    """The moduli of all DKIM keys."""
    found = sorted({key.modulus for key in site.once(signing.public_keys) if key.modulus})
    if not found:
        raise ProbeError("no DKIM key is published, so there is nothing to look for")
    return found


def _state(site: Site) -> bytes:
    return json.dumps(site.sandbox.stack.state()).encode()


def _user_data(site: Site) -> dict[str, bytes]:
    machines = [site.machine(node) for node in site.plan.nodes]
    specs = each(lambda machine: site.control.call("machines.get", id=machine)["spec"], machines)
    return {
        machine: base64.b64decode(spec["user_data"]) + json.dumps(spec["metadata"]).encode()
        for machine, spec in zip(machines, specs, strict=True)
    }


def _logs(site: Site) -> list[Path]:
    state = site.sandbox.paths.state
    return [
        site.sandbox.paths.folder("logs"),
        site.sandbox.paths.daemon_log,
        *sorted(state.glob("machines/*/console.log")),
    ]


def _told(what: str, found: Iterable[keys.FoundKey], known: Iterable[int]) -> list[str]:
    """Keys as text: those of DKIM are named as such, and none is ever printed."""
    own = set(known)
    return [f"{what}: {'a DKIM key' if key.modulus in own else 'an RSA key'} as {key.form}" for key in found]


def in_state(site: Site, plant: bytes = b"", also: Iterable[int] = ()) -> Searched:
    """The stack's whole state, as the backend keeps it."""
    known = [*moduli(site), *also]
    data = site.once(_state)
    found = keys.find_wrapped(data + plant, known)
    return Searched(len(data), _told("the state", found, known))


def in_user_data(site: Site, plant: bytes = b"", also: Iterable[int] = ()) -> Searched:
    """What every machine was booted with, and its metadata."""
    known = [*moduli(site), *also]
    found, amount = [], 0
    for machine, data in site.once(_user_data).items():
        amount += len(data)
        found += _told(machine, keys.find_wrapped(data + plant, known), known)
    return Searched(amount, found)


def _in_files(places: Iterable[Path], known: list[int]) -> Searched:
    found, amount = [], 0
    for file, data in search.pieces(places):
        amount += len(data)
        found += _told(str(file), keys.find(data, known), known)
    return Searched(amount, found)


def on_disks(site: Site) -> Searched:
    """All that every node has on its own disks."""
    known = moduli(site)
    places = [place for node in site.plan.nodes for place in site.folders(site.machine(node))]
    return _in_files(places, known)


def in_logs(site: Site) -> Searched:
    """The engine's, the daemon's and the consoles' logs, and every node's journal, after mail has been signed."""
    with suppress(Exception):  # that is another claim's affair
        site.once(signing.submissions)
    known = moduli(site)
    files = _in_files(_logs(site), known)

    def journal(machine: str) -> tuple[int, list[str]]:
        text = site.shell(machine, *JOURNAL).encode()
        return len(text), _told(f"the journal of {machine}", keys.find(text, known), known)

    journals = each(journal, [site.machine(node) for node in site.plan.nodes], parallel=2)
    amount = files.amount + sum(size for size, _ in journals)
    return Searched(amount, files.found + [item for _, found in journals for item in found])


PLACES: tuple[tuple[str, Callable[[Site], Searched]], ...] = (
    ("state", in_state),
    ("user-data", in_user_data),
    ("nodes' disks", on_disks),
)


def no_private_key(site: Site) -> Iterable[Finding]:
    """No RSA private key at all in any of the places: the nodes' own TLS keys are elliptic."""
    return [_judge(name, look(site)) for name, look in PLACES]


def no_key_in_logs(site: Site) -> Iterable[Finding]:
    """Nor in a log. Apart, because a machine that dies loses its journal."""
    yield _judge("logs", in_logs(site))


def _judge(place: str, done: Searched) -> Finding:
    detail = listed(done.found) or f"{done.amount / 1e6:.1f} MB searched"
    clean = not done.found and done.amount > 0
    return Finding(clean, len(done.found), 0, "private keys", place, detail)


def planted_forms(key: rsa.RSAPrivateKey) -> dict[str, bytes]:
    """A private key in the forms in which it might leak."""
    traditional = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    numbers = key.private_numbers()
    size = key.key_size // 8
    modulus = numbers.public_numbers.n.to_bytes(size, "big")
    return {
        "PEM": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "DER": traditional,
        "base64": base64.b64encode(b"?" + traditional),
        "hexadecimal": traditional.hex().encode(),
        "a prime beside its modulus": modulus + b" " + numbers.p.to_bytes(size // 2, "big"),
    }


def search_finds(site: Site) -> Iterable[Finding]:
    """The same searches with a key of ours planted in every form, each in a file of its own where there are files."""
    key = rsa.generate_private_key(65537, site.plan.fleet.dkim.bits)
    own = key.public_key().public_numbers().n
    forms = planted_forms(key)
    mark = mail.token()[:8]
    machine = site.machine(site.plan.nodes[-1])
    node_files = {form: f"{PLANT_FOLDER}/probe-{mark}-{number}" for number, form in enumerate(forms)}
    logs = site.sandbox.paths.folder("logs")
    log_files = {form: logs / f"probe-{mark}-{number}.log" for number, form in enumerate(forms)}
    write = (
        "import base64, json, pathlib, sys\n"
        "for path, text in json.load(sys.stdin).items(): pathlib.Path(path).write_bytes(base64.b64decode(text))"
    )
    try:
        told = {path: mail.coded(forms[form]) for form, path in node_files.items()}
        site.shell(machine, "python3", "-c", write, stdin=json.dumps(told))
        for form, path in log_files.items():
            path.write_bytes(forms[form])
        disk = [
            f
            for f, d in search.pieces(site.folders(machine))
            if any(k.modulus == own for k in keys.find(d, [own]))
        ]
        log = [f for f, d in search.pieces([logs]) if any(k.modulus == own for k in keys.find(d, [own]))]
    finally:
        site.shell(machine, "rm", "-f", *node_files.values())
        for path in log_files.values():
            path.unlink(missing_ok=True)
    for place, seen, wanted in (
        (
            "nodes' disks",
            {file.name for file in disk},
            {form: Path(p).name for form, p in node_files.items()},
        ),
        ("logs", {file.name for file in log}, {form: path.name for form, path in log_files.items()}),
    ):
        missing = [form for form, name in wanted.items() if name not in seen]
        yield count(len(forms) - len(missing), len(forms), "forms found", subject=place, wrong=missing)
    for place, look in (("state", in_state), ("user-data", in_user_data)):
        texts = as_texts(forms)
        missing = [form for form, text in texts.items() if not look(site, plant=text, also=[own]).found]
        yield count(len(texts) - len(missing), len(texts), "forms found", subject=place, wrong=missing)


def as_texts(forms: dict[str, bytes]) -> dict[str, bytes]:
    """Planted keys as a document can hold them: what is no text is in base64 there, and a script is packed first."""
    packed = gzip.compress(b"#!/bin/sh\n" + forms["PEM"])
    texts = {form: data if data.isascii() else base64.b64encode(data) for form, data in forms.items()}
    quoted = {form: b'"' + text + b'"' for form, text in texts.items()}
    return quoted | {
        "packed": b'{"userData": "' + base64.b64encode(packed) + b'"}',
        "packed, bare": packed + b"{}",
    }


CLAIMS = (
    Claim("leaks.none", "No private DKIM key", ("R20",), no_private_key, Stage.SECOND),
    Claim("leaks.logs", "No private DKIM key", ("R20",), no_key_in_logs),
    Claim("leaks.control", "A planted key is found by the same search", ("R20",), search_finds, Stage.SECOND),
)
