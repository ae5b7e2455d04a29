"""The command: its options, its settings, and what becomes of errors.

Exit codes: 0 all well, 1 something was rejected, differs or cannot be looked at, 2 usage, 78
settings.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from dicomzarr_watch import __version__, config, console
from dicomzarr_watch.archive.work import Level
from dicomzarr_watch.errors import DicomzarrError, StopError
from dicomzarr_watch.ledger.damage import damage_told, damaged

EX_CONFIG: Final = 78

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn folders of DICOM into verified Zarr archives, byte for byte.",
)

Json = Annotated[bool, typer.Option("--json", help="Answer for a program.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]
Inbox = Annotated[Path | None, typer.Option(help="Folder that people drop folders into.")]
Output = Annotated[Path | None, typer.Option(help="Folder that results appear in.")]
State = Annotated[Path | None, typer.Option(help="Folder of the ledger.")]
Verify = Annotated[Level | None, typer.Option(help="How strictly results are verified.")]
Workers = Annotated[int | None, typer.Option(help="Conversions at a time.")]


def main() -> None:
    """Run the command line; errors of ours become one message and an exit code."""
    try:
        app()
    except StopError as error:
        complain(error)
        sys.exit(EX_CONFIG if error.code == "settings-wrong" else 1)
    except DicomzarrError as error:
        complain(error)
        sys.exit(1)
    except sqlite3.Error as error:
        if damage_told(error):
            complain(damaged())
        else:
            console.complain(f"dicomzarr-watch: {error}")
        sys.exit(1)
    except OSError as error:
        console.complain(f"dicomzarr-watch: {error}")
        sys.exit(1)


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before the command."""


def _version(wanted: bool) -> None:
    if wanted:
        console.say(__version__)
        raise typer.Exit


def settings(file: Path | None, flags: dict[str, object]) -> config.Settings:
    """Read the settings as the program is called; raises StopError."""
    return config.load(file, environment=os.environ, flags=flags)


def complain(error: DicomzarrError) -> None:
    """Print an error of ours, with what only the person at the terminal may see."""
    for line in f"dicomzarr-watch: {error}".split("\n"):  # settings have one a problem
        console.complain(line)
    if error.private:
        console.complain(f"  at {error.private}")
