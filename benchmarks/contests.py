"""What is timed: the same answers from onnxvis and from its rivals, on nets of torchvision.

Both sides have the same random weights and get the same arrays.  Both are warm: sessions, hooks and
canonizers exist before the clock starts.  torch runs with ``requires_grad`` off for the weights (or it
would compute their gradients too) and on for the input.  Needs the peers (tests/peers/install.sh).
"""

from __future__ import annotations

import copy
import gc
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import onnxvis
from tests.peers.libraries import peer
from tests.peers.nets import Pair, agree, autograd, build, nn, relative_error, separated, torch, torchvision

from .turns import ratios, summary, take_turns

__all__ = ["TASKS", "measure", "save_files"]

SIDE = 224
SHAPE = (3, SIDE, SIDE)
LOW, HIGH = -6.0, 6.5  # what the drawn samples stay within
OURS, PLAIN = "onnxvis", "plain forward"
Call = Callable[[], Any]


@dataclass(frozen=True)
class Rivals:
    """What the rivals need to know of a net.

    ``last``: the module whose output is the last that is still spatial (in a net whose ReLUs are modules,
    where its name starts with "rectifier").  ``rectified``: every activation is a ReLU, the only one that
    captum rectifies.  ``zennit``: whether it has a rule for every layer.
    """

    last: str
    rectified: bool = True
    zennit: bool = True


RIVALS = {
    "alexnet": Rivals("features"),
    "vgg16": Rivals("features"),
    "googlenet": Rivals("inception5b"),
    "squeezenet1_1": Rivals("classifier.2"),
    "resnet50": Rivals("layer4"),
    "resnet101": Rivals("layer4"),
    "mobilenet_v2": Rivals("features", rectified=False),
    # zennit merges a BatchNorm with a layer right before it, and here it stands behind a concatenation
    "densenet121": Rivals("rectifier_120", zennit=False),
    # nor has it rules for gates
    "efficientnet_b0": Rivals("features", rectified=False, zennit=False),
}


class Subject:
    """A net, both ways, and the samples that it is explained on.

    ``alike``: whether torch and onnxruntime take the same decision at every ReLU and MaxPool.  Where they
    do not, they differentiate two different functions, and answers differ by more than rounding.
    """

    def __init__(self, name: str, threads: int, tries: int) -> None:
        torch.set_num_threads(threads)
        self.name, self.rivals = name, RIVALS[name]
        self.pair = Pair(name, build(name), SHAPE)
        self.net = self.pair.net
        self.threads = threads
        self.reopen()
        self.sample = next(
            (x for x in map(_sample, range(tries)) if agree(self.net, self.model, x)), _sample(0)
        )
        self.use(1)

    def reopen(self) -> None:
        """Let go of what the contest before held: sessions keep their memory, hooks tie nets into cycles."""
        self.model: Any = None
        gc.collect()
        self.model = onnxvis.load(self.pair.data, threads=self.threads, executor="compiled")

    def use(self, batch: int) -> None:
        """Explain so many copies of the sample: it took a search to find."""
        self.x = self.sample.repeat(batch, 1, 1, 1)
        self.array = self.x.numpy()
        self.alike = agree(self.net, self.model, self.x)
        with torch.no_grad():
            self.unit = int(self.net(self.sample).argmax())
        self.units = [self.unit] * batch

    def explain(self, method: str, **settings: Any) -> onnxvis.Explanation:
        return self.model.explain(self.array, method, target=self.unit, **settings)

    @cached_property
    def plain(self) -> Call:
        """The file as it is, in onnxruntime as it comes."""
        session = self.session(self.pair.data)
        return lambda: session.run(None, {"input": self.array})[0]

    def session(self, model: bytes | str) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        # Threads that spin after a call would hold the cores that the next contestant needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@dataclass
class Contest:
    """One task: who computes it how.

    ``passes``: of how many forward passes the floor consists.  ``same``: brings our answer to the form of
    the rivals'.  ``comparable``: the rivals compute the same (else only their times count).
    """

    ours: Call
    rivals: Mapping[str, Call]
    passes: int = 2
    same: Callable[[Any], Any] = np.asarray
    comparable: bool = True
    measures: dict[str, float] = field(default_factory=dict)

    def hold(self, plain: Call, seconds: float, least: int) -> dict[str, Any]:
        """Times, ratios, differences; whoever fails at the first, cold call is left out, with the reason.

        After two calls all are warm: onnxruntime lays its memory out by what the first one took.
        """
        calls = {OURS: self.ours, **self.rivals, PLAIN: plain}
        answers: dict[str, Any] = {}
        failed: dict[str, str] = {}
        for name, call in calls.items():
            try:
                call()
                answers[name] = call()
            except Exception as error:
                failed[name] = reason(error)
        times = take_turns({name: calls[name] for name in answers}, seconds, least)
        row: dict[str, Any] = {"failed": failed, "measures": dict(self.measures)}
        row["times"] = {name: summary(found) for name, found in times.items()}
        if OURS not in failed and PLAIN not in failed:
            row["measures"] |= ratios(times, OURS, PLAIN, self.passes)
        if OURS not in failed and self.comparable:
            mine = self.same(answers[OURS])
            row["measures"] |= {
                f"difference from {name}": relative_error(mine, answers[name])
                for name in self.rivals
                if name in answers
            }
        return row


# ---- tasks ---------------------------------------------------------------------------------------


def forward(on: Subject) -> Contest:
    def theirs() -> Any:
        with torch.no_grad():
            return on.net(on.x)

    return Contest(lambda: on.model.run(on.array)["output"], {"torch": theirs}, passes=1)


def gradient(on: Subject) -> Contest:
    rivals = {"torch autograd": lambda: autograd(on.net, on.x, on.unit)}
    return Contest(lambda: on.explain("gradient").values, rivals)


def compiled_gradient(on: Subject) -> Contest:
    compiled = torch.compile(on.net)
    rivals = {"torch.compile": lambda: autograd(compiled, on.x, on.unit)}
    return Contest(lambda: on.explain("gradient").values, rivals)


def guided_backprop(on: Subject) -> Contest | None:
    """Only where captum finds the rectifiers."""
    if not on.rivals.rectified:
        return None
    method = peer("captum.attr").GuidedBackprop(separated(on.net))

    def theirs() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces its hooks at each call
            return method.attribute(on.x.clone().requires_grad_(), target=on.units)

    return Contest(lambda: on.explain("guided_backprop").values, {"captum": theirs})


def epsilon_plus(on: Subject) -> Contest:
    theirs = _zennit(on, peer("zennit.composites").EpsilonPlus)
    return _relevance(on, theirs, composite="epsilon_plus")


def epsilon_gamma_box(on: Subject) -> Contest:
    theirs = _zennit(on, lambda **k: peer("zennit.composites").EpsilonGammaBox(LOW, HIGH, **k))
    return _relevance(on, theirs, composite="epsilon_gamma_box", low=LOW, high=HIGH)


def _relevance(on: Subject, theirs: Call, **settings: Any) -> Contest:
    def ours() -> Any:
        return on.explain("lrp", seed="one", **settings).values

    return Contest(ours, {"zennit": theirs}, comparable=on.rivals.zennit)


def gradcam(on: Subject) -> Contest:
    """The map of the layer, before anything is scaled."""
    layer, method, targets = _grad_cam(on)

    def theirs() -> Any:
        outputs = method.activations_and_grads(on.x.clone().requires_grad_())
        sum(target(output) for target, output in zip(targets, outputs, strict=True)).backward()
        kept = method.activations_and_grads
        arrays = kept.activations[0].numpy(), kept.gradients[0].numpy()
        return method.get_cam_image(on.x, layer, targets, *arrays)

    return Contest(lambda: on.explain("gradcam").values[:, 0], {"pytorch-grad-cam": theirs}, passes=1)


def gradcam_heat_map(on: Subject) -> Contest:
    """The same at the input's size, and as pytorch-grad-cam hands it out: scaled to 0..1."""
    _, method, targets = _grad_cam(on)

    def theirs() -> Any:
        return method(input_tensor=on.x.clone().requires_grad_(), targets=targets)

    def scaled(heat: Any) -> Any:
        low, high = (bound(heat, axis=(1, 2), keepdims=True) for bound in (np.min, np.max))
        return (heat - low) / (high - low + 1e-7)

    return Contest(
        lambda: on.explain("gradcam").heatmap(), {"pytorch-grad-cam": theirs}, passes=1, same=scaled
    )


def _grad_cam(on: Subject) -> tuple[Any, Any, list[Any]]:
    """The layer, pytorch-grad-cam with its hooks in a net of its own, and its targets."""
    net = copy.deepcopy(on.net)
    if on.rivals.last.startswith("rectifier"):
        net = separated(net)
    layer = net.get_submodule(on.rivals.last)
    method = peer("pytorch_grad_cam").GradCAM(model=net, target_layers=[layer])
    target = peer("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    return layer, method, [target(unit) for unit in on.units]


def exported_gradient(on: Subject) -> Contest:
    return _exported(on, "gradient", passes=2)


def exported_lrp(on: Subject) -> Contest:
    return _exported(on, "lrp", passes=2)


def exported_gradcam(on: Subject) -> Contest:
    return _exported(on, "gradcam", passes=1)


def _exported(on: Subject, method: str, passes: int) -> Contest:
    """The explanation as a model of its own, in onnxruntime alone, against the library."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "explained.onnx"
        on.model.export(path, method, target=on.unit, outputs=("explanation",))
        session = on.session(str(path))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())

    def ours() -> Any:
        return session.run(["explanation"], {"input": on.array})[0]

    library = {"the library": lambda: on.explain(method).values}
    return Contest(ours, library, passes, measures={"size / the file": size / len(on.pair.data)})


TASKS: dict[str, Callable[[Subject], Contest | None]] = {
    "forward": forward,
    "gradient": gradient,
    "compiled gradient": compiled_gradient,
    "guided_backprop": guided_backprop,
    "lrp epsilon_plus": epsilon_plus,
    "lrp epsilon_gamma_box": epsilon_gamma_box,
    "gradcam": gradcam,
    "gradcam heat map": gradcam_heat_map,
    "exported gradient": exported_gradient,
    "exported lrp": exported_lrp,
    "exported gradcam": exported_gradcam,
}


BATCHED = ("forward", "gradient", "lrp epsilon_plus", "gradcam")
"""The tasks that are measured in batches too: the others take the same passes, or more of them."""


def measure(
    name: str,
    threads: int,
    batch: int,
    tasks: Sequence[str],
    seconds: float,
    least: int,
    tries: int = 10,
) -> list[dict[str, Any]]:
    """A row for each task on one net, in batches of so many; none for a task that no rival does there."""
    subject, rows = Subject(name, threads, tries), []
    subject.use(batch)
    where = {"net": name, "batch": batch, "threads": threads, "alike": subject.alike}
    for task in tasks if batch == 1 else (task for task in tasks if task in BATCHED):
        subject.reopen()
        held = _held(TASKS[task], subject, seconds, least)
        if held is not None:
            rows.append({**where, "task": task, **held})
    return rows


def _held(
    task: Callable[[Subject], Contest | None], subject: Subject, seconds: float, least: int
) -> dict[str, Any] | None:
    """A contest's row; where it cannot even be set up, the reason."""
    try:
        contest = task(subject)
    except Exception as error:
        return {"failed": {"all": reason(error)}, "measures": {}, "times": {}}
    return contest and contest.hold(subject.plain, seconds, least)


def reason(error: Exception) -> str:
    """What went wrong, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def save_files(name: str, folder: Path) -> int:
    """NAME.onnx, NAME.pt (the whole module) and NAME.npy (a sample); the unit that the net gives it."""
    net, x = build(name), _sample(0)
    (folder / f"{name}.onnx").write_bytes(Pair(name, net, SHAPE).data)
    torch.save(net, folder / f"{name}.pt")
    np.save(folder / f"{name}.npy", x.numpy())
    with torch.no_grad():
        return int(net(x).argmax())


def _sample(seed: int) -> Any:
    return torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed))


# ---- zennit --------------------------------------------------------------------------------------


def _zennit(on: Subject, composite: Callable[..., Any]) -> Call:
    """zennit's relevance, with the composite's hooks in place: in a net of its own, which they change."""
    net = copy.deepcopy(on.net)
    for module in net.modules():
        # zennit leaves the ε of a BatchNorm that it has merged in place, and so divides by it once more
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_var += module.eps
            module.eps = 0.0
    attributor = peer("zennit.attribution").Gradient(net, composite(canonizers=[_canonizer(on.name)]))
    attributor.__enter__()  # for as long as the net lives
    seed = nn.functional.one_hot(torch.tensor(on.units), 1000).float()
    return lambda: attributor(on.x.clone().requires_grad_(), seed)[1]


def _canonizer(name: str) -> Any:
    """BatchNorms merged into the layers before them; sums and pooling as modules, which zennit's rules need.

    zennit has a canonizer of its own for ResNets.
    """
    canonizers = peer("zennit.canonizers")
    if name.startswith("resnet"):
        return peer("zennit.torchvision").ResNetCanonizer()
    if name.startswith("densenet"):
        return canonizers.CompositeCanonizer([])  # it would merge with what merely comes before in the list
    merged = canonizers.SequentialMergeBatchNorm()
    return canonizers.CompositeCanonizer([merged, *map(canonizers.AttributeCanonizer, (_summed, _pooled))])


def _summed(_: str, module: Any) -> dict[str, Any] | None:
    """The skips of MobileNet and EfficientNet."""
    models = torchvision.models
    kinds = {models.mobilenetv2.InvertedResidual: "conv", models.efficientnet.MBConv: "block"}
    branch = getattr(module, kinds.get(type(module), ""), None)
    if branch is None or not module.use_res_connect:
        return None

    def forward(x: Any) -> Any:
        return module.canonizer_sum(torch.stack([x, branch(x)], dim=-1))

    return {"canonizer_sum": peer("zennit.layer").Sum(), "forward": forward}


def _pooled(_: str, module: Any) -> dict[str, Any] | None:
    """MobileNet averages by a function."""
    if not isinstance(module, torchvision.models.MobileNetV2):
        return None

    def forward(x: Any) -> Any:
        return module.classifier(module.canonizer_pool(module.features(x)).flatten(1))

    return {"canonizer_pool": nn.AdaptiveAvgPool2d(1), "forward": forward}
