"""``onnxvis zoo``: models that ship with onnxvis, and well-known ones that are fetched."""

from __future__ import annotations

import click

from .program import main
from .tables import table

__all__ = ["zoo"]


@main.group(short_help="Models to try: list them, get one.")
def zoo() -> None:
    """Models to try: two that ship with onnxvis, others fetched and verified on demand.

    \b
    Examples:
      onnxvis zoo list
      onnxvis explain zoo:squeezenet1.1 photo.jpg
    """


@zoo.command("list", short_help="List the models.")
def list_models() -> None:
    """List the models: where each is, size, licence, one line on it.

    \b
    Example:
      onnxvis zoo list
    """
    from onnxvis.zoo import models

    rows = [("name", "model file", "size", "licence", "")]
    rows += [
        (
            entry.name,
            "ships" if entry.shipped else "fetched on demand",
            f"{entry.size / 1e6:.1f} MB",
            entry.licence,
            entry.summary,
        )
        for entry in models().values()
    ]
    click.echo(table(rows))


@zoo.command("get", short_help="Print the path of a model's file.")
@click.argument("name")
def get_model(name: str) -> None:
    """Print the path of the model NAME's file; fetch it first where it is not there yet.

    \b
    Example:
      onnxvis zoo get shapes
    """
    from onnxvis.zoo import PREFIX, get

    click.echo(get(name.removeprefix(PREFIX), progress=True))
