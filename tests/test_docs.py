"""What the docs list is what there is."""

import re

from models import ROOT

from onnxvis.ops.primitives import Ops


def test_the_closed_set_is_listed():
    text = (ROOT / "docs" / "adding_an_executor.md").read_text()
    listed = re.search(r"<!-- primitives -->(.*)<!-- /primitives -->", text, re.DOTALL)
    assert re.findall(r"`(\w+)`", listed[1]) == sorted(Ops.__abstractmethods__)


def test_every_primitive_says_what_it_computes():
    missing = [name for name in Ops.__abstractmethods__ if not getattr(Ops, name).__doc__]
    assert not missing
