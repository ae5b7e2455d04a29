"""What counts as found by the listing alone."""

from __future__ import annotations

from dicomzarr_watch.intake.silence import TOLD_WITHIN_S, Silence


def test_files_that_no_event_told_of_are_counted_once_when_none_can_come_any_more() -> None:
    silence = Silence()
    assert silence.looked(0.0, 3, is_asked_for=False) == 0
    assert silence.looked(TOLD_WITHIN_S - 1, 2, is_asked_for=False) == 0
    assert silence.looked(TOLD_WITHIN_S, 0, is_asked_for=False) == 3
    assert silence.looked(TOLD_WITHIN_S + 1, 0, is_asked_for=False) == 0
    assert silence.looked(2 * TOLD_WITHIN_S, 0, is_asked_for=False) == 2


def test_an_event_that_comes_late_is_about_what_was_found_before_it() -> None:
    silence = Silence()
    silence.looked(0.0, 3, is_asked_for=False)
    assert silence.looked(0.6, 0, is_asked_for=True) == 0
    assert silence.looked(TOLD_WITHIN_S, 0, is_asked_for=False) == 0


def test_what_a_look_finds_that_an_event_asked_for_is_not_counted() -> None:
    silence = Silence()
    assert silence.looked(0.0, 3, is_asked_for=True) == 0
    assert silence.looked(2 * TOLD_WITHIN_S, 0, is_asked_for=False) == 0
