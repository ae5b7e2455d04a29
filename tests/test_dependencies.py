"""What the package is installed with: pinned, by hash, and under licences that ask for nothing."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WANTED = [Requirement(line) for line in PROJECT["dependencies"]]
TEXT = (ROOT / "config" / "constraints.txt").read_text("utf-8")
PINS = "".join(f"{line}\n" for line in TEXT.splitlines() if not line.startswith("#"))
PIN = re.compile(r"([a-z0-9-]+)==([\w.]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")
VERSIONS = {name: version for name, version, _ in PIN.findall(PINS)}


def installed() -> set[str]:
    """Return the names of all that the package brings, what its dependencies bring included."""
    left = [requirement.name for requirement in WANTED]
    found: set[str] = set()
    while left:
        name = canonicalize_name(left.pop())
        if name not in found:
            found.add(name)
            needed = map(Requirement, distribution(name).requires or ())
            left += [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def test_every_pin_has_hashes_and_there_is_nothing_else() -> None:
    assert PIN.sub("", PINS) == ""
    assert len(VERSIONS) == len(PIN.findall(PINS))


def test_every_dependency_is_pinned_to_a_version_that_is_allowed() -> None:
    for requirement in WANTED:
        assert VERSIONS[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_all_that_dependencies_bring_is_pinned_and_no_more() -> None:
    assert installed() | {"backports-zstd"} == VERSIONS.keys()  # which Python 3.14 needs no more


def test_no_dependency_is_under_a_licence_of_the_gpl() -> None:
    said = {name: licences(name) for name in installed()}
    assert [name for name, words in said.items() if not words] == []
    gpl = re.compile(r"\b[AL]?GPL|GNU .*General Public", re.IGNORECASE)
    assert [name for name, words in said.items() if gpl.search(words)] == []


def licences(name: str) -> str:
    """Return what a distribution says of its licence, in whatever way it does."""
    said = distribution(name).metadata
    classifiers = [c for c in said.get_all("Classifier") or () if c.startswith("License ::")]
    expressions = said.get_all("License-Expression") or ()
    titles = [text.partition("\n")[0] for text in said.get_all("License") or ()]
    return "\n".join(filter(None, [*expressions, *titles, *classifiers]))
