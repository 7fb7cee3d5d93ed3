"""The PKCS#11 signer against a real SoftHSM token, in processes of its own: the module reads its config once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
START = f"""
import hashlib, threading
from mailinfra.dkim.signers import SignError
from mailinfra.dkim.signers.pkcs11 import Key
digest = hashlib.sha256(b"message").digest()
def key(token="tests", label="s1", pin_file="pin"):
    return Key(module={MODULE!r}, token=token, label=label, pin_file=pin_file)
def fails(k):
    try:
        k.sign(digest)
    except SignError as error:
        return error
    raise AssertionError("signed")
"""


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token with two keys made inside it, `s1` and `s2`, and `s3` twice; the folder of its config."""
    for program in ("softhsm2-util", "pkcs11-tool"):
        assert shutil.which(program), f"install softhsm2 and opensc: {program} is missing"
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "pin").write_text("1234\n")
    (folder / "wrong").write_text("9999\n")
    (folder / "softhsm.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    for label, pin in (("other", "5678"), ("tests", "1234")):
        pins = ("--so-pin", "12345678", "--pin", pin)
        run(folder, "softhsm2-util", "--init-token", "--free", "--label", label, *pins)
    for number, label in enumerate(("s1", "s2", "s3", "s3")):
        tool(folder, "--keypairgen", "--key-type", "rsa:2048", "--label", label, "--id", f"0{number}")
    tool(
        folder, "--read-object", "--type", "pubkey", "--label", "s1", "--output-file", str(folder / "s1.der")
    )
    return folder


def run(folder: Path, *command: str) -> str:
    env = {**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm.conf"), "CREDENTIALS_DIRECTORY": str(folder)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(folder: Path, *arguments: str) -> None:
    run(
        folder,
        "pkcs11-tool",
        "--module",
        MODULE,
        "--token-label",
        "tests",
        "--login",
        "--pin",
        "1234",
        *arguments,
    )


def python(folder: Path, script: str) -> str:
    return run(folder, sys.executable, "-W", "error", "-c", START + script).strip()


def test_signature_is_that_of_the_key(token: Path) -> None:
    signature = bytes.fromhex(python(token, "print(key().sign(digest).hex())"))
    public = serialization.load_der_public_key((token / "s1.der").read_bytes())
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())


def test_many_threads_and_two_keys(token: Path) -> None:
    """Under C_Initialize(NULL) this crashes the process."""
    script = """
keys, wrong = (key(), key(label="s2")), []
right = [k.sign(digest) for k in keys]
assert right[0] != right[1]
def work(n):
    for _ in range(50):
        if keys[n % 2].sign(digest) != right[n % 2]:
            wrong.append(n)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert not wrong
print(max(len(k.idle) for k in keys) <= 5)
"""
    assert python(token, script) == "True"


def test_forked_processes(token: Path) -> None:
    script = """
import os
k = key()
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        os._exit(0 if len(k.sign(digest)) == 256 else 1)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""
    assert python(token, script) == "[0, 0]"


def test_a_refused_pin_is_sent_once(token: Path) -> None:
    script = """
k, sent = key(pin_file="wrong"), []
call = Key.call
Key.call = lambda self, f, *a, **b: (sent.append(f), call(self, f, *a, **b))[1]
errors = [fails(k) for _ in range(5)]
print([e.again for e in errors], sent.count(18), "the PIN in" in str(errors[4]))
"""
    assert python(token, script) == "[False, False, False, False, False] 1 True"


def test_errors_name_what_is_missing(token: Path) -> None:
    script = """
for k in (key(token="absent"), key(label="absent"), key(label="s3"), key(pin_file="absent")):
    error = fails(k)
    print(error.again, str(error).replace("\\n", " "))
k = Key(module="/nowhere.so", token="t", label="l", pin_file="pin")
print(fails(k).again, fails(k))
"""
    lines = python(token, script).splitlines()
    assert lines[0] == f"True {MODULE}: no token is labelled 'absent'"
    assert lines[1] == "False tests: 0 private keys are labelled 'absent', not one"
    assert lines[2] == "False tests: 2 private keys are labelled 's3', not one"
    assert "No such file" in lines[3]
    assert "/nowhere.so" in lines[4]


def test_a_lost_session_is_opened_again(token: Path) -> None:
    script = """
import ctypes
k = key()
k.sign(digest)
slot = k.slot()
k.functions[14](ctypes.c_ulong(slot))  # C_CloseAllSessions: what a reset of the token does
print(fails(k).again, len(k.sign(digest)))
"""
    assert python(token, script) == "True 256"


def test_a_key_that_is_dropped_gives_its_sessions_back(token: Path) -> None:
    script = """
called, call = [], Key.call
Key.call = lambda self, f, *a, **b: (called.append(f), call(self, f, *a, **b))[1]
k = key()
for _ in range(5):
    other = key()
    other.sign(digest)
    del other
k.sign(digest)
print(called.count(12), called.count(13))  # C_OpenSession, C_CloseSession
"""
    assert python(token, script) == "6 5"
