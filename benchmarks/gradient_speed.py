"""How fast the backward passes are, against PyTorch's autograd and zennit.

One process, one thread each, 224×224, batch 1, float32, random weights.  A call is everything that
an answer takes once all is built: forward pass and backward pass to the input.  Both sides are warm:
sessions, hooks and canonizers exist before the clock starts.  torch runs eagerly, with
``requires_grad`` off for the weights (or it would compute their gradients too) and on for the input.
The contestants take turns, and the order of turns rotates: what slows the machine down slows all.

Run from the repository's root: ``python -m benchmarks.gradient_speed [--rounds N]``
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.peers.libraries import peer
from tests.peers.nets import Pair, autograd, build, relative_error, torch

from .reporting import circumstances, table, write

NETS = {"resnet50": "ResNetCanonizer", "squeezenet1_1": "VGGCanonizer"}
SIDE = 224
GOALS = {"gradient": 0.8, "lrp epsilon_plus": 0.4}


@dataclass
class Contest:
    """Two ways to the same answer, and the seconds that each call took."""

    net: str
    task: str
    rival: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    error: float
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"onnxvis": [], "rival": []})

    def turn(self, first: int) -> None:
        """One call of each; ``first`` odd: the rival before us."""
        order = [("onnxvis", self.ours), ("rival", self.theirs)]
        for name, call in order[:: -1 if first % 2 else 1]:
            start = time.perf_counter()
            call()
            self.seconds[name].append(time.perf_counter() - start)

    def summary(self) -> dict[str, object]:
        """Milliseconds, smallest and median, and the ratios of these."""
        smallest = {name: 1000 * min(times) for name, times in self.seconds.items()}
        middle = {name: 1000 * statistics.median(times) for name, times in self.seconds.items()}
        return {
            "net": self.net,
            "task": self.task,
            "rival": self.rival,
            "minimum_ms": smallest,
            "median_ms": middle,
            "ratio_of_minima": smallest["onnxvis"] / smallest["rival"],
            "ratio_of_medians": middle["onnxvis"] / middle["rival"],
            "goal": GOALS.get(self.task),
            "relative_difference": self.error,
        }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="calls of each contestant")
    rounds = parser.parse_args(arguments).rounds
    with ExitStack() as stack:
        contests = [contest for name in NETS for contest in _contests(name, stack)]
        for turn in range(rounds):
            shift = turn % len(contests)
            for contest in contests[shift:] + contests[:shift]:
                contest.turn(turn)
    results = [contest.summary() for contest in contests]
    packages = ("onnxvis", "onnxruntime", "torch", "torchvision", "zennit", "numpy")
    title = f"Backward passes on one thread, {SIDE}×{SIDE}, batch 1"
    write("gradient_speed", title, circumstances(*packages), _table(results), results)


def _contests(name: str, stack: ExitStack) -> list[Contest]:
    pair = Pair(name, build(name), (3, SIDE, SIDE))
    model, x, unit = pair.model(), pair.x, pair.unit
    array, relevance = x.numpy(), _zennit(name, x, unit, stack)

    def gradient() -> object:
        return model.explain(array, "gradient", target=unit)

    def lrp() -> object:
        return model.explain(array, "lrp", target=unit, composite="epsilon_plus", seed="one")

    def forward() -> object:
        with torch.no_grad():
            return pair.net(x)

    def torch_gradient() -> object:
        return autograd(pair.net, x, unit)

    made = [
        ("forward pass alone", "torch", lambda: model.run(array), forward),
        ("gradient", "torch autograd", gradient, torch_gradient),
        ("lrp epsilon_plus", "zennit", lrp, relevance),
    ]
    return [Contest(name, task, *rest, _difference(*rest[1:])) for task, *rest in made]


def _difference(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    """How far apart the two answers are; also the first, cold call of both."""
    found = ours()
    values = found["output"] if isinstance(found, dict) else found.values
    return relative_error(values, theirs())


def _zennit(name: str, x: torch.Tensor, unit: int, stack: ExitStack) -> Callable[[], object]:
    """zennit's relevance, with the composite's hooks in place: in a net of its own, which they change."""
    canonizer = getattr(peer("zennit.torchvision"), NETS[name])()
    composite = peer("zennit.composites").EpsilonPlus(canonizers=[canonizer])
    net = build(name)
    seed = torch.nn.functional.one_hot(torch.tensor([unit]), 1000).float()
    attributor = stack.enter_context(peer("zennit.attribution").Gradient(net, composite))
    return lambda: attributor(x.clone().requires_grad_(), seed)[1]


def _table(results: Sequence[dict[str, object]]) -> str:
    head = ["net", "task", "onnxvis ms (median)", "rival ms (median)", "rival", "ratio", "goal", "difference"]
    rows = []
    for r in results:
        times = [f"{r['minimum_ms'][who]:.1f} ({r['median_ms'][who]:.1f})" for who in ("onnxvis", "rival")]
        goal = "–" if r["goal"] is None else f"≤ {r['goal']}"
        rows.append(
            [
                r["net"],
                r["task"],
                *times,
                r["rival"],
                f"{r['ratio_of_minima']:.2f}",
                goal,
                f"{r['relative_difference']:.0e}",
            ]
        )
    return (
        table(head, rows)
        + "\n\nTimes are minima over all rounds, medians in brackets; ratios are of the minima."
    )


if __name__ == "__main__":
    main()
