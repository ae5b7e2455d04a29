from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import Answer, Ask, Converted
from drops import made

from dicomzarr_watch.cli import main


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Give the command line as a function: the program's own `main`, in this process."""

    def asked(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["dicomzarr-watch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Answer(int(ended.value.code or 0), out, err)

    return asked


@pytest.fixture
def converted(tmp_path: Path, ask: Ask) -> Converted:
    drops, output = tmp_path / "drops", tmp_path / "output"
    made(drops / "one" / "deep", 3, series_uid="1.2.3")
    made(drops / "one" / "more", 2, series_uid="1.2.4", SeriesNumber=2)
    made(drops / "two", 2, series_uid="1.2.5", SeriesNumber=3)
    answer = ask("convert", drops / "one", drops / "two", "--output", output)
    assert answer.code == 0
    files = {p.relative_to(drops).as_posix(): p.read_bytes() for p in drops.rglob("*.dcm")}
    return Converted(drops, output, files)
