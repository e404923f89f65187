"""The command `embq`: send, receive and look at queues from a shell.

Exit codes: 0 done, 1 failed (an `embq.Error`, with its hint on standard error), 2
nothing was there to receive, or the command line makes no sense.
"""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
import msgspec

import embq
from embq import _cli_admin, _cli_file, _cli_look, _cli_once, _cli_redrive
from embq.broker import Broker
from embq.messages import Message
from embq.queue import Queue


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-f",
    "--file",
    "path",
    default="embq.db",
    envvar="EMBQ_FILE",
    show_default=True,
    show_envvar=True,
    help="The SQLite file.",
)
@click.option(
    "--durability",
    type=click.Choice(["full", "normal"]),
    default="full",
    show_default=True,
    help="full: a send survives power loss. normal: a killed process.",
)
@click.option(
    "--allow-unsafe-filesystem",
    is_flag=True,
    help="Open the file also on NFS, SMB, 9p, FUSE and the like.",
)
@click.version_option(embq.__version__, prog_name="embq")
@click.pass_context
def cli(context: click.Context, /, path: str, **options: Any) -> None:
    """Use the queues in an SQLite file from a shell."""
    context.obj = Broker(path, create=False, **options)
    context.call_on_close(context.obj.close)


@cli.command()
@click.argument("queue")
@click.argument("data", required=False)
@click.option("--json", "as_json", is_flag=True, help="DATA is JSON, not text.")
@click.option("--lines", is_flag=True, help="Each line of the input is a message.")
@click.option("--create", is_flag=True, help="Create the file and the queue.")
@click.option("--type", "type_", help="What happened, e.g. order.paid.")
@click.option("--source", help="Where it happened.")
@click.option("--key", help="What it is about.")
@click.option("--priority", help="0 to 9, low, normal or high; 9 goes first.")
@click.option("--delay", type=float, help="Seconds until it is handed out.")
@click.option("--ttl", type=float, help="Seconds until it perishes.")
@click.option("--dedup-id", help="Stored once within the queue's dedup window.")
@click.option("--retries", default=0, show_default=True, help="Of a send that failed.")
@click.pass_obj
def send(
    broker: Broker,
    /,
    queue: str,
    data: str | None,
    *,
    as_json: bool,
    lines: bool,
    create: bool,
    type_: str | None,
    source: str | None,
    retries: int,
    **fields: Any,
) -> None:
    """Send DATA to QUEUE and print the id.

    Without DATA, or with "-", standard input is the message.
    """
    target = _queue(broker, queue, create=create)
    texts = _texts(data, sys.stdin, lines=lines)
    if (priority := fields["priority"]) and priority.isdigit():
        fields["priority"] = int(priority)
    items = [
        embq.Outgoing(
            _parse(target, text, as_json=as_json), type=type_, source=source, **fields
        )
        for text in texts
    ]
    for sent in target.send_many(items, retries=retries):
        click.echo(sent.id)


@cli.command()
@click.argument("queue")
@click.option("-n", "--count", default=1, show_default=True, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="All that there is.")
@click.option("--wait", default=0.0, show_default=True, help="Seconds to wait for one.")
@click.option("--json", "as_json", is_flag=True, help="Whole messages, one a line.")
@click.pass_obj
def receive(
    broker: Broker,
    queue: str,
    count: int,
    *,
    everything: bool,
    wait: float,
    as_json: bool,
) -> None:
    """Print messages of QUEUE and remove them.

    A message is removed once it is printed. Exits with 2 when there was none.
    """
    source = _queue(broker, queue)
    left = sys.maxsize if everything else count
    found = 0
    while left > found:
        message = source.receive(wait=wait)
        if message is None:
            break
        # An exception, such as a closed pipe, gives the message back.
        with message:
            _print(message, as_json=as_json)
        found += 1
    if not found:
        sys.exit(_cli_look.NOTHING_THERE)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@click.pass_obj
def queues(broker: Broker, *, as_json: bool) -> None:
    """List the queues and how many messages wait in each."""
    for name in broker.queues():
        stats = broker.queue(name).stats()
        if as_json:
            _echo_json({"queue": name, **stats})
        else:
            click.echo(f"{stats['messages']:>10}  {name}")


@cli.command()
@click.argument("queue", required=False)
@click.option("--json", "as_json", is_flag=True, help="One object on one line.")
@click.pass_obj
def stats(broker: Broker, queue: str | None, *, as_json: bool) -> None:
    """Print the counters of QUEUE, or of this process's engine and the scopes."""
    found = _queue(broker, queue).stats() if queue else broker.stats()
    if as_json:
        _echo_json(found)
        return
    scopes = found.pop("idempotency", {})  # of a queue: none
    found |= {
        f"idempotency {scope}": counts["size"] for scope, counts in scopes.items()
    }
    width = max(map(len, found), default=0)
    for name, value in found.items():
        click.echo(f"{name:<{width}}  {'-' if value is None else value}")


@cli.command()
@click.argument(
    "events",
    required=False,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--workers", default=4, show_default=True, help="Consumer processes.")
def demo(events: Path | None, workers: int) -> None:
    """Work off events in several processes, kill one, and count.

    EVENTS is a file with one JSON object a line: id, type, source, data. Without it a
    small set is made up. Exits with 1 when the ledger does not balance.
    """
    from embq.demo import run  # noqa: PLC0415

    sys.exit(run(events, workers))


def _queue(broker: Broker, name: str, *, create: bool = False) -> Queue:
    """Open a queue that is there, or with `create` any."""
    if create:
        with _cli_file.creating(broker) as creating:
            creating.queue(name)
    elif name not in broker.queues():
        msg = f"no queue {name!r} in {broker.path!r}"
        hint = "`embq send --create` makes it; `embq queues` lists what there is"
        raise embq.NotFound(msg, hint)
    return broker.queue(name)


_cli_admin.add_to(cli, _queue)
_cli_redrive.add_to(cli, _queue)
cli.add_command(_cli_file.check)
cli.add_command(_cli_file.backup)
cli.add_command(_cli_once.idempotency)
_cli_look.add_to(cli, _queue, lambda message, as_json: _print(message, as_json=as_json))


def _texts(data: str | None, stream: TextIO, *, lines: bool) -> Iterator[str]:
    if data is not None and data != "-":
        yield data
    elif lines:
        yield from (line for raw in stream if (line := raw.rstrip("\n")))
    else:
        yield stream.read()


def _parse(queue: Queue, text: str, *, as_json: bool) -> Any:
    """Turn text into what the queue's codec takes."""
    if queue.options.codec == "raw":
        return os.fsencode(text)
    if not as_json:
        return text
    try:
        return msgspec.json.decode(text)
    except ValueError as error:
        msg = f"DATA is not JSON: {error}"
        raise click.UsageError(msg) from error


def _print(message: Message, *, as_json: bool) -> None:
    if as_json:
        _echo_json(message.to_dict())
    elif isinstance(message.data, bytes | str):
        click.echo(message.data)
    else:
        _echo_json(message.data)


def _echo_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value, enc_hook=str))


def main() -> NoReturn:
    """Run the command; what embq raises becomes one line and exit code 1."""
    logging.getLogger("embq").setLevel(logging.ERROR)  # a shell is no place for advice
    try:
        cli()
    except embq.Error as error:
        click.echo(f"embq: {error}", err=True)
    sys.exit(1)
