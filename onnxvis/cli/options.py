"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click

from onnxvis.errors import UnknownNameError

from .program import remark

if TYPE_CHECKING:
    from onnxvis.model import Model
    from onnxvis.taxonomy import MethodInfo

__all__ = ["Opening", "Wish", "model_options", "size_option", "wish_options"]

Position = tuple[int, ...] | str | None


def _bundle(
    name: str, make: Callable[..., Any], *options: Callable[[Any], Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds options to a command and passes their values as one object, ``name``."""
    fields = list(inspect.signature(make).parameters)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapped(**given: Any) -> Any:
            bundle = make(**{field: given.pop(field) for field in fields})
            return command(**given, **{name: bundle})

        return functools.reduce(lambda inner, option: option(inner), reversed(options), wrapped)

    return decorate


# ---- the model -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opening:
    """How a model is to be opened."""

    preprocess: str | None = None
    labels: str | None = None
    device: str = "auto"
    threads: int | None = None
    custom_ops: Sequence[str] = ()

    def open(self, source: str, for_pictures: bool = False) -> Model:
        """The model; with ``for_pictures`` a remark where nothing says how they are to be prepared."""
        import onnxvis
        from onnxvis.images import read_labels

        names = read_labels(self.labels) if self.labels else None
        model = onnxvis.load(
            source,
            preprocess=self.preprocess,
            labels=names,
            device=self.device,
            threads=self.threads,
            custom_ops=self.custom_ops,
        )
        if for_pictures and model.preprocess_source == "default":
            preset = model.default_preset
            remark(
                "nothing says how pictures become this model's input; they are stretched to it and scaled "
                f"to {'0..255' if preset == 'raw' else '0..1'} (preset {preset!r}). "
                "Give --preprocess if it was trained otherwise."
            )
        return model


model_options = _bundle(
    "opening",
    Opening,
    click.option(
        "--preprocess",
        metavar="PRESET|FILE",
        help="How pictures become the model's input: a preset (imagenet, caffe, tf, unit, raw, mnist, "
        "cifar10) or a .json or .toml file. Default: what the model's metadata or the file beside it says.",
    ),
    click.option("--labels", metavar="FILE", help="Names of the classes, one a line, or as JSON."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
    click.option("--threads", type=int, help="Threads of onnxruntime.  [default: one a core]"),
    click.option(
        "--custom-ops",
        metavar="FILE",
        multiple=True,
        help="A library of operators that onnxruntime loads; may be given several times.",
    ),
)


# ---- target and settings -------------------------------------------------------------------------


def _position(ctx: click.Context, option: click.Parameter, text: str | None) -> Position:
    if text is None or text in ("max", "region"):
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither 'max', 'region' nor indices like 3,5") from None


def _settings(ctx: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, Any]:
    return dict(_setting(text) for text in given)


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return name.strip(), value


@dataclass(frozen=True)
class Wish:
    """Target and settings as they were given for one or more methods."""

    target: str | None
    layer: str | None
    target_layer: str | None
    position: Position
    settings: Mapping[str, Any]

    def check(self, methods: Iterable[MethodInfo]) -> None:
        """Every setting belongs to one of the methods at least."""
        methods = list(methods)
        known = dict.fromkeys(name for info in methods for name in info.settings)
        for name in self.settings:
            if name not in known:
                kind = f"setting of {' or '.join(info.name for info in methods)}"
                raise UnknownNameError(kind, name, known or ["(none)"])

    def settings_for(self, info: MethodInfo) -> dict[str, Any]:
        """Those settings that the method has."""
        given = {name: value for name, value in self.settings.items() if name in info.settings}
        if self.layer is not None and "layer" in info.settings:
            given["layer"] = self.layer
        return given

    def target_for(self, info: MethodInfo, model: Model) -> Any:
        """The target; --layer says where it lies unless the method has a setting of that name."""
        from dataclasses import replace

        from onnxvis.target import Target, normal

        layer = self.target_layer
        if layer is None and "layer" not in info.settings:
            layer = self.layer
        if layer is not None:
            found = Target(layer, self.target)
        else:
            found = cast(Target, normal(self.target, model.names))  # what a text means is never several
        return found if self.position is None else replace(found, position=self.position)


wish_options = _bundle(
    "wish",
    Wish,
    click.option(
        "--target",
        "-t",
        metavar="T",
        help="The class: its index, or its name where names are known. Or LAYER:UNIT for a unit of any "
        "output or layer, LAYER for its strongest unit, LAYER[INDEX] for elements of it, samples first, as "
        "in 'boxes[:,17,2]'. Default: the strongest class.",
    ),
    click.option(
        "--layer",
        "-l",
        metavar="L",
        help="For methods with a setting 'layer' (CAMs, inversion): that layer. For the others: the layer "
        "whose unit T is the target. `onnxvis info MODEL` lists layers.",
    ),
    click.option(
        "--target-layer", metavar="L", help="The layer whose unit T is the target, whatever the method."
    ),
    click.option(
        "--position",
        metavar="Y,X|max|region",
        callback=_position,
        help="Where in the target's map: indices along the other axes, max where it is strongest, region "
        "where it is the strongest of all units (segmentation). Default: the sum over all positions.",
    ),
    click.option(
        "--set",
        "-s",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_settings,
        help="A setting of the method (`onnxvis methods` lists them); several are allowed.",
    ),
)


# ---- size ----------------------------------------------------------------------------------------


def _size(ctx: click.Context, option: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().replace("x", ",").split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r} is not HEIGHT,WIDTH")
    return int(parts[0]), int(parts[1])


size_option = click.option(
    "--size", metavar="H,W", callback=_size, help="Size of the picture where the model leaves it open."
)
