from __future__ import annotations

import errno
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomzarr_watch.errors import (
    NO_SPACE,
    OUTPUT_ERROR,
    DicomzarrError,
    RejectError,
    RetryError,
    SourceChangedError,
    StopError,
    from_output_error,
    from_source_error,
    from_state_error,
)
from dicomzarr_watch.outcome import Ended, Outcome, of_error

LEAVES = {
    RetryError: Ended.RETRY,
    SourceChangedError: Ended.CHANGED,
    RejectError: Ended.REJECTED,
    StopError: Ended.CRASHED,
}
leaves = pytest.mark.parametrize("leaf", LEAVES)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, "code"),
        ({"expected": "a"}, "code: expected a"),
        ({"found": "b"}, "code: found b"),
        ({"todo": "c"}, "code: c"),
        ({"expected": "a", "found": "b", "todo": "c"}, "code: expected a; found b; c"),
    ],
)
@leaves
def test_an_error_says_what_was_expected_what_was_found_and_what_to_do(
    leaf: type[DicomzarrError], parts: dict[str, str], told: str
) -> None:
    assert str(leaf("code", **parts)) == told


words = st.text(max_size=10)


parts = st.fixed_dictionaries(
    dict.fromkeys(("code", "expected", "found", "todo", "private"), words)
)


@given(st.sampled_from(list(LEAVES)), parts)
def test_an_error_comes_through_a_process_boundary_as_it_was(
    leaf: type[DicomzarrError], parts: dict[str, str]
) -> None:
    error = leaf(**parts)
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(back) is leaf
    assert vars(back) == vars(error)
    assert str(back) == str(error)


@leaves
def test_promise_8_what_is_private_is_not_in_the_message(leaf: type[DicomzarrError]) -> None:
    error = leaf("code", expected="a", found="b", private="/in/Doe^Jane")
    assert "Doe" not in str(error)
    assert "Doe" not in repr(error)
    assert error.private == "/in/Doe^Jane"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_output_is_told_from_a_broken_one(number: int) -> None:
    error = from_output_error(OSError(number, "words", "/out/Doe^Jane"))
    assert (error.code, error.found) == (NO_SPACE, errno.errorcode[number])
    assert "free space" in error.todo


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "state-full"), (errno.EDQUOT, "state-full"), (errno.EIO, "state-error")],
)
def test_a_full_state_folder_is_not_a_full_output(number: int, code: str) -> None:
    error = from_state_error(OSError(number, "words", "/state/unpacked"))
    assert isinstance(error, RetryError)
    assert error.code == code
    assert "state folder" in str(error)


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ENOTCONN, errno.EACCES])
def test_what_the_system_says_is_classed_by_whose_it_is(number: int) -> None:
    said = OSError(number, "words", "/some/Doe^Jane")
    output, source = from_output_error(said), from_source_error(said)
    assert (output.code, source.code) == (OUTPUT_ERROR, "source-unreadable")
    for error in (output, source):
        assert isinstance(error, RetryError)
        assert error.found == errno.errorcode[number]
        assert "Doe" not in str(error)
        assert error.private == "/some/Doe^Jane"


@pytest.mark.parametrize("said", [OSError("words"), OSError(99_999, "words")])
def test_what_the_system_does_not_number_is_unknown(said: OSError) -> None:
    assert from_output_error(said).found == from_source_error(said).found == "unknown"
    assert from_output_error(said).private == ""


@pytest.mark.parametrize(("leaf", "how"), LEAVES.items())
def test_every_error_has_one_next_action(leaf: type[DicomzarrError], how: Ended) -> None:
    error = leaf("code", found="b", private="c")
    assert of_error(error) == Outcome(how, "code", "code: found b", "c")


def test_there_is_no_other_error_and_every_one_is_a_leaf() -> None:
    ours = {
        e for e in DicomzarrError.__subclasses__() if e.__module__.startswith("dicomzarr_watch")
    }
    assert ours == set(LEAVES)
    assert not any(leaf.__subclasses__() for leaf in LEAVES)
