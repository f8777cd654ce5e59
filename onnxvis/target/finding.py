"""Finding a target in a graph: everything about it is checked before anything runs backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxvis.errors import TargetError
from onnxvis.graph.analysis import logits, unit_axis
from onnxvis.graph.ir import Graph

from .aims import Aim, Array, ArrayAim, FunctionAim, SampleAim, SumAim, UnitAim, Values, called
from .forms import Target, Wanted

__all__ = ["find_aim"]


def find_aim(
    wanted: Wanted, graph: Graph, part: slice, total: int, run: Callable[[Iterable[str]], Values]
) -> Aim:
    """The aim of a target (in its normal form) for the samples ``part`` of ``total``.

    ``graph``: specialized for the shapes of that part; ``run``: its values of the tensors with these names.
    Raises TargetError where the model has no such target.
    """
    return _Finder(graph, part, total, run).find(wanted)


@dataclass(frozen=True)
class _Tensor:
    """A tensor of a target: its name, its shape as its samples have it, and whether they come first."""

    name: str
    shape: tuple[int, ...]
    batched: bool

    @property
    def own(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.shape[1:] if self.batched else self.shape


@dataclass(frozen=True)
class _Finder:
    """Makes aims for the samples ``part`` of all; ``row``: for that one of them alone."""

    graph: Graph
    part: slice
    total: int
    run: Callable[[Iterable[str]], Values]
    row: int | None = None

    @property
    def together(self) -> int:
        """Samples that run together."""
        return int(self.part.stop - self.part.start)

    @property
    def samples(self) -> int:
        """Samples that the aim is for."""
        return self.together if self.row is None else 1

    def find(self, wanted: Wanted) -> Aim:
        """The aim of a target in its normal form."""
        if isinstance(wanted, Target):
            return self._at(wanted)
        if isinstance(wanted, Mapping):
            return SumAim(tuple(map(self._at, wanted.values())), (1.0,) * len(wanted))
        if callable(wanted):
            return self._of_outputs(wanted)
        return self._of_samples(wanted)

    # ---- several -----------------------------------------------------------------------------------

    def _of_samples(self, wanted: Sequence[Wanted]) -> Aim:
        if self.row is not None:
            raise TargetError("a list has one target for each sample, and these are no lists themselves")
        if len(wanted) != self.total:
            raise TargetError(_count(len(wanted), "target", self.total))
        single = replace(self, total=1, part=slice(0, self.together))
        entries = enumerate(wanted[self.part])
        return SampleAim(tuple(replace(single, row=i).find(entry) for i, entry in entries))

    def _of_outputs(self, function: Callable[..., Any]) -> Aim:
        """A function of the model's floating outputs."""
        names = tuple(name for name in self.graph.outputs if _real(self.graph, name) is None)
        if not names:
            raise TargetError(
                "no output of this model holds real numbers for the target function; "
                "give {tensor: function} for another tensor"
            )
        values = self.run(names)
        if self.row is not None and self.together > 1:
            values = {name: values[name][self.row : self.row + 1] for name in names}
        starts = called(function, {name: values[name] for name in names})
        return FunctionAim(function, names, tuple(starts), self.samples)

    # ---- one ---------------------------------------------------------------------------------------

    def _at(self, target: Target) -> Aim:
        tensor = self._tensor(logits(self.graph) if target.layer is None else target.layer)
        if target.index is not None:
            return self._indexed(target, tensor)
        if callable(target.seed):
            function = target.seed
            return FunctionAim(
                lambda values: function(values[tensor.name]), (tensor.name,), (tensor.name,), self.samples
            )
        if target.seed is not None:
            return ArrayAim(tensor.name, self._array(target.seed, tensor), self.samples)
        if isinstance(target.unit, Mapping):
            parts = tuple(self._units(target, [unit] * self.samples, tensor) for unit in target.unit)
            return SumAim(parts, tuple(map(float, target.unit.values())))
        return self._units(target, self._one_a_sample(target.unit), tensor)

    def _tensor(self, name: str) -> _Tensor:
        value = self.graph.value(name)
        if value.shape is None or len(value.shape) < 1:
            raise TargetError(f"{name!r} is not a tensor with units; choose another layer")
        problem = _real(self.graph, name)
        if problem is not None:
            raise TargetError(problem)
        shape = self.graph.shape(name)
        # A lone axis is that of the units, where there is but one sample.
        batched = shape[0] == self.together and (len(shape) > 1 or self.together > 1)
        if not batched and self.together > 1:
            raise TargetError(
                f"{name!r} has shape {_by(shape)}, which has no axis for the {self.together} samples; "
                "explain them one by one"
            )
        if batched and self.row is not None:
            shape = (1, *shape[1:])
        return _Tensor(name, shape, batched)

    def _one_a_sample(self, unit: Any) -> list[int] | None:
        if unit is None:
            return None
        if not isinstance(unit, list | tuple):
            return [unit] * self.samples
        if len(unit) != self.total:
            raise TargetError(_count(len(unit), "unit", self.total))
        return list(unit) if self.row is not None else list(unit[self.part])

    def _units(self, target: Target, units: list[int] | None, tensor: _Tensor) -> UnitAim:
        shape = tensor.shape
        axis = unit_axis(self.graph, tensor.name) if target.axis is None else _axis(target.axis, tensor)
        if tensor.batched and len(shape) == 1:
            count = 1
        elif tensor.batched and axis == 0:
            raise TargetError(f"axis 0 of {tensor.name!r} is that of the samples, not of units")
        else:
            count = shape[axis]
        spatial = [n for i, n in enumerate(shape) if i != axis and not (tensor.batched and i == 0)]
        positions = self._positions(target.position, tensor.name, spatial)
        return UnitAim(
            tensor.name,
            axis,
            len(shape),
            self.samples,
            tensor.batched,
            None if units is None else tuple(_unit(unit, tensor, count) for unit in units),
            positions,
            target.reduce == "mean",
        )

    def _positions(self, given: Any, name: str, spatial: Sequence[int]) -> Any:
        if isinstance(given, np.ndarray) and given.dtype.kind in "bf":
            return self._mask(given, name, tuple(spatial))
        if given is None or (isinstance(given, str) and given in ("max", "region")):
            return given if spatial or given == "region" else None
        if isinstance(given, int | np.integer) and not isinstance(given, bool):
            given = (given,)
        listed = isinstance(given, list | tuple | np.ndarray)
        whole = listed and all(isinstance(p, int | np.integer) for p in given)
        if not whole or len(given) != len(spatial):
            raise TargetError(
                f"a position in {name!r} is a tuple of {len(spatial)} indices, 'max', 'region', "
                f"a boolean mask of shape {_by(spatial)} or None, not {given!r}"
            )
        for p, n in zip(given, spatial, strict=True):
            if not -n <= p < n:
                raise TargetError(f"{name!r} has no position {tuple(given)}: its maps are {_by(spatial)}")
        return (tuple(int(p) % n for p, n in zip(given, spatial, strict=True)),) * self.samples

    def _mask(self, given: Array, name: str, spatial: tuple[int, ...]) -> Array:
        """A mask for each sample."""
        if given.shape == spatial:
            mask = np.broadcast_to(given, (self.samples, *spatial))
        elif given.shape == (self.total, *spatial):
            mask = given if self.row is not None else given[self.part]
        else:
            raise TargetError(
                f"a mask for {name!r} has the shape of its maps, {_by(spatial)} (or {self.total} of them, "
                f"one a sample), not {_by(given.shape)}"
            )
        if not mask.reshape(len(mask), -1).any(axis=1).all():
            raise TargetError(f"the mask for {name!r} is empty: nothing is chosen")
        return mask

    def _array(self, given: Any, tensor: _Tensor) -> Array:
        """A seed in the tensor's shape, from its own or one for all samples."""
        seed = np.asarray(given)
        if seed.dtype.kind not in "biuf" or (seed.dtype.kind == "f" and not np.isfinite(seed).all()):
            raise TargetError(f"the seed of {tensor.name!r} is to be finite real numbers, not {seed.dtype}")
        whole = (self.total, *tensor.own) if tensor.batched else tensor.shape
        if seed.shape == whole:
            return seed[self.part] if tensor.batched and self.row is None else seed
        if tensor.batched and seed.shape == tensor.own:
            return np.broadcast_to(seed, tensor.shape)
        raise TargetError(
            f"the seed of {tensor.name!r} has shape {_by(seed.shape)}, the tensor {_by(whole)}"
            + (f" ({_by(tensor.own)} for each sample)" if tensor.batched else "")
        )

    def _indexed(self, target: Target, tensor: _Tensor) -> Aim:
        """Ones where the index points."""
        index = target.index if isinstance(target.index, tuple) else (target.index,)
        if self.total > 1 and not (index and _takes_all(index[0])):
            raise TargetError(
                f"the index into {tensor.name!r} chooses among samples, and {self.total} were given: it is "
                "to start with ':' for all of them; for one target a sample give a list of targets"
            )
        seed = np.zeros(tensor.shape)
        try:
            seed[index] = 1
        except (IndexError, ValueError) as error:
            raise TargetError(
                f"the index does not fit {tensor.name!r} of shape {_by(tensor.shape)}: {error}"
            ) from None
        counts = seed.reshape(self.samples, -1).sum(axis=1)
        if not counts.all():
            raise TargetError(
                f"the index chooses nothing of {tensor.name!r}, which has shape {_by(tensor.shape)}"
            )
        if target.reduce == "mean":
            seed /= counts[0]
        return ArrayAim(tensor.name, seed, self.samples)


def _real(graph: Graph, name: str) -> str | None:
    """Why a tensor holds no real numbers, None where it does."""
    value = graph.value(name)
    producer = graph.producers.get(name)
    quantized = producer is not None and producer.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")
    if value.dtype is None or value.dtype.kind not in "biuSUO" or quantized:
        return None
    others = [str(graph.value(n).spec) for n in graph.outputs if _floating(graph, n)]
    return (
        f"{name!r} holds {value.dtype}, and a target is made of real numbers: choose what it is computed from"
        + (f", or another output ({', '.join(others)})" if others else ", any layer before it")
    )


def _floating(graph: Graph, name: str) -> bool:
    dtype = graph.value(name).dtype
    return dtype is not None and dtype.kind == "f"


def _axis(axis: Any, tensor: _Tensor) -> int:
    rank = len(tensor.shape)
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer) or not -rank <= axis < rank:
        raise TargetError(f"{tensor.name!r} has shape {_by(tensor.shape)}, and no axis {axis!r}")
    return int(axis) % rank


def _unit(unit: int, tensor: _Tensor, count: int) -> int:
    if not -count <= unit < count:
        shaped = f" (shape {_by(tensor.shape)})" if len(tensor.shape) > 2 else ""
        raise TargetError(
            f"{tensor.name!r} has no unit {unit}: it has {count}, from 0 to {count - 1}{shaped}"
        )
    return unit % count


def _takes_all(entry: Any) -> bool:
    return entry is Ellipsis or (isinstance(entry, slice) and entry == slice(None))


def _count(given: int, what: str, samples: int) -> str:
    return (
        f"{given} {what}{'s' * (given != 1)} {'were' if given != 1 else 'was'} given for {samples} "
        f"sample{'s' * (samples != 1)}; give one each"
    )


def _by(shape: Sequence[Any]) -> str:
    return "×".join(map(str, shape)) or "()"
