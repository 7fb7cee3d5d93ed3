"""Messages of the probe: each with a token in a header of its own by which it is found again."""

import base64
import secrets
import time

from mailinfra.probe.remote.flow import HEADER


def token() -> str:
    """A random mark: hexadecimal, so that no encoding of a message changes it."""
    return secrets.token_hex(12)


def message(sender: str, recipient: str, mark: str) -> bytes:
    """A message with the mark in its header, subject, text, 8-bit text and base64."""
    wrapped = base64.encodebytes(f"An attachment with {mark} in it.\r\n".encode()).replace(b"\n", b"\r\n")
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
    head = (
        f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: Probe {mark}\r\nDate: {date}\r\n"
        f"Message-ID: <{mark}@{sender.partition('@')[2]}>\r\n{HEADER}: {mark}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="cut"\r\n\r\n'
        "--cut\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        f"In plain text: {mark}\r\nGrüße an {mark}, schöne Straße\r\n.\r\n..\r\nFrom here on\r\n"
        '--cut\r\nContent-Type: application/octet-stream; name="probe.bin"\r\n'
        "Content-Transfer-Encoding: base64\r\n\r\n"
    )
    return head.encode() + wrapped + b"--cut--\r\n"


def coded(data: bytes) -> str:
    """Bytes as the scripts on machines take them."""
    return base64.b64encode(data).decode()
