#!/usr/bin/env python3
"""Time of a label over the number of labels: measures with `regrow bench`, prints Markdown, draws scaling.svg beside this file.

    python3 docs/benchmarks/scaling.py --measure target/release/regrow   # writes scaling.jsonl, a report a line
    python3 docs/benchmarks/scaling.py                                   # table and plot from scaling.jsonl
"""

import argparse
import json
import math
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPORTS = HERE / "scaling.jsonl"
LABELS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
ROWS = {"classifier step": "#0072b2", "ranking, top 5": "#009e73", "rewiring, 15 %": "#e69f00"}


def measure(regrow, seconds, rounds):
    """A report for each number of labels and round, F = 32, D = 768, B = 64, on the CPU engine. A round goes through all
    numbers, so that a machine's slow minutes do not fall on one of them alone."""
    with REPORTS.open("w") as out:
        for labels in LABELS * rounds:
            command = [regrow, "bench", "--device", "cpu", "--encoder", "none", "--json", "--labels", str(labels),
                       "--seconds", str(seconds)]
            report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            out.write(json.dumps({"labels": labels, **report}) + "\n")
            print(labels, "labels measured", flush=True)


def points(reports, name):
    """(labels, nanoseconds a label) of the fastest repetition of all rounds."""
    best = {}
    for report in reports:
        labels = report["labels"]
        times = [row["best"] * 1e6 / labels for row in report["rows"] if row["name"] == name]
        best[labels] = min([*times, best.get(labels, math.inf)])
    return sorted(best.items())


def table(reports):
    print(f"{reports[0]['device']}; best of the repetitions, nanoseconds a label\n")
    print("| labels | " + " | ".join(ROWS) + " |")
    print("|---" * (len(ROWS) + 1) + "|")
    columns = {name: dict(points(reports, name)) for name in ROWS}
    for labels in sorted({report["labels"] for report in reports}):
        print(f"| {labels:,} | " + " | ".join(f"{columns[name][labels]:.0f}" for name in ROWS) + " |")


def plot(reports):
    left, top, width, height = 70, 20, 460, 300
    series = {name: points(reports, name) for name in ROWS}
    high = max(time for line in series.values() for _, time in line)
    step = 10 ** math.floor(math.log10(high))
    step = step / 2 if high / step < 3 else step
    high = math.ceil(high / step) * step
    ends = [math.log10(LABELS[0]), math.log10(LABELS[-1])]

    def x(labels):
        return left + 20 + (width - 40) * (math.log10(labels) - ends[0]) / (ends[1] - ends[0])

    def y(time):
        return top + height * (high - time) / high

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 130} {top + height + 60}" '
           f'font-family="sans-serif" font-size="13"><title>Nanoseconds a label over the number of labels</title>'
           f'<rect width="100%" height="100%" fill="#ffffff"/>']
    for tick in range(round(high / step) + 1):
        at = y(tick * step)
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{at:.1f}" y2="{at:.1f}" stroke="#dddddd"/>'
                   f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#333333">{tick * step:g}</text>')
    for labels in LABELS:
        text = f"{labels // 1_000_000} M" if labels >= 1_000_000 else f"{labels // 1000} k"
        out.append(f'<text x="{x(labels):.1f}" y="{top + height + 20}" text-anchor="middle" fill="#333333">{text}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 44}" text-anchor="middle" fill="#333333">labels</text>'
               f'<text x="16" y="{top + height / 2}" text-anchor="middle" fill="#333333" '
               f'transform="rotate(-90 16 {top + height / 2})">nanoseconds a label</text>')
    names = []
    for name, line in series.items():
        places = [(x(labels), y(time)) for labels, time in line]
        drawn = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        out.append(f'<polyline points="{drawn}" fill="none" stroke="{ROWS[name]}" stroke-width="2"/>')
        out.extend(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{ROWS[name]}"/>' for px, py in places)
        names.append([places[-1][1], name])
    # Names at the ends of their lines, pushed apart where they would overlap.
    names.sort()
    for i in range(1, len(names)):
        names[i][0] = max(names[i][0], names[i - 1][0] + 15)
    for place, name in names:
        out.append(f'<text x="{left + width + 4}" y="{place + 4:.1f}" fill="{ROWS[name]}">{name}</text>')
    (HERE / "scaling.svg").write_text("\n".join(out) + "\n</svg>\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--measure", metavar="REGROW", help="measure with this program first")
    arguments.add_argument("--seconds", type=float, default=2.0, help="seconds for each row")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds through all numbers of labels")
    arguments = arguments.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.seconds, arguments.rounds)
    reports = [json.loads(line) for line in REPORTS.read_text().splitlines()]
    table(reports)
    plot(reports)


if __name__ == "__main__":
    main()
