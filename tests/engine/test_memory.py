"""What is freed while a session is built is the system's again at once, and only then."""

import json
import os
import subprocess
import sys

import pytest

from onnxvis.engine import memory

glibc = pytest.mark.skipif(
    memory._glibc() is None, reason="another C library than glibc has nothing to be asked"
)

SCRIPT = """
import json, sys
import numpy as np
from onnxvis.engine.memory import given_back

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def held():
    '''MB that stay after 100 MB in blocks of 1 MB are freed, where small ones lie in between.'''
    before, blocks, small = resident(), [], []
    for _ in range(100):
        blocks.append(np.ones(2**17))
        small.append(np.ones(2000))
    del blocks
    return resident() - before

large = np.ones(2**21)
del large  # 16 MB: from now on glibc keeps smaller blocks
with given_back():
    within = held()
print(json.dumps([within, held()]))
"""


def measured(**environment):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


@glibc
def test_blocks_are_given_back_while_it_is_on():
    within, after = measured()
    assert within < 10 and after > 30  # as glibc does without it, and as it is to do again


@glibc
@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_MMAP_THRESHOLD_": str(8 << 20)}, {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={8 << 20}"}],
    ids=["variable", "tunable"],
)
def test_what_the_environment_sets_is_left_alone(environment):
    within, _ = measured(**environment)
    assert within > 30
