"""Does time grow as the work does? Slices of a series, series of an inbox, 1 and 2 workers.

    python benchmarks/growth.py [--most N] [--runs N] [--docs DIR] [--work DIR]

Each point is `run --once` over an inbox that was made for it, from the first job to the last. With
--docs the numbers are written to DIR/growth.json and drawn in DIR/growth.svg, seconds over count on
logarithmic axes; the grey lines are what growing with the count looks like. Told is how much longer
one piece takes among the most of them than among a tenth of that: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from inboxes import fill, running

COUNTS = (10, 30, 100, 300, 1000, 3000, 10_000)
WORKERS = (1, 2)
SLICES = 10
SIDE = 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--most", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--docs", type=Path, default=None)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    counts = [n for n in COUNTS if n <= options.most]
    told: dict[str, Any] = {"case": "growth", "slices": {}, "series": {}}
    for workers in WORKERS:
        for of in ("slices", "series"):
            told[of][workers] = {
                n: round(
                    statistics.median(
                        seconds(of, n, workers, options.work) for _ in range(options.runs)
                    ),
                    3,
                )
                for n in counts
            }
    told["longer_a_piece"] = {
        f"{of}, {workers} workers": longer(told[of][workers], counts)
        for of in ("slices", "series")
        for workers in WORKERS
    }
    print(json.dumps(told, indent=1))
    if options.docs is not None:
        options.docs.mkdir(exist_ok=True)
        (options.docs / "growth.json").write_text(json.dumps(told, indent=1) + "\n")
        (options.docs / "growth.svg").write_text(drawn(told))


def seconds(of: str, count: int, workers: int, work: Path | None) -> float:
    """Return the time from the first job's start to the last one's end."""
    series, slices = (1, count) if of == "slices" else (count, SLICES)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        place = Path(folder)
        fill(place / "inbox", series, slices, side=SIDE)
        settings = {"settle_s": 3, "workers": workers}  # by then the engine is warm
        with running(place, "--once", inbox=place / "inbox", **settings) as daemon:
            if daemon.end():
                raise SystemExit(f"not all was archived: {daemon.events[-1]}")
    at: dict[str, list[float]] = {
        name: [event["at_s"] for event in daemon.events if event["event"] == name]
        for name in ("job.started", "job.done")
    }
    return at["job.done"][-1] - at["job.started"][0]


def longer(found: dict[int, float], counts: list[int]) -> float:
    """Return the time for one piece among the most, over that among a tenth as many."""
    most = counts[-1]
    return round((found[most] / most) / (found[most // 10] / (most // 10)), 2)


def drawn(told: dict[str, Any]) -> str:
    """Return a picture of both, without any library."""
    font = 'font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 360" {font}>',
        '<rect width="760" height="360" fill="white"/>',
    ]
    parts += panel(60, "slices in one series", told["slices"])
    parts += panel(440, f"series of {SLICES} slices", told["series"])
    return "\n".join([*parts, "</svg>", ""])


def panel(left: int, title: str, lines: dict[int, dict[int, float]]) -> list[str]:
    """Draw seconds over count on logarithmic axes."""
    values = [s for points in lines.values() for s in points.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    counts = sorted({n for points in lines.values() for n in points})
    first, last = math.log10(counts[0]), math.log10(counts[-1])

    def at(count: float, s: float) -> tuple[float, float]:
        x = left + 280 * (math.log10(count) - first) / (last - first)
        return round(x, 1), round(310 - 260 * (math.log10(s) - low) / (high - low), 1)

    parts = [f'<text x="{left + 140}" y="30" text-anchor="middle">{title}</text>']
    for power in range(low, high + 1):
        x, y = at(counts[0], 10.0**power)
        parts.append(f'<path d="M{x} {y}h280" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{10.0**power:g} s</text>')
        # a line that grows with the count, through each power of ten
        span = min(last - first, high - power)
        end = at(counts[0] * 10**span, 10.0 ** (power + span))
        parts.append(f'<path d="M{x} {y}L{end[0]} {end[1]}" stroke="#ccc" stroke-dasharray="3 3"/>')
    for count in counts:
        if math.log10(count).is_integer():
            x, _ = at(count, 10.0**low)
            parts.append(f'<text x="{x}" y="328" text-anchor="middle">{count:,}</text>')
    for (workers, points), colour in zip(lines.items(), ("#1f77b4", "#d62728"), strict=True):
        places = [at(n, s) for n, s in points.items()]
        way = "L".join(f"{x} {y}" for x, y in places)
        parts.append(f'<path d="M{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        noun = "worker" if workers == 1 else "workers"
        parts.append(
            f'<text x="{left + 8}" y="{44 + 14 * workers}" fill="{colour}">{workers} {noun}</text>'
        )
    return parts


if __name__ == "__main__":
    main()
