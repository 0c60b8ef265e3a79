"""`bunker`: the commands, and the one place where errors become exit codes.

Exit codes: 0 done; 1 the run or the verification failed; 2 usage or configuration.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from bunker.errors import BunkerError, ConfigurationError

# Each command's module is imported when it is called: `bunker show` needs no crypto, `bunker run` no Parquet.
_COMMANDS = {
    "check": "bunker.cli.check",
    "seal": "bunker.cli.seal",
    "rehearse": "bunker.cli.rehearse",
    "run": "bunker.cli.run",
    "abort": "bunker.cli.abort",
    "receive": "bunker.cli.receive",
    "verify": "bunker.cli.verify",
    "show": "bunker.cli.show",
    "dissect": "bunker.cli.dissect",
    "image": "bunker.cli.image",
    "anonymize": "bunker.cli.anonymize",
    "plan": "bunker.cli.plan",
    "bench": "bunker.cli.bench",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        found = importlib.import_module(module)
        # A command whose name a module needs for something else has the suffix.
        command = getattr(found, f"{cmd_name}_command", None) or getattr(found, cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bunker")
def cli() -> None:
    """Trace network traffic without holding it: raw packets stay sealed, only what a policy has cleared comes out."""


def main() -> None:
    """Entry point of the `bunker` command."""
    try:
        code = cli(standalone_mode=False)  # click answers what a command gave to Context.exit
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's last flush is quiet
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(1)
    except ConfigurationError as error:
        click.echo(f"bunker: {error}", err=True)
        sys.exit(2)
    except BunkerError as error:
        click.echo(f"bunker: {error}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
