"""The program ``onnxvis``: the group that commands join, and how it ends when something goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from onnxvis._version import __version__
from onnxvis.errors import OnnxvisError

__all__ = ["Program", "main", "remark"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BUG = 70  # sysexits.h: an internal software error

EXIT_CODES = """
\b
Exit codes:
  0   done
  1   a check failed
  2   wrong usage: an option, name, target or setting that does not exist
  3   a model or picture that cannot be read or is not supported
  70  a bug in onnxvis      130  interrupted
"""


class Program(click.Group):
    """A group whose errors are one line on stderr and an exit code, never a traceback unless asked for."""

    def main(  # type: ignore[override]  # Click overloads it by standalone_mode
        self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run the command line, as Click's own ``main`` does, but say what was wrong in one line."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            _fail(_wrong_usage(error), error.exit_code)
        except click.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if ctx.params["traceback"]:
                raise
            if isinstance(error, OnnxvisError):
                _fail(str(error), error.exit_code)
            _fail(
                f"unexpected {type(error).__name__}: {error}. This is a bug in onnxvis: please report it "
                "with what `onnxvis --traceback …` prints",
                BUG,
            )


def remark(text: str) -> None:
    """Say something on stderr that is neither a result nor an error."""
    click.echo(f"onnxvis: {text}", err=True)


def _fail(message: str, code: int) -> NoReturn:
    remark("error: " + " ".join(message.split()))
    sys.exit(code)


def _wrong_usage(error: click.ClickException) -> str:
    """Click's message, and where to read on."""
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context else ""
    return error.format_message() + hint


@click.group(cls=Program, invoke_without_command=True, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="onnxvis")
@click.option(
    "--traceback",
    is_flag=True,
    envvar="ONNXVIS_TRACEBACK",
    help="Show Python's traceback of an error (or set ONNXVIS_TRACEBACK=1).",
)
@click.pass_context
def main(ctx: click.Context, traceback: bool) -> None:
    """See what a CNN has learned and why it answered as it did, from a plain ONNX file.

    MODEL is the path of an .onnx file, or zoo:NAME (`onnxvis zoo list`).

    \b
    Examples:
      onnxvis demo
      onnxvis info zoo:shapes
      onnxvis explain net.onnx photo.jpg --preprocess imagenet -o why.png
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
