"""Documents are laid out for people and read back by programs."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomzarr_watch.archive import lines

FINITE = st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), FINITE, st.text()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def test_numbers_that_are_not_finite_are_spelled_out() -> None:
    document = {"Value": [math.nan, math.inf, -math.inf, 0.5], "more": [{"a": (1.0, math.inf)}]}
    assert json.loads(lines.as_json(document), parse_constant=pytest.fail) == {
        "Value": ["NaN", "inf", "-inf", 0.5],
        "more": [{"a": [1.0, "inf"]}],
    }


@given(st.dictionaries(st.text(), DOCUMENTS))
def test_a_document_is_read_back_as_it_was_laid_out(document: dict[str, Any]) -> None:
    assert json.loads(lines.as_json(document)) == document


def test_a_file_and_an_element_have_a_line_each() -> None:
    files = [{"name": "a.dcm", "size": 1}, {"name": "b.dcm", "size": 2}]
    shared = {"00080060": {"vr": "CS", "Value": ["MR"]}, "00180050": {"vr": "DS", "Value": [1.5]}}
    document = {"schema": 1, "files": files, "tags": {"shared": shared, "columns": {}}}
    assert (
        lines.as_json(document).decode()
        == """{
 "schema": 1,
 "files": [
  {"name": "a.dcm", "size": 1},
  {"name": "b.dcm", "size": 2}
 ],
 "tags": {
  "shared": {
   "00080060": {"vr": "CS", "Value": ["MR"]},
   "00180050": {"vr": "DS", "Value": [1.5]}
  },
  "columns": {}
 }
}
"""
    )
