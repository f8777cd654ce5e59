"""The part of the script for a GPU that compares whole nets, with torch on the CPU and CuPy's stand-in."""

import pytest
from kernels.compiling import GPP, WHY
from kernels.conftest import cuda, with_gpu  # noqa: F401

from .libraries import peer

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)
peer("zennit")


@pytest.fixture
def nets():
    script = pytest.importorskip("benchmarks.gpu.nets", reason="needs benchmarks/ beside tests/")
    from kernels.stand_in import stand_in_gpu

    made = script.Nets(stand_in_gpu(), timed, place="cpu")
    made.NAMES, made.BATCHES, made.SIDE, made.GOALS = ("resnet18",), (1, 2), 64, {("resnet18", 2): 0.3}
    return made


def timed(call):
    """A clock that runs the call once."""
    call()
    return 2.0


def test_all_rows(nets, cuda):  # noqa: F811
    rows = [*nets.rows()]
    (missing,) = [row for row in rows if "why" in row]
    assert missing["what"] == "resnet18 convolutions by cuDNN" and "not there" in missing["why"]
    right = [row for row in rows if "difference" in row]
    assert not [row for row in right if not row["passed"]] and len(right) == 4
    assert [row["graph"] for row in right if "graph" in row] == ["captured"] * 2
    contests = {(row["what"], row["rival"]) for row in rows if "ratio" in row}
    whole = "resnet18 gradient, batch"
    assert contests == {
        (f"{whole} 1, backward alone", "torch eager"), (f"{whole} 2, backward alone", "torch eager"),
        (f"{whole} 1", "torch eager"), (f"{whole} 2", "torch eager"),
        ("resnet18 lrp epsilon_plus, batch 1", "zennit"), ("resnet18 lrp epsilon_plus, batch 2", "zennit"),
    }  # fmt: skip
    goals = {(row["rival"], row["goal"]) for row in rows if "ratio" in row}
    assert goals == {("torch eager", 1.0), ("zennit", 1.0), ("zennit", 0.3)}


def test_against_what_torch_compiled(nets, cuda, monkeypatch):  # noqa: F811
    compiled = []
    monkeypatch.setattr("torch.compile", lambda net: compiled.append(net) or net)
    (row,) = nets.compiled()
    assert (row["what"], row["rival"]) == ("resnet18 gradient, batch 1", "torch.compile")
    assert len(compiled) == 1 and row["passed"] and row["ratio"] == row["goal"] == 1.0


def test_without_onnxruntime_gpu_the_way_back_is_measured(nets, with_gpu):  # noqa: F811
    rows = [*nets.rows()]
    (missing,) = nets.compiled()
    assert not missing["passed"] and missing["why"] == "needs onnxruntime-gpu"
    why = {row["why"] for row in rows if "why" in row}
    assert why == {"needs onnxruntime-gpu", "all: nvidia-cudnn-frontend is not there"}
    assert [row["what"] for row in rows if "ratio" in row] == [
        f"resnet18 gradient, batch {count}, backward alone" for count in (1, 2)
    ]


def test_a_rival_that_cannot_run_is_a_row(nets):
    def broken():
        raise ImportError("no zennit")

    row = nets._contest("net", lambda: None, "zennit", broken, 0.3)
    assert not row["passed"] and "no zennit" in row["why"]


def test_the_share_outside_kernels(nets, cuda, monkeypatch):  # noqa: F811
    """Nothing is watched before all is timed."""
    order = []
    nets.NAMES, nets.WARM = ("resnet18", "squeezenet1_1"), 3
    monkeypatch.setattr(nets, "clock", lambda call: order.append("timed") or timed(call))
    watched = lambda call: order.append("watched") or (1.9, 2.375)  # noqa: E731
    monkeypatch.setattr("benchmarks.gpu.nets._kernels", watched)
    rows = [*nets.outside_kernels()]
    assert order == ["timed"] * 2 + ["watched"] * 2
    assert [row["share"] for row in rows] == pytest.approx([0.05] * 2) and all(row["passed"] for row in rows)
    assert [row["between"] for row in rows] == pytest.approx([0.2] * 2)


def test_where_kernels_cannot_be_watched_the_time_stays(nets, cuda):  # noqa: F811
    (row,) = nets.outside_kernels()
    assert row["onnxvis ms"] == 2 and not row["passed"] and row["why"]
