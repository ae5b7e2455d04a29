"""JSON as it stands on disk: a line for each file and each element, so that people can read it."""

from __future__ import annotations

import json
import math
from typing import Any, Final

LINES_DEPTH: Final = 3
"""How deep documents are laid out in lines: down to the elements of series.json."""


def as_json(document: dict[str, Any]) -> bytes:
    """Return a document as it stands on disk; JSON has no numbers that are not finite."""
    try:
        text = _in_lines(document)
    except ValueError:
        text = _in_lines(_spelled(document))
    return text.encode() + b"\n"


def _in_lines(value: Any, depth: int = 0) -> str:
    """Give what holds more than plain values a line for each; a file or an element has one line."""
    inner = value.values() if isinstance(value, dict) else value
    is_nested = isinstance(value, dict | list) and any(isinstance(v, dict | list) for v in inner)
    if not is_nested or depth == LINES_DEPTH:
        return _in_one_line(value)
    lines = [_in_lines(v, depth + 1) for v in inner]
    if isinstance(value, dict):
        lines = [f"{_in_one_line(k)}: {line}" for k, line in zip(value, lines, strict=True)]
    begin, end = "{}" if isinstance(value, dict) else "[]"
    indent = "\n" + " " * depth
    return f"{begin}{indent} " + f",{indent} ".join(lines) + indent + end


_in_one_line: Final = json.JSONEncoder(allow_nan=False).encode
"""The encoder that is written in C; with lines it would be the one in Python."""


def _spelled(value: Any) -> Any:
    """Spell numbers that are not finite as other writers of DICOM JSON do: NaN, inf, -inf."""
    if isinstance(value, dict):
        return {k: _spelled(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else str(float(value))
    return value
