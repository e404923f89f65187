"""The subcommands of `embq` that are about the file as a whole."""

import click

from embq.broker import Broker


def creating(broker: Broker) -> Broker:
    """Give a broker of the same file, with the same options, that may create it."""
    options = click.get_current_context().find_root().params
    return Broker(broker.path, **{k: v for k, v in options.items() if k != "path"})


@click.command()
@click.option("--quick", is_flag=True, help="Do not compare indexes with tables.")
@click.option("--repair", is_flag=True, help="Say what can be mended, ask, and mend.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def check(broker: Broker, *, quick: bool, repair: bool, yes: bool) -> None:
    """Look for what is wrong with the file; print it, and exit with 1."""
    found = broker.check(quick=quick)
    for problem in found:
        click.echo(f"{problem.code} {problem.where}: {problem.what}")
        does = f"repair: {problem.mend}" if repair and problem.mend else ""
        click.echo(f"  {does or f'hint: {problem.hint}'}")
    if repair and any(problem.mend for problem in found):
        if not yes:
            click.confirm("Mend them? No message is touched", abort=True)
        click.echo(f"{len(broker.repair())} mended")
        found = broker.check(quick=quick)
    if found:
        msg = f"{len(found)} problems"
        raise click.ClickException(msg)


@click.command()
@click.argument("path", type=click.Path())
@click.pass_obj
def backup(broker: Broker, path: str) -> None:
    """Copy the file, as it is now, to PATH, which must not be there."""
    broker.backup(path)
