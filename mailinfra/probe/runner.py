"""Measures all claims, side by side where they do not disturb each other."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from mailinfra.console import Progress, Steps
from mailinfra.probe import failover, leaks, links, publication, relay, residency, signing, steering
from mailinfra.probe.row import Claim, Row, Stage
from mailinfra.probe.site import Site
from mailinfra.sandbox.lifecycle import Sandbox
from mailinfra.sandbox.paths import SandboxError

CLAIMS: tuple[Claim, ...] = tuple(
    claim
    for group in (steering, residency, signing, leaks, links, publication, relay, failover)
    for claim in group.CLAIMS
)
"""Every claim, in the table's order."""
BEAT_SECONDS = 1.0
"""How often it is told what is still being measured."""
TITLES = {
    Stage.FIRST: "probe: mail, names and links",
    Stage.SECOND: "probe: secrets",
    Stage.LAST: "probe: an mx node dies while mail flows",
}


def chosen(only: Sequence[str] | None) -> tuple[Claim, ...]:
    """The claims whose id begins with one of `only`; all without it. Raises `SandboxError` when none does."""
    claims = tuple(claim for claim in CLAIMS if not only or any(claim.id.startswith(part) for part in only))
    if not claims:
        groups = sorted({claim.id.partition(".")[0] for claim in CLAIMS})
        raise SandboxError(
            f"--only: found {', '.join(only or ())}; allowed: a claim's id or its beginning: {', '.join(groups)}"
        )
    return claims


def run(sandbox: Sandbox, steps: Steps, only: Sequence[str] | None = None) -> list[Row]:
    """Measure the claims on a sandbox that runs. Whatever happens to one of them, every claim gives a row.

    Raises `SandboxError` when there is nothing to measure at all: no daemon, or no machines.
    """
    claims = chosen(only)
    site = Site(sandbox)
    if not sandbox.booted:
        raise SandboxError("servers are only recorded here, not booted, so there is nothing to measure")
    found: dict[str, list[Row]] = {}
    with steps.step("probe: outside hosts"):
        site.prepare()
    for stage in Stage:
        wanted = [claim for claim in claims if claim.stage is stage]
        if not wanted:
            continue
        with steps.step(TITLES[stage]) as progress:
            found |= measure(site, wanted, progress)
    return [row for claim in claims for row in found[claim.id]]


def measure(site: Site, claims: Sequence[Claim], progress: Progress) -> dict[str, list[Row]]:
    """The rows of these claims by the claims' ids, measured side by side: they wait for mail more than they work."""
    found: dict[str, list[Row]] = {}
    with ThreadPoolExecutor(max_workers=len(claims)) as pool:
        futures = {pool.submit(claim.rows, site): claim for claim in claims}
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=BEAT_SECONDS, return_when=FIRST_COMPLETED)
            found |= {futures[future].id: future.result() for future in done}
            left = [claim.title for claim in claims if claim.id not in found]
            progress(f"{len(found)} of {len(claims)} claims; {left[0] if left else 'done'}")
    return found
