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
from batchfuse.system.streams import guard_streams, output_fault

__all__ = ["commands", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="batchfuse")
def commands() -> None:
    """Fuse thousands of image pairs, in exact tiles, into georeferenced Zarr stores."""


def main() -> None:
    """The console script: ``commands``, with the exit codes that docs/commands.md lists."""
    guard_streams()
    # a scheduler's polite end is treated as Ctrl-C: the tiles in hand are finished, the rest can be continued
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_told(_called()))


def _called() -> int:
    """Runs the command; gives its exit code."""
    try:
        os.getcwd()  # noqa: PTH109 - MKL ends the process without it
    except OSError:
        say_error(
            "the folder that this was called in is gone: change to one that is there", 2, as_json=_as_json()
        )
        return 2
    try:
        return commands(standalone_mode=False) or 0
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        if _as_json():
            say_error(error.format_message(), 2, as_json=True)
        else:
            error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        say_error("interrupted: the same command goes on where it ended", 130, as_json=_as_json())
        # at once: Python's own end would wait for the tiles that threads have in hand
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


def _told(code: int) -> int:
    """The exit code, after what could not be said on standard output was told."""
    fault = output_fault()
    if fault is None:
        return code
    if isinstance(fault, BrokenPipeError):  # the reader went away (| head), as it may
        return code or 128 + signal.SIGPIPE
    say_error(f"standard output can't be written ({fault.strerror})", code or 1, as_json=_as_json())
    return code or 1


def _as_json() -> bool:
    """Whether --log-json is among the arguments, which may be wrong otherwise."""
    return "--log-json" in sys.argv[1:]


for _module in (evaluate, export, fuse, info, init, methods, plan, run, schema, status, train, verify):
    commands.add_command(getattr(_module, _module.__name__.rpartition(".")[2]))
