"""The subcommands of `embq` that are about the file as a whole."""

import click

from embq.broker import Broker


@click.command()
@click.option("--quick", is_flag=True, help="Do not compare indexes with tables.")
@click.pass_obj
def check(broker: Broker, *, quick: bool) -> None:
    """Look for what is wrong with the file; print it, and exit with 1."""
    found = broker.check(quick=quick)
    for problem in found:
        click.echo(f"{problem.code} {problem.where}: {problem.what}")
        click.echo(f"  hint: {problem.hint}")
    if found:
        msg = f"{len(found)} problems"
        raise click.ClickException(msg)


@click.command()
@click.argument("path", type=click.Path())
@click.pass_obj
def backup(broker: Broker, path: str) -> None:
    """Copy the file, as it is now, to PATH, which must not be there."""
    broker.backup(path)
