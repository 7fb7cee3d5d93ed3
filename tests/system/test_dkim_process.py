"""The milter as a process of its own, with a SoftHSM token, judged by OpenDKIM as the verifier."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dkim_helpers import MESSAGE
from tests.milter_client import Client, packet

pytestmark = pytest.mark.system

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token with the key `s1`, made inside it; the folder with its config, PIN and public key."""
    for program in ("softhsm2-util", "pkcs11-tool", "opendkim"):
        assert shutil.which(program), f"install softhsm2, opensc and opendkim: {program} is missing"
    folder = tmp_path_factory.mktemp("milter")
    (folder / "tokens").mkdir()
    (folder / "pin").write_text("1234\n")
    (folder / "softhsm.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    tool = ["pkcs11-tool", "--module", MODULE, "--login", "--pin", "1234", "--token-label", "tests"]
    for command in (
        [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "tests",
            "--so-pin",
            "12345678",
            "--pin",
            "1234",
        ],
        [*tool, "--keypairgen", "--key-type", "rsa:2048", "--label", "s1"],
        [
            *tool,
            "--read-object",
            "--type",
            "pubkey",
            "--label",
            "s1",
            "--output-file",
            str(folder / "s1.der"),
        ],
    ):
        subprocess.run(command, env=environment(folder), check=True, capture_output=True)
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm.conf"), **more}


def config(folder: Path, name: str, **changes: Any) -> Path:
    signer = {
        "kind": "pkcs11",
        "module": MODULE,
        "token": "tests",
        "label": "s1",
        "pin_file": str(folder / "pin"),
    }
    key = {"selector": "s1", "domains": ["example.test"], "signer": signer}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"listen": f"unix:{folder}/{name}.sock", "keys": [key], **changes}))
    return path


@contextlib.contextmanager
def running(
    command: list[str], path: Path, env: dict[str, str], **how: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a milter until the end of the block; `path` is where it listens."""
    process = subprocess.Popen(command, env=env, **how)
    try:
        until = time.monotonic() + 20
        while True:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(str(path))
                break
            assert process.poll() is None, f"{command} ended with {process.returncode}"
            assert time.monotonic() < until, f"{command} does not listen"
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stderr, process.stdout):
            if stream:
                stream.close()


def milter(folder: Path, name: str, **how: Any) -> Any:
    command = [sys.executable, "-m", "mailinfra.dkim.milter", "--config", str(folder / f"{name}.json")]
    return running(command, folder / f"{name}.sock", environment(folder), **how)


@pytest.fixture
def opendkim(token: Path) -> Iterator[str]:
    """OpenDKIM as a verifier that knows the key; its address."""
    public = b64encode((token / "s1.der").read_bytes()).decode()
    (token / "keys").write_text(f"s1._domainkey.example.test v=DKIM1; k=rsa; p={public}\n")
    (token / "opendkim.conf").write_text(
        f"Mode v\nSocket local:{token}/opendkim.sock\nTestPublicKeys {token}/keys\nSyslog no\nBackground no\n"
        "AuthservID verifier.test\nAlwaysAddARHeader yes\n"
    )
    command = ["opendkim", "-f", "-x", str(token / "opendkim.conf")]
    with running(command, token / "opendkim.sock", environment(token)):
        yield f"unix:{token}/opendkim.sock"
    (token / "opendkim.sock").unlink(missing_ok=True)


async def pass_on(address: str, message: bytes) -> Any:
    client = await Client.open(address)
    await client.connect()
    outcome = await client.send(message)
    await client.close()
    return outcome


def judge(address: str, message: bytes) -> str:
    """Return OpenDKIM's word on a message: pass, fail, none …"""
    outcome = asyncio.run(pass_on(address, message))
    results = [value for name, value in outcome.added if name == b"Authentication-Results"]
    found = re.search(rb"dkim=(\w+)", b" ".join(results))
    assert found, outcome
    return found[1].decode()


HEAD = MESSAGE.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        HEAD + b"\r\n\r\n",
        HEAD + b"\r\n\r\n\r\n\r\n \t \r\n",
        HEAD + b"\r\n\r\n" + b"a  b\t\tc \r\n" * 40_000,
        HEAD + b"\r\n\r\n" + b"x" * 65534 + b"\r\n" + b" " * 70_000 + b"\r\nend\r\n",
        HEAD + b"\r\n\r\n8-bit \xc3\xa9\xff and \x00\x0b\x0c\r\n",
        HEAD.replace(b"Subject:", b"Subject:" + b" " * 30_000) + b"\r\n\r\ntext\r\n",
        HEAD.replace(b"Subject: ", b"Subject: \xe9\xff 8-bit\r\n\t \r\n more") + b"\r\n\r\ntext\r\n",
        HEAD + b"\r\nTo: twice@example.test\r\nList-Id: <x>\r\nList-Id: <y>\r\n\r\ntext\r\n",
    ],
    ids=lambda message: f"{len(message)} octets",
)
def test_opendkim_accepts_what_we_sign(token: Path, opendkim: str, message: bytes) -> None:
    config(token, "verify")
    with milter(token, "verify"):
        outcome = asyncio.run(pass_on(f"unix:{token}/verify.sock", message))
    assert outcome.verdict == "c"
    assert judge(opendkim, message) == "none"
    assert judge(opendkim, outcome.apply(message)) == "pass"
    assert judge(opendkim, outcome.apply(message.replace(b"user@", b"ceo@"))) == "fail"


def test_a_milter_killed_in_the_middle_of_a_message(token: Path) -> None:
    """The MTA sees a lost connection, which is a tempfail; the next milter takes the socket over."""
    config(token, "killed")
    address = f"unix:{token}/killed.sock"

    async def half() -> None:
        client = await Client.open(address)
        client.writer.write(
            packet(b"M", b"<user@example.test>\0") + packet(b"L", b"From\0user@example.test\0")
        )
        process.kill()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.send(MESSAGE)
        client.writer.close()

    with milter(token, "killed") as process:
        asyncio.run(half())
    with milter(token, "killed"):
        assert asyncio.run(pass_on(address, MESSAGE)).added


def test_the_socket_is_not_taken_from_a_living_one(token: Path) -> None:
    path = config(token, "twice")
    with milter(token, "twice"):
        command = [sys.executable, "-m", "mailinfra.dkim.milter", "--config", str(path)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 78
    assert "somebody answers at" in second.stderr


@pytest.mark.parametrize("content", [None, "{", '{"listen": "x", "keys": []}', "[]"])
def test_a_wrong_config_is_one_line(token: Path, content: str | None) -> None:
    path = token / "wrong.json"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    command = [sys.executable, "-m", "mailinfra.dkim.milter", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78
    assert done.stderr.startswith(f"{path}: ")
    assert done.stderr.count("\n") == 1


def test_signals(token: Path) -> None:
    path = config(token, "signals")
    address = f"unix:{token}/signals.sock"
    with milter(token, "signals", stderr=subprocess.PIPE) as process:
        assert process.stderr
        assert asyncio.run(pass_on(address, MESSAGE)).added
        config(token, "signals", require_auth=True)
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline() == b"config read again\n"
        assert asyncio.run(pass_on(address, MESSAGE)).verdict == "530 5.7.0 Authentication required"
        assert b"rejected: 530" in process.stderr.readline()
        path.write_text("{")
        process.send_signal(signal.SIGHUP)
        assert b"the old config stays" in process.stderr.readline()
        process.send_signal(signal.SIGUSR1)
        assert b" signed=1 tempfailed=0 rejected=1 garbage=0 " in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr.read() == b""


def test_systemd_holds_the_socket(token: Path) -> None:
    """Two workers on one passed socket; READY is told; while none runs, an MTA waits instead of failing."""
    path = config(token, "passed", listen="unix:/nowhere")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        listener.bind(str(token / "passed.sock"))
        listener.listen()
        ready.bind(str(token / "notify.sock"))
        ready.settimeout(20)

        async def early() -> Any:
            task = asyncio.create_task(pass_on(f"unix:{token}/passed.sock", MESSAGE))
            await asyncio.sleep(0)
            arguments = ["-m", "mailinfra.dkim.milter", "--config", str(path)]
            for _ in range(2):
                env = environment(token, NOTIFY_SOCKET=str(token / "notify.sock"))
                command = [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno()), *arguments]
                processes.append(subprocess.Popen(command, env=env, pass_fds=[listener.fileno()]))
            return await task

        processes: list[subprocess.Popen[bytes]] = []
        try:
            assert asyncio.run(early()).added
            assert [ready.recv(100) for _ in processes] == [b"READY=1"] * 2
            for process in processes:
                process.send_signal(signal.SIGTERM)
            assert [process.wait(10) for process in processes] == [0, 0]
        finally:
            for process in processes:
                process.kill()
                process.wait()
