"""Every reader handles 300 mutated inputs; `make fuzz` runs 10,000 of each."""

from __future__ import annotations

import pytest

from tests.fuzz.readers import READERS, Reader
from tests.fuzz.running import failures


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_mutated_input_is_read_right_or_refused_in_a_sentence(reader: Reader) -> None:
    assert failures(reader, 300) == []
