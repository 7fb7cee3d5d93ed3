"""Tests of mailinfra.probe.leaks: a key anywhere is a failure, and is never printed."""

import base64
import gzip
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailinfra.probe import leaks, signing
from mailinfra.probe.row import Finding, ProbeError
from mailinfra.probe.signing import PublicKey
from mailinfra.probe.site import Site
from tests.probe_helpers import Made

KEY = rsa.generate_private_key(65537, 2048)
MODULUS = KEY.public_key().public_numbers().n
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "public_keys", lambda site: [PublicKey("s", "example.test", MODULUS, "")])


def spec(user_data: bytes) -> Any:
    def get(id: str) -> dict[str, Any]:
        text = base64.b64encode(user_data).decode()
        return {"spec": {"user_data": text, "metadata": {}, "volumes": {}}}

    return get


def site(
    folder: Path, state: str = "{}", user_data: bytes = b"#!/bin/sh\n", journal: str = "started\n"
) -> Site:
    executed = {"code": 0, "stdout": journal, "stderr": ""}
    control = {"machines.get": spec(user_data), "machines.execute": executed}
    made = Made(control=control, state={"deployment": state}).site(folder)
    made._execute = lambda *_: executed  # type: ignore[method-assign]
    for machine in made.machines.values():
        (folder / "machines" / machine / "disk" / "upper").mkdir(parents=True)
        (folder / "machines" / machine / "disk" / "upper" / "file").write_text("nothing")
        (folder / "machines" / machine / "console.log").write_text("booted")
    return made


def places(found: Any) -> dict[str, bool]:
    return {finding.subject: finding.ok for finding in found}


def everywhere(made: Site) -> list[Finding]:
    return [*leaks.no_private_key(made), *leaks.no_key_in_logs(made)]


def test_clean_places_are_clean(tmp_path: Path) -> None:
    assert places(everywhere(site(tmp_path))) == {
        "state": True, "user-data": True, "nodes' disks": True, "logs": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("where", "put"),
    [
        ("state", {"state": PEM}),
        ("state", {"state": base64.b64encode(gzip.compress(PEM.encode())).decode()}),
        ("user-data", {"user_data": gzip.compress(f"#!/bin/sh\ncat <<E\n{PEM}E\n".encode())}),
        ("logs", {"journal": f"signed with {PEM}"}),
    ],
)
def test_a_key_is_found_where_it_leaked(tmp_path: Path, where: str, put: dict[str, Any]) -> None:
    findings = everywhere(site(tmp_path, **put))
    assert [name for name, ok in places(findings).items() if not ok] == [where]
    detail = next(finding.detail for finding in findings if not finding.ok)
    assert "a DKIM key as" in detail
    assert "BEGIN" not in detail
    assert PEM.splitlines()[1] not in detail


def test_a_key_on_a_disk_is_found_with_its_file(tmp_path: Path) -> None:
    made = site(tmp_path)
    machine = made.machine(made.plan.nodes[3])
    (tmp_path / "machines" / machine / "disk" / "upper" / "leak").write_text(PEM)
    findings = everywhere(made)
    assert [name for name, ok in places(findings).items() if not ok] == ["nodes' disks"]
    assert f"{machine}/disk/upper/leak" in next(finding.detail for finding in findings if not finding.ok)


def test_a_foreign_rsa_key_is_a_failure_too(tmp_path: Path) -> None:
    made = site(tmp_path)
    other = rsa.generate_private_key(65537, 2048)
    text = other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "logs").mkdir(exist_ok=True)
    (tmp_path / "logs" / "a.log").write_bytes(text)
    finding = next(f for f in everywhere(made) if not f.ok)
    assert (finding.subject, finding.measured) == ("logs", 1)
    assert "an RSA key as DER" in finding.detail


def test_without_published_keys_there_is_nothing_to_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "public_keys", lambda site: [])
    with pytest.raises(ProbeError, match="no DKIM key is published"):
        list(leaks.no_private_key(site(tmp_path)))


def test_planted_forms_are_all_found_in_documents(tmp_path: Path) -> None:
    made = site(tmp_path)
    texts = leaks.as_texts(leaks.planted_forms(KEY))
    assert len(texts) == len(leaks.planted_forms(KEY)) + 2
    for form, text in texts.items():
        for look in (leaks.in_state, leaks.in_user_data):
            assert look(made, plant=text, also=[MODULUS]).found, form
            assert not look(made).found
