"""The agent: every few seconds it pulls what the control bucket has for this node, and does the issuer's work."""

import logging
import signal
import threading
from collections.abc import Callable

from mailinfra.node.agent.bucket import control
from mailinfra.node.agent.directory import Directory
from mailinfra.node.agent.enrol import Enrol
from mailinfra.node.agent.node import Node, load
from mailinfra.node.agent.trust import Trust

log = logging.getLogger("agent")

INTERVAL = 10.0
"""Seconds between two looks at the bucket."""


def steps(node: Node) -> list[Callable[[], None]]:
    """What the agent of a node does each time, in order."""
    bucket = control(node)
    work: list[Callable[[], None]] = [Trust(bucket, node.tls / "anchors.pem").step]
    if node.ca_key:
        # Only the issuer's nodes have these modules.
        from mailinfra.node.agent.issuer import Issuer
        from mailinfra.node.agent.kms import ca

        work.append(Issuer(node, bucket, ca(node)).step)
    return [*work, Enrol(node, bucket).step, Directory(node, bucket).step]


def attempt(step: Callable[[], None], last: dict[Callable[[], None], str]) -> None:
    """Do one step; log what goes wrong once, until it changes, for it comes again in seconds."""
    text = ""
    try:
        step()
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    if text and text != last.get(step):
        log.warning("%s: %s", step.__self__.__class__.__name__.lower(), text)  # type: ignore[attr-defined]
    last[step] = text


def main() -> None:
    """Work until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    work, last = steps(load()), dict[Callable[[], None], str]()
    while not stop.is_set():
        for step in work:
            attempt(step, last)
        # A node that is just being set up waits for others' answers: it looks more often.
        stop.wait(INTERVAL if not any(last.values()) else 2.0)


if __name__ == "__main__":
    main()
