"""Waits for messages in an outside host's inbox and has each judged as a receiver does. Runs on an outside host."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

INBOX = "/var/mail/outside/inbox"
VERIFIER = "/usr/local/bin/verify-message"
PAUSE_SECONDS = 0.1


def find(folder: Path, tokens: set[str], passed: set[str]) -> dict[str, Path]:
    """Messages with one of the tokens, by token. `passed` names the files that are of no interest."""
    found = {}
    for file in folder.glob("new/*"):
        if file.name in passed:
            continue
        head = file.read_bytes()[:65536].decode("latin-1")
        passed.add(file.name)
        for token in tokens:
            if token in head:
                found[token] = file
    return found


def main(told: dict[str, Any]) -> dict[str, Any]:
    """For each of `tokens`: when its message was written (seconds of the host's clock) and the verdict on it.

    What has not come after `seconds` is left out. What was judged is removed.
    """
    folder, wanted = Path(told.get("folder", INBOX)), set(told["tokens"])
    end, passed = time.monotonic() + told["seconds"], set[str]()
    found: dict[str, Path] = {}
    while wanted - set(found):
        found |= find(folder, wanted - set(found), passed)
        if time.monotonic() > end:
            break
        time.sleep(PAUSE_SECONDS)
    verdicts = {}
    for token, file in found.items():
        command = [told.get("verifier", VERIFIER), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        verdict = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()[-300:]}
        verdicts[token] = {"arrived": file.stat().st_mtime, "verdict": verdict}
        file.unlink()
    return verdicts
