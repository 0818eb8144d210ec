"""The commands, a module each: parse, call, print, exit code. Heavy imports wait until one needs them."""

from __future__ import annotations

import os
import signal
import sys

import click

from batchfuse.cli import (
    evaluate,
    export,
    fuse,
    info,
    init,
    methods,
    plan,
    run,
    schema,
    status,
    train,
    verify,
)
from batchfuse.cli.options import say_error

__all__ = ["commands", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="batchfuse")
def commands() -> None:
    """Fuse thousands of image pairs, in exact tiles, into georeferenced Zarr stores."""


def main() -> None:
    """The console script: ``commands``, with the exit codes that docs/commands.md lists."""
    # a scheduler's polite end is treated as Ctrl-C: the tiles in hand are finished, the rest can be continued
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(commands(standalone_mode=False))
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        if _as_json():
            say_error(error.format_message(), 2, as_json=True)
        else:
            error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        say_error("interrupted: the same command goes on where it ended", 130, as_json=_as_json())
        # at once: Python's own end would wait for the tiles that threads have in hand
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)
    except BrokenPipeError:
        # the reader of our output went away (| head): no traceback, also not at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _as_json() -> bool:
    """Whether --log-json is among the arguments, which may be wrong otherwise."""
    return "--log-json" in sys.argv[1:]


for _module in (evaluate, export, fuse, info, init, methods, plan, run, schema, status, train, verify):
    commands.add_command(getattr(_module, _module.__name__.rpartition(".")[2]))
