"""The only one who knows both sides, the inbox and the archive.

`loop` runs; `watching` looks at the inbox and offers what is complete to the ledger; `working` has
the engine do what the ledger says; `reporting` writes down what became of every file.
"""

from dicomzarr_watch.daemon.loop import run

__all__ = ["run"]
