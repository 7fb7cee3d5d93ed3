"""The command line: `mailinfra`."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mailinfra.console import Steps
from mailinfra.errors import UserError

if TYPE_CHECKING:
    from mailinfra.failover import Outcome
    from mailinfra.fleet import Fleet
    from mailinfra.publish import Store

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="A mail fleet as code."
)
sandbox_app = typer.Typer(
    no_args_is_help=True, help="The whole fleet on this machine, with no account anywhere."
)
directory_app = typer.Typer(no_args_is_help=True, help="The users: their addresses, homes and aliases.")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(directory_app, name="directory")

Name = Annotated[str, typer.Option("--name", help="Which sandbox; several can run side by side.")]
Project = Annotated[Path, typer.Option("--project", help="The folder with Pulumi.yaml.")]
Stack = Annotated[str, typer.Option("--stack", help="The stack whose fleet it is.")]


@sandbox_app.command("up")
def sandbox_up(name: Name = "sandbox", project: Project = Path(), stack: Stack = "sandbox") -> None:
    """Bring the sandbox up, or up to date: engine, machine images, clouds, `pulumi up`, users, mail servers."""
    from mailinfra.sandbox import lifecycle
    from mailinfra.sandbox.paths import Paths

    steps = Steps()
    sandbox = lifecycle.up(Paths.of(name), project.resolve(), stack, steps)
    nodes, domains = len(sandbox.plan.nodes), ", ".join(sandbox.plan.fleet.domains)
    verb = "serve" if sandbox.booted else "are recorded, not booted, for"
    steps.say(f"{nodes} nodes {verb} {domains} ({steps.seconds:.0f} s)")


@sandbox_app.command("down")
def sandbox_down(name: Name = "sandbox") -> None:
    """Take the sandbox away: nothing of it is left."""
    from mailinfra.sandbox import lifecycle
    from mailinfra.sandbox.paths import Paths

    lifecycle.down(Paths.of(name), Steps())


@sandbox_app.command("status")
def sandbox_status(
    name: Name = "sandbox",
    project: Project = Path(),
    stack: Stack = "sandbox",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the machines, their health, and for each resource type whether it is live or only recorded."""
    from mailinfra.sandbox import status
    from mailinfra.sandbox.lifecycle import connect
    from mailinfra.sandbox.paths import Paths

    found = status.collect(connect(Paths.of(name), project.resolve(), stack))
    status.show(found, output(), as_json=as_json)


@directory_app.command("publish")
def directory_publish(
    users: Annotated[Path, typer.Argument(help="The users file: CSV, JSON lines or YAML.")],
    stack: Stack = "prod",
    project: Project = Path(),
    allow_moves: Annotated[
        bool,
        typer.Option(
            "--allow-moves", help="Publish although mailboxes change their region; their mail stays behind."
        ),
    ] = False,
) -> None:
    """Place the users of a file by the fleet's rules and tell every region of the stack, with your cloud accounts."""
    from mailinfra.project import Project as PulumiProject
    from mailinfra.publish import publish_file
    from mailinfra.stores import stack_stores

    fleet = PulumiProject(project).fleet(stack)
    report = publish_file(fleet, users, stack_stores(project, stack), allow_moves=allow_moves)
    for line in report.lines():
        sys.stdout.write(f"{line}\n")


Regions = Annotated[list[str], typer.Argument(metavar="REGION...", help="The clouds' names of the regions.")]


AnyStack = Annotated[str, typer.Option("--stack", help="The stack; prod, or sandbox with --name.")]
Running = Annotated[str, typer.Option("--name", help="A sandbox that runs, instead of your clouds.")]


@app.command("failover")
def failover(regions: Regions, stack: AnyStack = "", project: Project = Path(), name: Running = "") -> None:
    """Regions are lost: make their users' replicas their homes. Exit code 1 if some have none that is there."""
    from mailinfra.failover import fail_over

    _moved(fail_over, regions, _fleet_and_stores(name, project, stack))


@app.command("failback")
def failback(regions: Regions, stack: AnyStack = "", project: Project = Path(), name: Running = "") -> None:
    """Regions are back: bring their users home again."""
    from mailinfra.failover import fail_back

    _moved(fail_back, regions, _fleet_and_stores(name, project, stack))


def _moved(
    move: Callable[..., "Outcome"], regions: list[str], where: "tuple[Fleet, Mapping[str, Store]]"
) -> None:
    outcome = move(*where, regions)
    for line in outcome.lines():
        sys.stdout.write(f"{line}\n")
    if not outcome.whole:
        raise typer.Exit(1)


@app.command("restore")
def restore(
    mailbox: Annotated[str, typer.Option("--mailbox", help="One user's mailbox, by address.")] = "",
    message: Annotated[
        str,
        typer.Option(
            "--message", help="With --mailbox: only the message of this Message-ID, angles and all."
        ),
    ] = "",
    domain: Annotated[str, typer.Option("--domain", help="Every mailbox of a domain.")] = "",
    region: Annotated[str, typer.Option("--region", help="Every mailbox at home in a region.")] = "",
    at: Annotated[
        str, typer.Option("--at", help="The newest copy that is not later, like 2026-11-23T10:00:00Z; now.")
    ] = "",
    to: Annotated[
        str, typer.Option("--to", help="The region whose nodes do it: the home, or the replica's; the home.")
    ] = "",
    source: Annotated[str, typer.Option("--from", help="The region whose copies are taken; the home.")] = "",
    apply: Annotated[
        bool,
        typer.Option("--apply", "--yes", help="Do it. Without this it is only said what would come back."),
    ] = False,
    limit: Annotated[float, typer.Option("--wait", help="Seconds to wait for the nodes.")] = 3600.0,
    stack: AnyStack = "",
    project: Project = Path(),
    name: Running = "",
) -> None:
    """Bring mail back from the vault, beside what is there: nothing is overwritten, deleted or doubled.

    Without --apply nothing is changed. Exit code 0: done; 1: refused, or not all of it could be done.
    """
    from mailinfra.backup import restore as task

    scope = task.Scope(mailbox.lower(), message, domain.lower(), region)
    scope.check()
    began = task.now()
    moment = task.at_time(at, began)
    fleet, stores = _fleet_and_stores(name, project, stack)
    routes = task.directory(stores, to or source)
    wanted = task.orders(fleet, scope, routes, at=moment, now=began, to=to, source=source, apply=apply)
    steps, failed = Steps(), False
    for order in wanted:
        task.send(stores, order)
    for order in wanted:
        request = order.request
        with steps.step(f"{request.source} into {request.target}, request {request.id}") as progress:
            results = task.wait(stores, order, progress, limit=limit)
        for text in task.summary(order, results):
            sys.stdout.write(f"{text}\n")
        failed |= any(result.state == "failed" for result in results)
    if not apply:
        sys.stdout.write("Nothing was changed; give --apply to do it.\n")
    if failed:
        raise typer.Exit(1)


def _fleet_and_stores(name: str, project: Path, stack: str) -> "tuple[Fleet, Mapping[str, Store]]":
    """The fleet and its control buckets: of a sandbox that runs, or of a stack in the user's own clouds."""
    if name:
        from mailinfra.sandbox.lifecycle import connect
        from mailinfra.sandbox.paths import Paths
        from mailinfra.sandbox.stores import region_stores

        sandbox = connect(Paths.of(name), project.resolve(), stack or "sandbox")
        return sandbox.plan.fleet, region_stores(sandbox.control, sandbox.stack.outputs()["regions"])
    from mailinfra.project import Project as PulumiProject
    from mailinfra.stores import stack_stores

    stack = stack or "prod"
    return PulumiProject(project).fleet(stack), stack_stores(project, stack)


@app.command("probe")
def probe(
    name: Name = "sandbox",
    project: Project = Path(),
    stack: Stack = "sandbox",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only claims whose id begins with this.")
    ] = None,
) -> None:
    """Send and read real mail in the sandbox and say of each claim whether it holds. Exit code 1 if one does not."""
    from mailinfra import probe as proof
    from mailinfra.sandbox.lifecycle import connect
    from mailinfra.sandbox.paths import Paths

    rows = proof.run(connect(Paths.of(name), project.resolve(), stack), Steps(), only=only)
    if as_json:
        sys.stdout.write(proof.as_json(rows) + "\n")
    else:
        proof.render(rows, output())
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


@app.command("cost")
def cost(
    stack: Annotated[
        list[str] | None, typer.Option("--stack", help="A stack to estimate; several are put side by side.")
    ] = None,
    like: Annotated[
        str, typer.Option("--like", help="Also each of them at this stack's size: a pilot light scaled up.")
    ] = "",
    project: Project = Path(),
    form: Annotated[str, typer.Option("--format", help="text, json or csv.")] = "text",
    items: Annotated[bool, typer.Option("--items", help="Print every item too.")] = False,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="A file with prices of your own: see docs/cost.md.")
    ] = None,
    mailboxes: Annotated[
        str, typer.Option("--mailboxes", help="Mailboxes in a stack; else as many as its volumes hold.")
    ] = "",
    mailbox_gib: Annotated[str, typer.Option("--mailbox-gib", help="GiB of mail in a mailbox.")] = "",
    messages_per_day: Annotated[
        str, typer.Option("--messages-per-day", help="Messages that a mailbox receives in a day.")
    ] = "",
    sends_per_day: Annotated[
        str, typer.Option("--sends-per-day", help="Messages that a mailbox sends in a day.")
    ] = "",
    message_kib: Annotated[str, typer.Option("--message-kib", help="KiB of a message, on average.")] = "",
    assume: Annotated[
        list[str] | None, typer.Option("--assume", help="NAME=NUMBER: any other assumption of docs/cost.md.")
    ] = None,
) -> None:
    """Estimate what stacks cost in a month: by region, by account, standing and by use."""
    from mailinfra.cost.command import Request, run

    usage = {
        "mailboxes": mailboxes,
        "mailbox_gib": mailbox_gib,
        "messages_per_day": messages_per_day,
        "sends_per_day": sends_per_day,
        "message_kib": message_kib,
    }
    given = {name: text for name, text in usage.items() if text}
    run(
        Request(tuple(stack or ["prod"]), like, project, form, items, prices, given, tuple(assume or ())),
        output(),
    )


@app.command("check")
def check(
    stack: Annotated[str, typer.Option("--stack", help="The stack; the only one where there is one.")] = "",
    project: Project = Path(),
    program: Annotated[
        Path | None, typer.Option("--program", help="The folder of any Pulumi program in Python.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="A file of `pulumi stack export` or `pulumi preview --json --show-sames` instead."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="The policies' config; else policy-<stack>.json or policy.json (or .yaml) beside the stack's.",
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text, json, sarif or junit.")] = "text",
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write report.html and report.json into this folder.")
    ] = None,
) -> None:
    """Judge what a program declares by the policies, without engine, credentials or network.

    Exit code 0: clean; 1: findings; 2: it could not be judged.
    """
    try:
        from mailinfra_policy.command import Request
        from mailinfra_policy.command import check as judge
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"pulumi", "grpc", "google"}:
            raise
        sys.stderr.write("mailinfra: the Pulumi SDK is not installed; pip install 'mailinfra[pulumi,cli]'\n")
        raise typer.Exit(2) from None
    raise typer.Exit(judge(Request(stack, project, program, file, config), form, report))


def output() -> Console:
    """Where results are printed; a width of its own where there is no terminal to ask."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def main() -> None:
    """Run the command line. What a user can mend is said in plain words; anything else is a defect and traced."""
    run(app)


def run(command: Callable[[], object]) -> None:
    """Run a command; exit code 1 with a message for errors that have one."""
    try:
        command()
    except UserError as error:
        Console(stderr=True, highlight=False, markup=False).print(f"mailinfra: {error}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("mailinfra: interrupted; run the same command again to go on")
        sys.exit(130)
