"""What happens where a peer is missing: the one test here that needs none of them."""

from __future__ import annotations

import pytest

from .libraries import peer


def test_a_missing_peer_skips_and_says_how_to_install_it():
    with pytest.raises(pytest.skip.Exception, match=r"is not installed; run tests/peers/install\.sh"):
        peer("no_such_library.at_all")
