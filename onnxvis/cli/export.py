"""``onnxvis export``: prediction and explanation as one ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from onnxvis.zoo import PREFIX

from .options import Opening, Wish, model_options, size_option, wish_options
from .program import main

__all__ = ["export"]


def _names(ctx: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@main.command(short_help="Write prediction and explanation as one ONNX model.")
@click.argument("model")
@click.option(
    "--method",
    "-m",
    default="guided_backprop",
    show_default=True,
    help="One that is a single graph: gradients, lrp, most CAMs (`onnxvis methods`).",
)
@wish_options
@click.option(
    "--target-input",
    is_flag=True,
    help="The class is an input 'target' of the model, int64, one a sample; -1: the strongest.",
)
@click.option(
    "--outputs",
    default="explanation,heatmap",
    show_default=True,
    metavar="NAME[,NAME…]",
    callback=_names,
    help="What follows the model's own outputs: explanation (unscaled), heatmap, score, unit.",
)
@click.option("--normalize", is_flag=True, help="The heat map in 0..1; where signs matter, 0.5 is nothing.")
@click.option(
    "--pictures",
    type=click.Choice(["NHWC", "NCHW"], case_sensitive=False),
    help="Photos, uint8 RGB of any size, as input 'pictures' in this layout; the model prepares them itself.",
)
@click.option("--batch", type=int, help="A fixed number of samples.  [default: any, where MODEL takes any]")
@size_option
@click.option(
    "--external-data/--one-file",
    default=None,
    help="Weights in OUT.data, or in OUT.  [default: in OUT up to 2 GB]",
)
@click.option(
    "--tolerance",
    type=float,
    default=1e-5,
    show_default=True,
    help="How far the written model may be off what onnxvis computes, relative to the largest number.",
)
@click.option("--force", is_flag=True, help="Replace OUT where it is there already.")
@model_options
@click.option(
    "-o", "--output", metavar="OUT", help="The file to write.  [default: MODEL.METHOD.onnx in this folder]"
)
def export(
    model: str,
    method: str,
    wish: Wish,
    target_input: bool,
    outputs: Sequence[str],
    normalize: bool,
    pictures: str | None,
    batch: int | None,
    size: tuple[int, int] | None,
    external_data: bool | None,
    tolerance: float,
    force: bool,
    opening: Opening,
    output: str | None,
) -> None:
    """Write MODEL with an explanation of its answers as one ONNX model, which any ONNX runtime runs.

    The model is compared with what onnxvis computes before it is put in its place. Prints a line a file:
    file, bytes, bytes of MODEL; and a line an output: name, type, largest difference; separated by tabs.

    \b
    Examples:
      onnxvis export zoo:shapes -m gradcam -o explained.onnx
      onnxvis export net.onnx -m lrp --set composite=epsilon_gamma_box --target-input
      onnxvis export net.onnx -m gradcam --preprocess imagenet --pictures NHWC --normalize
    """
    from onnxvis.taxonomy import find

    info = find(method)
    wish.check([info])
    opened = opening.open(model, for_pictures=pictures is not None)
    written = opened.export(
        output or f"{Path(model.removeprefix(PREFIX)).stem}.{method}.onnx",
        method,
        wish.target_for(info, opened),
        outputs=outputs,
        target_input=target_input,
        batch=batch,
        size=size,
        pictures=pictures,
        normalize=normalize,
        external_data=external_data,
        tolerance=tolerance,
        force=force,
        **wish.settings_for(info),
    )
    for file in written.files:
        click.echo(f"{file}\t{file.stat().st_size}\t{written.original_size}")
    for spec in written.outputs:
        apart = written.difference.get(spec.name)
        kind = str(spec).removeprefix(f"{spec.name}: ")
        click.echo(f"{spec.name}\t{kind}\t{'' if apart is None else f'{apart:.1g}'}")
