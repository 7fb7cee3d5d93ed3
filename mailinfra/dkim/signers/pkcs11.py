"""A key in any PKCS#11 token (2.40), through its C interface; ctypes frees the GIL in a call.

python-pkcs11 is not used: Debian has no package of it, and it initialises the module without
CKF_OS_LOCKING_OK, with which SoftHSM and others crash as soon as two threads sign.
"""

import contextlib
import fcntl
import os
import threading
from collections import deque
from ctypes import (
    CDLL,
    CFUNCTYPE,
    POINTER,
    Structure,
    byref,
    c_ubyte,
    c_ulong,
    c_void_p,
    cast,
    create_string_buffer,
)
from pathlib import Path
from typing import Any

from mailinfra.dkim.signers import DIGEST_INFO, SignError

# Places in CK_FUNCTION_LIST, which the standard fixes.
INITIALIZE, GET_SLOT_LIST, GET_TOKEN_INFO, OPEN_SESSION, CLOSE_SESSION, LOGIN = 0, 4, 6, 12, 13, 18
FIND_INIT, FIND, FIND_FINAL, SIGN_INIT, SIGN = 26, 27, 28, 42, 43

CKF_OS_LOCKING_OK, CKF_SERIAL_SESSION, CKU_USER = 2, 4, 1
CKA_CLASS, CKA_LABEL, CKO_PRIVATE_KEY, CKM_RSA_PKCS = 0, 3, 3, 1
CKR_USER_ALREADY_LOGGED_IN, CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x100, 0x191
PIN_ERRORS = range(0xA0, 0xA5)


class FunctionList(Structure):
    """CK_FUNCTION_LIST."""

    _fields_ = (("version", c_ubyte * 2), ("functions", c_void_p * 68))


class Item(Structure):
    """CK_ATTRIBUTE and CK_MECHANISM, which are laid out alike."""

    _fields_ = (("type", c_ulong), ("value", c_void_p), ("length", c_ulong))


class InitializeArgs(Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (("mutexes", c_void_p * 4), ("flags", c_ulong), ("reserved", c_void_p))


class CallError(Exception):
    """A PKCS#11 function returned `code`, not CKR_OK and none of those that are as good."""

    def __init__(self, code: int) -> None:
        super().__init__(f"CKR {code:#x}")
        self.code = code


class Key:
    """The RSA private key with a label, in the token with a label.

    `module` is the path of the PKCS#11 module; `pin_file` a file that holds the user's PIN (a bare name is a
    systemd credential). The module is loaded at the first signature, so a process may fork before that.
    """

    def __init__(self, *, module: str, token: str, label: str, pin_file: str) -> None:
        self.module, self.token, self.label = module, token, label
        self.pin_file = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), pin_file)
        self.idle: deque[tuple[int, int]] = deque()
        self.lock = threading.Lock()
        self.functions: list[Any] = []
        self.refused = ""

    def sign(self, digest: bytes) -> bytes:
        """See `Signer.sign`. A PIN that was refused is not sent again, for tokens lock themselves."""
        session = 0
        try:
            try:
                session, key = self.idle.pop()
            except IndexError:
                with self.lock:
                    session = self.open()
                key = self.find(session)
            data, out, size = DIGEST_INFO + digest, create_string_buffer(1024), c_ulong(1024)
            self.call(SIGN_INIT, session, byref(Item(CKM_RSA_PKCS)), key)
            self.call(SIGN, session, data, len(data), out, byref(size))
        except (CallError, OSError, AttributeError) as error:
            self.close(session)
            raise SignError(f"{self.module}: {error}") from error
        except SignError:
            self.close(session)
            raise
        self.idle.append((session, key))
        return out.raw[: size.value]

    def call(self, function: int, *args: Any, good: tuple[int, ...] = (0,)) -> None:
        code = self.functions[function](*(c_ulong(arg) if isinstance(arg, int) else arg for arg in args))
        if code not in good:
            raise CallError(code)

    def open(self) -> int:
        """Return a session in which the user is logged in; loads the module when it is the first."""
        if self.refused:
            raise SignError(self.refused, again=False)
        with self.pin_file.open("rb") as file:
            # SoftHSM's processes trip over each other when they start; ours take turns.
            fcntl.flock(file, fcntl.LOCK_EX)
            pin = file.read().strip()
            if not self.functions:
                table = POINTER(FunctionList)()
                CDLL(self.module).C_GetFunctionList(byref(table))
                self.functions = [CFUNCTYPE(c_ulong)(address or 0) for address in table.contents.functions]
            arguments = InitializeArgs(flags=CKF_OS_LOCKING_OK)
            self.call(INITIALIZE, byref(arguments), good=(0, CKR_CRYPTOKI_ALREADY_INITIALIZED))
            session = c_ulong()
            self.call(OPEN_SESSION, self.slot(), CKF_SERIAL_SESSION, None, None, byref(session))
            try:
                # A login holds for all sessions of the process; it ends with the last of them.
                self.call(LOGIN, session, CKU_USER, pin, len(pin), good=(0, CKR_USER_ALREADY_LOGGED_IN))
            except CallError as error:
                self.close(session.value)
                if error.code in PIN_ERRORS:
                    self.refused = f"{self.module}: the PIN in {self.pin_file} is refused: {error}"
                    raise SignError(self.refused, again=False) from error
                raise
        return session.value

    def slot(self) -> int:
        """Return the slot that holds the token."""
        slots, count, info = (c_ulong * 256)(), c_ulong(256), create_string_buffer(512)
        self.call(GET_SLOT_LIST, 1, slots, byref(count))
        for slot in slots[: count.value]:
            self.call(GET_TOKEN_INFO, slot, info)
            if info.raw[:32].rstrip() == self.token.encode():
                return slot
        raise SignError(f"{self.module}: no token is labelled {self.token!r}")

    def find(self, session: int) -> int:
        """Return the handle of the private key."""
        kind, label = c_ulong(CKO_PRIVATE_KEY), create_string_buffer(self.label.encode())
        wanted = (Item * 2)(
            Item(CKA_CLASS, cast(byref(kind), c_void_p), 8),
            Item(CKA_LABEL, cast(label, c_void_p), len(label) - 1),
        )
        keys, count = (c_ulong * 2)(), c_ulong()
        self.call(FIND_INIT, session, wanted, 2)
        self.call(FIND, session, keys, 2, byref(count))
        self.call(FIND_FINAL, session)
        if count.value != 1:
            raise SignError(
                f"{self.token}: {count.value} private keys are labelled {self.label!r}, not one", False
            )
        return keys[0]

    def close(self, session: int) -> None:
        """Give a session back to the token."""
        if session:
            with contextlib.suppress(CallError):
                self.call(CLOSE_SESSION, session)

    def __del__(self) -> None:
        """Close what a reloaded config leaves behind: tokens have few sessions."""
        for session, _ in self.idle:
            self.close(session)
