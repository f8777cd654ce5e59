"""The script for a GPU, as far as it runs without one."""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from onnxvis.ops.device import tensor_cores
from onnxvis.ops.window import Window

from .compiling import GPP, WHY
from .stand_in import launched, stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)


@pytest.fixture(scope="module")
def script():
    """Its modules by name."""
    pytest.importorskip("benchmarks.gpu", reason="needs benchmarks/ and tests/ beside each other")
    names = ("__main__", "bandwidth", "correctness", "large", "timing", "ways")
    return SimpleNamespace(**{n.strip("_"): importlib.import_module(f"benchmarks.gpu.{n}") for n in names})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_primitives(script, dtype):
    rows = [*script.correctness.primitives(stand_in_ops(dtype))]
    assert len(rows) > 600 and not [row for row in rows if not row["passed"]]


def test_primitives_of_half_precision(script):
    rows = [*script.correctness.primitives(stand_in_ops(np.float16), windows=5)]
    assert len(rows) > 300 and not [row for row in rows if not row["passed"]]
    assert max(row["difference"] for row in rows) > script.correctness.TOLERANCE


def test_every_way_of_tensor_cores(script, monkeypatch):
    """Here of one window, by one kind of block: each kernel takes long to compile."""
    monkeypatch.setattr(tensor_cores, "BLOCKS", tensor_cores.BLOCKS[-1:])
    ops, window = stand_in_ops(capability=90), Window((2, 3), (2, 1), (1, 1), (0, 1), (4, 5), (2, 5))
    rows = [*script.ways.ways(ops, [window], [(66, 17), (4, 3)])]
    assert not [row for row in rows if not row["passed"]]
    said = [row["what"].partition(") (")[2] for row in rows]
    assert {row.partition(")")[0] for row in said} == {"64, 64"}
    ends = {"plain", "onto", "product", "product onto", "quotient", "gradient", "guided", "deconvnet"}
    assert {row.split(" ", 4)[-1] for row in said} == ends


@pytest.mark.parametrize("limit", [2**12, 2**28])
def test_large_arrays(script, monkeypatch, limit):
    """Here small ones; with 64-bit indices for the whole and 32-bit ones for halves, or these for both."""
    monkeypatch.setattr("onnxvis.ops.device.geometry.LIMIT", limit)
    with launched() as kernels:
        rows = [*script.large.large(stand_in_ops(), 2**12)]
    assert len(rows) == 11 and not [row for row in rows if not row["passed"]]
    assert any("long long" in kernel for kernel in kernels) == (limit == 2**12)


def test_large_arrays_differ_where_a_half_does(script):
    ops = stand_in_ops()
    ours, one = script.large._by_halves(ops, lambda x: x * len(x), [(4, 8)], 0)
    assert ours == 2 and one == 1


def test_too_large_arrays_are_a_row_that_says_so(script):
    (row,) = script.large.large(stand_in_ops())
    assert row["passed"] and "too little memory" in row["why"]


def test_rules(script, monkeypatch):
    from rules import cases

    few = cases.pairs()[::100]
    monkeypatch.setattr(cases, "pairs", lambda: few)
    rows = [*script.correctness.rules(stand_in_ops())]
    assert rows and not [row for row in rows if not row["passed"]]
    assert {row["graph"] for row in rows} == {"captured"}


def test_bandwidth(script):
    """Each kernel moves what the table says: the clock here makes every call as fast as the copy."""
    rows = [*script.bandwidth.bandwidth(stand_in_ops(), 2**22, lambda call, repeat: call() is None or 1.0)]
    windows = {f"window_spread to {side} × {side}" for side in (128, 112)}
    assert {row["kernel"] for row in rows} >= {"rectify", "split", "quotient"} | windows
    assert all(row["GB/s"] > 0 for row in rows)
    assert "| kernel |" in script.main.body({"bandwidth": rows})


def test_a_clock_gives_the_median_of_one_call(script):
    """Of calls that are handed over two at a time; the slow ones are fewer."""
    took, calls = iter([8.0, 2.0, 4.0] * 20), []
    event = SimpleNamespace(record=lambda stream: None, synchronize=lambda: None)
    cuda = SimpleNamespace(Event=lambda: event, get_elapsed_time=lambda start, end: next(took))
    gpu = SimpleNamespace(xp=SimpleNamespace(cuda=cuda), stream=SimpleNamespace(synchronize=lambda: None))
    clock = script.timing.Clock(gpu, rounds=9)
    assert clock(lambda: calls.append(1), repeat=2) == 2.0
    assert len(calls) == clock.WARM + 2 * 9
    calls.clear()
    script.timing.Clock(gpu, rounds=9, seconds=0)(lambda: calls.append(1))
    assert len(calls) == clock.WARM + clock.FEWEST


def test_what_fails_is_counted_and_shown(script):
    def wrong():
        return np.ones(2), np.ones(3)

    def broken():
        raise ValueError("no such thing")

    compared = script.correctness.compared
    rows = [compared("wrong", wrong), compared("broken", broken), compared("off", off)]
    assert not any(row["passed"] for row in rows)
    text = script.main.body({"kernels": rows})
    assert "0 of 3 passed" in text and "no such thing" in text


def off():
    return np.ones(2), np.ones(2) * 1.001


# ---- a process for each part ---------------------------------------------------------------------


def test_what_a_broken_process_found_stays(script, monkeypatch, tmp_path):
    """Rows of before the end, and how it ended; what another part found is untouched, and all is kept."""
    real = subprocess.run

    def run(command, **options):
        part, into = (command[command.index(flag) + 1] for flag in ("--child", "--into"))
        row = {"what": part, "passed": True}
        code = f"print('alive'); open({into!r}, 'w').write({json.dumps(row)!r}); " + (
            "raise SystemExit('illegal address')" if part == "rules" else ""
        )
        return real([sys.executable, "-c", code], **options)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(script.main, "_where", lambda: ("GPU of Ours", {"gpu": "GPU of Ours"}))
    ended = script.main.main(["--only", "kernels", "rules", "bandwidth", "--results", str(tmp_path)])
    assert ended == 1
    kept = json.loads((tmp_path / "gpu_of_ours.json").read_text())["results"]
    assert [len(kept[part]) for part in ("kernels", "rules", "bandwidth")] == [1, 2, 1]
    assert "illegal address" in kept["rules"][1]["why"] and not kept["rules"][1]["passed"]
    assert "illegal address" in (tmp_path / "gpu_of_ours.md").read_text()
    assert script.main.main(["--only", "kernels", "--results", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "gpu_of_ours.json").read_text())["results"].keys() == kept.keys()


def test_a_process_that_takes_too_long_is_ended(script, monkeypatch):
    real = subprocess.run

    def run(command, **options):
        return real([sys.executable, "-c", "import time; time.sleep(60)"], **options)

    monkeypatch.setattr(subprocess, "run", run)
    (row,) = script.main.in_a_process("kernels", 0.5)
    assert not row["passed"] and "0.5 s" in row["why"]


def test_a_child_writes_each_row_at_once(script, monkeypatch, tmp_path):
    into = tmp_path / "rows"

    def rows(part, seconds):
        yield {"what": "first", "passed": True}
        assert json.loads(into.read_text())["what"] == "first"
        yield {"what": "second", "passed": False}

    monkeypatch.setattr(script.main, "rows_of", rows)
    assert script.main.main(["--child", "kernels", "--into", str(into)]) == 0
    assert len(into.read_text().splitlines()) == 2
    monkeypatch.setattr(script.main, "rows_of", lambda part, seconds: iter([{"passed": False}]))
    assert script.main.main(["--child", "few"]) == 1
