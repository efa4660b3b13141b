from __future__ import annotations

import sys

import pytest

from hf_mlops.base.progress import Progress


def work(every: float) -> None:
    with Progress("work", 4, every=every) as progress:
        for number in range(4):
            progress.advance(note=f"at {number}")


def test_without_a_terminal_there_are_plain_lines_at_the_start_and_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    work(every=60)
    assert capsys.readouterr().err.splitlines() == ["work: 1/4 steps, 0 s  at 0", "work: 4/4 steps, 0 s  at 3"]


def test_without_a_terminal_lines_come_as_time_passes(capsys: pytest.CaptureFixture[str]) -> None:
    work(every=0)
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_short_work_can_be_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 4, every=0, delay=60) as progress:
        progress.advance(4)
    assert capsys.readouterr().err == ""


def test_in_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    work(every=0)
    printed = capsys.readouterr().err
    assert "100%|" in printed and "4/4" in printed and "work: 4/4 steps" not in printed
