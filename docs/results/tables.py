#!/usr/bin/env python3
"""Tables and plots of docs/results.md from runs.jsonl: prints Markdown, writes the two SVG files beside this one.

    python3 docs/results/tables.py
"""

import json
import statistics
from pathlib import Path

HERE = Path(__file__).resolve().parent
LABELS, FEATURES, WIDTH = 26_983, 256, 1024
FAN_INS = (16, 32, 64, 128)
# A tenth, in the rows with a dense head.
DENSE_LABELS = 2698

COLOURS = {"none": "#0072b2", "auxiliary": "#e69f00", "intermediate": "#009e73", "both": "#cc79a7", "bottleneck": "#666666"}
DASHES = {"none": "", "auxiliary": "6 3", "intermediate": "", "both": "2 3", "bottleneck": "8 3 2 3"}


def load():
    runs = {}
    for line in (HERE / "runs.jsonl").read_text().splitlines():
        run = json.loads(line)
        runs.setdefault(run["name"], []).append(run)
    return runs


def mean(runs, key):
    values = [run["test"][key] for run in runs]
    return statistics.mean(values), (statistics.stdev(values) if len(values) > 1 else None)


def slice_recall(runs, name):
    return statistics.mean(run["test"]["slices"][name]["R@5"] for run in runs)


def cell(runs, key):
    value, spread = mean(runs, key)
    return f"{value:.2f}" if spread is None else f"{value:.2f} ± {spread:.2f}"


def weights(name):
    """Trained weights above the encoder, in millions."""
    f = next((int(part) for part in name.replace(",", " ").split() if part.isdigit()), 0)
    wide = 4096 if "4096" in name else WIDTH if "intermediate" in name or "both" in name else 0
    if name.startswith("dense"):
        count = LABELS * (FEATURES + 1)
    elif name.startswith("bottleneck"):
        count = LABELS * (f + 1) + f * (FEATURES + 1)
    else:
        count = LABELS * (f + 1)
    if "dense head" in name:
        seen = 128 if "of its own" in name else WIDTH if wide else FEATURES
        count = DENSE_LABELS * (seen + 1) + (LABELS - DENSE_LABELS) * (f + 1)
    return (count + wide * (FEATURES + 1)) / 1e6


def table(runs, names):
    print("| | weights, M | P@1 | P@3 | P@5 | PSP@1 | PSP@3 | PSP@5 | R@5 head / torso / tail |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        if name not in runs:
            continue
        row = runs[name]
        cells = " | ".join(cell(row, f"{metric}@{k}") for metric in ("P", "PSP") for k in (1, 3, 5))
        recalls = " / ".join(f"{slice_recall(row, part):.1f}" for part in ("head", "torso", "tail"))
        seeds = f" ({len(row)} seeds)" if len(row) > 1 else ""
        print(f"| {name}{seeds} | {weights(name):.2f} | {cells} | {recalls} |")
    print()


def plot(runs, key, path, low, high, step):
    """The metric over the fan-in, with and without each aid."""
    left, top, width, height = 60, 20, 460, 300
    xs = {f: left + 40 + i * (width - 80) / (len(FAN_INS) - 1) for i, f in enumerate(FAN_INS)}

    def y(value):
        return top + height * (high - value) / (high - low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 130} {top + height + 60}" '
           f'font-family="sans-serif" font-size="13"><title>{key} over the fan-in</title>'
           f'<rect width="100%" height="100%" fill="#ffffff"/>']
    value = low
    while value <= high + 1e-9:
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#dddddd"/>'
                   f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#333333">{value:g}</text>')
        value += step
    for f, x in xs.items():
        out.append(f'<text x="{x:.1f}" y="{top + height + 20}" text-anchor="middle" fill="#333333">{f}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 44}" text-anchor="middle" fill="#333333">'
               f'fan-in F, or width of the bottleneck</text>'
               f'<text x="16" y="{top + height / 2}" text-anchor="middle" fill="#333333" '
               f'transform="rotate(-90 16 {top + height / 2})">{key}, percent</text>')
    dense = mean(runs["dense"], key)[0]
    out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(dense):.1f}" y2="{y(dense):.1f}" stroke="#000000" '
               f'stroke-width="1.5"/><text x="{left + width + 6}" y="{y(dense) - 6:.1f}" fill="#000000">dense</text>')
    series = {"none": "fan-in {}", "auxiliary": "fan-in {} + auxiliary", "intermediate": "fan-in {} + intermediate",
              "both": "fan-in {} + both", "bottleneck": "bottleneck {}"}
    ends = []
    for kind, pattern in series.items():
        points = [(xs[f], y(mean(runs[pattern.format(f)], key)[0])) for f in FAN_INS if pattern.format(f) in runs]
        if not points:
            continue
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[kind]}" stroke-width="2" '
                   f'stroke-dasharray="{DASHES[kind]}"/>')
        out.extend(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{COLOURS[kind]}"/>' for px, py in points)
        ends.append([points[-1][1], kind])
    # Names at the ends of their lines, pushed apart where they would overlap.
    ends.sort()
    for i in range(1, len(ends)):
        ends[i][0] = max(ends[i][0], ends[i - 1][0] + 15)
    for place, kind in ends:
        name = "fan-in alone" if kind == "none" else kind if kind == "bottleneck" else f"+ {kind}"
        out.append(f'<text x="{left + width - 30}" y="{place + 4:.1f}" fill="{COLOURS[kind]}">{name}</text>')
    path.write_text("\n".join(out) + "\n</svg>\n")


def main():
    runs = load()
    aids = ("", " + auxiliary", " + intermediate", " + both")
    sections = {
        "Heads": ["dense", "dense + auxiliary", *(f"bottleneck {f}" for f in FAN_INS),
                  *(f"fan-in {f}{aid}" for f in FAN_INS for aid in (*aids, " + intermediate 4096"))],
        "The paper's start": ["dense, paper's start", *(f"fan-in {f}, paper's start{aid}" for f in (32, 128) for aid in aids),
                              "fan-in 32, paper's start + auxiliary, random clusters"],
        "Starting weights and biases": ["fan-in 32, start 0.01", "fan-in 32", "fan-in 32, start 0.3",
                                        "fan-in 32, paper's start", "fan-in 32, bias -1", "fan-in 32, bias 0",
                                        "fan-in 32, paper's start, bias 0", "fan-in 32, paper's start, bias 0 + auxiliary",
                                        "dense, bias 0"],
        "Squared hinge": ["dense, hinge", "fan-in 32, hinge", *(f"fan-in 32, hinge, paper's start{aid}" for aid in aids),
                          "fan-in 32, hinge, paper's start, bias -2", "fan-in 32, hinge, paper's start, bias 0",
                          "fan-in 32, hinge, paper's start, bias 0 + auxiliary", "fan-in 32, hinge, bias 0"],
        "Rewiring": ["fan-in 32, no rewiring", "fan-in 32", "fan-in 32, every 50", "fan-in 32, every 100", "fan-in 32, every 600",
                     "fan-in 32, share 0.05", "fan-in 32, share 0.3", "fan-in 32, share falling", "fan-in 32, of each row",
                     "fan-in 32, by gradient", "fan-in 32, threshold 0.01", "fan-in 32, threshold 0.05",
                     *(f"fan-in {f}, no rewiring" for f in (16, 64, 128))],
        "What rewiring costs, with the intermediate layer": [
            *(f"fan-in {f} + intermediate{rest}" for f in (32, 64, 128)
              for rest in ("", ", per row", ", no rewiring", " 4096", " 4096, no rewiring", " 4096, 16 epochs")),
            "fan-in 128 + both, no rewiring"],
        "Rewiring with and without the second moment": [
            *(f"fan-in {f}{how}" for f in ("32", "64", "128", "192", "32 + intermediate", "128 + intermediate")
              for how in (", no rewiring", "", ", second moment kept")),
            *(f"fan-in 32, {way}{how}" for way in ("every 50", "by gradient", "threshold 0.05")
              for how in ("", ", second moment kept"))],
        "What else was tried for the tail": [
            "dense", "bottleneck 192", "fan-in 128, no rewiring", "fan-in 128, by documents, no rewiring",
            "fan-in 192, no rewiring", "fan-in 192, by documents, no rewiring", "fan-in 128 + intermediate, no rewiring",
            "fan-in 192 + intermediate, no rewiring", "fan-in 128 + intermediate, no rewiring, scale 1",
            "fan-in 128 + intermediate, no rewiring, dropout 0.4", "fan-in 128 + intermediate, early by gradient",
            "fan-in 128 + intermediate, no rewiring, gelu", "fan-in 128 + intermediate 4096, no rewiring, gelu"],
        "The rate of the classifier": [
            name for row in ("dense", "fan-in 32 + intermediate, no rewiring", "fan-in 128 + intermediate, no rewiring")
            for name in (row, f"{row}, rate 2e-2", f"{row}, rate 4e-2")],
        "Dense head, sparse tail": [
            "fan-in 32", "fan-in 32 + auxiliary", "fan-in 40 + auxiliary", "fan-in 32, dense head of its own", "fan-in 32, dense head", "fan-in 64",
            "fan-in 128, no rewiring", "fan-in 128, dense head, no rewiring",
            "fan-in 128 + intermediate, dense head, no rewiring"],
        "Groups and strata": [
            "fan-in 64", "fan-in 64, stratified", *(f"fan-in 64, groups of 16 by {how}" for how in ("text", "frequency", "random")),
            "fan-in 64, groups of 32 by text", "fan-in 64, groups of 64 by text"],
        "Products in bf16": [
            "dense", "dense, products in bf16", "fan-in 64, groups of 16 by text",
            "fan-in 64, groups of 16 by text, products in bf16"],
        "Where the auxiliary objective ends": [
            "fan-in 32", "fan-in 32 + auxiliary until epoch 1", "fan-in 32 + auxiliary", "fan-in 32 + auxiliary until epoch 8",
            "fan-in 32, paper's start", "fan-in 32, paper's start + auxiliary until epoch 1",
            "fan-in 32, paper's start + auxiliary", "fan-in 32, paper's start + auxiliary until epoch 8"],
    }
    for title, names in sections.items():
        print(f"### {title}\n")
        table(runs, names)
    plot(runs, "P@1", HERE / "precision.svg", 28, 46, 2)
    plot(runs, "PSP@1", HERE / "propensity.svg", 10, 24, 2)


if __name__ == "__main__":
    main()
