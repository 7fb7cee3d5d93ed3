"""What dsync runs as its remote command: hands its standard input and output through the gate to the replica.

`link.py SOCKET USER EPOCH`. Uses the standard library only, so that it starts fast (`python3 -I -S`); dsync adds an
argument of its own at the end.
"""

import os
import socket
import sys
import threading

PIECE_BYTES = 1 << 16
TEMPORARY_FAILURE = 75
"""EX_TEMPFAIL of sysexits.h, what dsync itself ends with when its other side is lost."""


def answer(link: socket.socket) -> bytes:
    """The gate's line, and not a byte more: what follows is dsync's."""
    line = b""
    while not line.endswith(b"\n") and len(line) < 512:
        piece = link.recv(1)
        if not piece:
            break
        line += piece
    return line


def upwards(link: socket.socket) -> None:
    """From dsync to the gate, until dsync ends."""
    try:
        while piece := os.read(0, PIECE_BYTES):
            link.sendall(piece)
        link.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other direction sees it too


def main(path: str, user: str, epoch: str) -> int:
    """The exit code."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(60)
    try:
        link.connect(path)
        link.sendall(f"SYNC {user} {epoch}\n".encode())
        line = answer(link)
    except OSError as error:
        line = str(error).encode()
    if not line.startswith(b"OK "):
        sys.stderr.write(f"the replica is not there: {line.decode(errors='replace').strip()}\n")
        return TEMPORARY_FAILURE
    link.settimeout(None)
    threading.Thread(target=upwards, args=(link,), daemon=True).start()
    try:
        while piece := link.recv(PIECE_BYTES):
            while piece:
                piece = piece[os.write(1, piece) :]
    except OSError:
        return TEMPORARY_FAILURE
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    # Not sys.exit: the thread may be waiting for a dsync that waits for this.
    os._exit(main(*sys.argv[1:4]))
