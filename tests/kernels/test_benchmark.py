"""The script for a GPU, as far as it runs without one."""

import numpy as np
import pytest

from .compiling import GPP, WHY
from .stand_in import stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)


@pytest.fixture(scope="module")
def script():
    return pytest.importorskip("benchmarks.gpu", reason="needs benchmarks/ and tests/ beside each other")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_primitives(script, dtype):
    rows = script.primitives(stand_in_ops(dtype))
    assert len(rows) > 600 and not [row for row in rows if not row["passed"]]


def test_rules(script, monkeypatch):
    from tests.rules import cases

    few = cases.pairs()[::100]
    monkeypatch.setattr(cases, "pairs", lambda: few)
    rows = script.rules(stand_in_ops())
    assert rows and not [row for row in rows if not row["passed"]]
    assert {row["graph"] for row in rows} == {"captured"}


def test_bandwidth(script):
    """Each kernel moves what the table says: the clock here makes every call as fast as the copy."""
    rows = script.bandwidth(stand_in_ops(), 2**16, lambda call: call() is None or 1.0)
    assert {row["kernel"] for row in rows} >= {"rectify", "split", "quotient", "max_route"}
    assert "| kernel |" in script.body({"bandwidth": rows})


def test_what_fails_is_counted_and_shown(script):
    def wrong():
        return np.ones(2), np.ones(3)

    def broken():
        raise ValueError("no such thing")

    rows = [script._row("wrong", wrong), script._row("broken", broken), script._row("off", off)]
    assert not any(row["passed"] for row in rows)
    text = script.body({"kernels": rows})
    assert "0 of 3 passed" in text and "no such thing" in text


def off():
    return np.ones(2), np.ones(2) * 1.001
