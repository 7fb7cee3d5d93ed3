"""Holds SMTP sessions as a mail server or a mail program does. Runs on an outside host."""

import base64
import smtplib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

AUTHORITIES = "/etc/mailinfra-sandbox/public-authorities.pem"


class Implicit(smtplib.SMTP):
    """SMTP inside TLS from the first byte (RFC 8314 3.3)."""

    context: ssl.SSLContext

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        link = socket.create_connection((host, port), timeout)
        return self.context.wrap_socket(link, server_hostname=self._host)  # type: ignore[attr-defined]


def reply(code: int, text: bytes) -> list[Any]:
    """A reply as JSON data."""
    return [code, text.decode("ascii", "replace")]


def session(told: dict[str, Any]) -> dict[str, Any]:
    """One session, up to the first step that the server refuses.

    `address`, `port`, `tls` (`none`, `starttls`, `implicit`), `name` (for which the certificate must be good),
    optionally `login` (user, password), `sender`, `recipients`, `message` (base64 of its bytes), `seconds`.
    `connected` tells whether anybody listened, `accepted` when (seconds of the host's clock) the message was
    taken over.
    """
    found: dict[str, Any] = {"address": told["address"], "port": told["port"], "connected": False}
    found.update(
        banner="", tls="", cipher="", login=[], sender=[], recipients=[], data=[], accepted=None, error=""
    )
    context = ssl.create_default_context(cafile=AUTHORITIES)
    kind = Implicit if told["tls"] == "implicit" else smtplib.SMTP
    client = kind(timeout=told.get("seconds", 20), local_hostname=socket.getfqdn())
    if isinstance(client, Implicit):
        client.context = context
    client._host = told["name"]  # type: ignore[attr-defined]  # the name that TLS checks; the address is what we connect to
    try:
        code, text = client.connect(told["address"], told["port"])
        found["connected"], found["banner"] = True, text.decode("ascii", "replace")
        if code != 220:
            return found
        client.ehlo()
        if told["tls"] == "starttls":
            client.starttls(context=context)
            client.ehlo()
        if isinstance(client.sock, ssl.SSLSocket):
            found["tls"], found["cipher"] = client.sock.version(), (client.sock.cipher() or ("",))[0]
        if told.get("login"):
            try:
                found["login"] = reply(*client.login(*told["login"]))
            except smtplib.SMTPAuthenticationError as error:
                found["login"] = [error.smtp_code, str(error.smtp_error)]
                return found
        if "sender" in told:
            transaction(client, told, found)
        client.quit()
    except (OSError, smtplib.SMTPException) as error:
        found["error"] = f"{type(error).__name__}: {error}"
    finally:
        client.close()
    return found


def transaction(client: smtplib.SMTP, told: dict[str, Any], found: dict[str, Any]) -> None:
    """MAIL, RCPT, and DATA where there is a message and somebody to get it."""
    options = ["BODY=8BITMIME"] if client.has_extn("8bitmime") and told.get("message") else []
    found["sender"] = reply(*client.mail(told["sender"], options))
    if found["sender"][0] != 250:
        return
    for recipient in told.get("recipients", ()):
        # As it is, without smtplib's own idea of what an address looks like.
        found["recipients"].append(reply(*client.docmd("RCPT", f"TO:<{recipient}>")))
    if told.get("message") and any(code in (250, 251) for code, _ in found["recipients"]):
        found["data"] = reply(*client.data(base64.b64decode(told["message"])))
        if found["data"][0] == 250:
            found["accepted"] = time.time()


def main(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All sessions, side by side."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(session, told))
