#!/usr/bin/env python3
"""Runs the grid behind docs/results.md: trains, evaluates on test, appends a JSON line for each run to runs.jsonl.

    python3 docs/results/grid.py --regrow target/release/regrow --data DIR [--workers 2] [--only NAME,NAME]

DIR is the folder of tib-titles. Runs that are in runs.jsonl already are not run again. Each run has one thread: results
do not depend on it. The model is the one that was best on dev; test decides nothing.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNS = HERE / "runs.jsonl"
CONFIG = HERE / "base.toml"

FAN_INS = (16, 32, 64, 128)
AUXILIARY = ["auxiliary.weight=0.4", "auxiliary.cutoff_epoch=4", "auxiliary.clusters=text"]
INTERMEDIATE = ["intermediate.width=1024"]
DENSE = ["classifier.head=dense"]
PAPER_START = ["classifier.init_scale=1"]
OFF = ["rewire.mode=off"]


def fan_in(f):
    return [f"classifier.fan_in={f}"]


def rows():
    """(name, settings, seeds) of every run."""
    once, thrice, six = (1,), (1, 2, 3), (1, 2, 3, 4, 5, 6)
    yield "dense", DENSE, six
    yield "dense, paper's start", DENSE + PAPER_START, once
    yield "dense + auxiliary", DENSE + AUXILIARY, once
    for f in FAN_INS:
        yield f"bottleneck {f}", ["classifier.head=bottleneck"] + fan_in(f), thrice if f == 32 else once
        yield f"fan-in {f}", fan_in(f), thrice if f == 32 else once
        yield f"fan-in {f}, no rewiring", fan_in(f) + OFF, once
        yield f"fan-in {f} + auxiliary", fan_in(f) + AUXILIARY, thrice if f == 32 else once
        yield f"fan-in {f} + intermediate", fan_in(f) + INTERMEDIATE, thrice if f == 32 else once
        yield f"fan-in {f} + both", fan_in(f) + AUXILIARY + INTERMEDIATE, once
    for f in (64, 128):
        wide = fan_in(f) + ["intermediate.width=4096"]
        yield f"fan-in {f} + intermediate 4096", wide, thrice if f == 128 else once
        yield f"fan-in {f} + intermediate 4096, 16 epochs", wide + ["train.epochs=16"], once
    kept = ["rewire.keep_second_moment=true"]
    for f in (32, 64, 128, 192):
        yield f"fan-in {f}, second moment kept", fan_in(f) + kept, once if f == 192 else thrice
    for f in (32, 128):
        yield f"fan-in {f} + intermediate, second moment kept", fan_in(f) + INTERMEDIATE + kept, once
    # What the tail loses to rewiring.
    for f in (32, 64, 128):
        one_more = thrice if f == 128 else once
        yield f"fan-in {f} + intermediate, no rewiring", fan_in(f) + INTERMEDIATE + OFF, one_more
        yield f"fan-in {f} + intermediate, per row", fan_in(f) + INTERMEDIATE + ["rewire.per_row=true"], once
    for f in (64, 128):
        wide = fan_in(f) + ["intermediate.width=4096"] + OFF
        yield f"fan-in {f} + intermediate 4096, no rewiring", wide, thrice if f == 128 else once
    # Adam moves a logit by rate × fan-in: a row with fewer weights may want a higher rate.
    for rate in ("2e-2", "4e-2"):
        faster = [f"optimizer.classifier.lr={rate}"]
        yield f"dense, rate {rate}", DENSE + faster, once
        yield f"fan-in 128 + intermediate, no rewiring, rate {rate}", fan_in(128) + INTERMEDIATE + OFF + faster, once
        yield f"fan-in 32 + intermediate, no rewiring, rate {rate}", fan_in(32) + INTERMEDIATE + OFF + faster, once
    yield "fan-in 128 + both, no rewiring", fan_in(128) + AUXILIARY + INTERMEDIATE + OFF, once
    for activation in ("relu", "gelu"):
        other = INTERMEDIATE + [f"intermediate.activation={activation}"] + OFF
        yield f"fan-in 128 + intermediate, no rewiring, {activation}", fan_in(128) + other, once
    # What else might close the gap in the tail: a wider GELU, the paper's scale, less dropout, connections chosen by
    # gradient while the run is young, more of them.
    lean = fan_in(128) + INTERMEDIATE + OFF
    wide = ["intermediate.width=4096", "intermediate.activation=gelu"]
    yield "fan-in 128 + intermediate 4096, no rewiring, gelu", fan_in(128) + wide + OFF, once
    yield "fan-in 128 + intermediate, no rewiring, scale 1", lean + PAPER_START, once
    yield "fan-in 128 + intermediate, no rewiring, dropout 0.4", lean + ["encoder.dropout=0.4"], once
    early = ["rewire.growth=gradient", "rewire.candidates=32", "rewire.interval=80", "rewire.until=0.25", "rewire.fraction=0.3"]
    yield "fan-in 128 + intermediate, early by gradient", fan_in(128) + INTERMEDIATE + early, once
    yield "fan-in 192 + intermediate, no rewiring", fan_in(192) + INTERMEDIATE + OFF, once
    yield "fan-in 192, no rewiring", fan_in(192) + OFF, six
    # Connections that follow the documents of their labels.
    for f in (32, 64, 128, 192):
        follow = fan_in(f) + ["rewire.by_documents=2"] + OFF
        yield f"fan-in {f}, by documents, no rewiring", follow, thrice if f >= 128 else once
    follow = fan_in(128) + INTERMEDIATE + ["rewire.by_documents=2"] + OFF
    yield "fan-in 128 + intermediate, by documents, no rewiring", follow, once
    yield "bottleneck 192", ["classifier.head=bottleneck"] + fan_in(192), once
    # HASTE: groups of labels, and dense rows for the most frequent ones in place of the auxiliary objective.
    for how in ("text", "frequency", "random"):
        groups = fan_in(64) + ["classifier.group=16", f"classifier.grouping={how}"]
        yield f"fan-in 64, groups of 16 by {how}", groups, thrice
    medium = ["train.matmul_precision=medium"]
    groups = fan_in(64) + ["classifier.group=16", "classifier.grouping=text"]
    yield "fan-in 64, groups of 16 by text, products in bf16", groups + medium, thrice
    yield "dense, products in bf16", DENSE + medium, thrice
    for group in (32, 64):
        yield f"fan-in 64, groups of {group} by text", fan_in(64) + [f"classifier.group={group}", "classifier.grouping=text"], once
    yield "fan-in 64, stratified", fan_in(64) + ["classifier.pattern=stratified"], once
    head = fan_in(32) + ["classifier.dense_labels=0.1"]
    yield "fan-in 32, dense head", head, thrice
    yield "fan-in 32, dense head of its own", head + ["classifier.dense_features=128"], thrice
    # As many weights as the dense head of its own has, with those of the 270 clusters.
    yield "fan-in 40 + auxiliary", fan_in(40) + AUXILIARY, thrice
    yield "fan-in 128, dense head, no rewiring", fan_in(128) + ["classifier.dense_labels=0.1"] + OFF, thrice
    wide_head = fan_in(128) + ["classifier.dense_labels=0.1"] + INTERMEDIATE + OFF
    yield "fan-in 128 + intermediate, dense head, no rewiring", wide_head, once
    start = fan_in(32) + PAPER_START
    yield "fan-in 32, paper's start", start, once
    yield "fan-in 32, paper's start + auxiliary", start + AUXILIARY, once
    yield "fan-in 32, paper's start + intermediate", start + INTERMEDIATE, once
    yield "fan-in 32, paper's start + both", start + AUXILIARY + INTERMEDIATE, once
    yield "fan-in 128, paper's start", fan_in(128) + PAPER_START, once
    random = AUXILIARY[:2] + ["auxiliary.clusters=random"]
    yield "fan-in 32, paper's start + auxiliary, random clusters", fan_in(32) + PAPER_START + random, once
    for epoch in (1, 8):
        cut = AUXILIARY[:1] + [f"auxiliary.cutoff_epoch={epoch}"] + AUXILIARY[2:]
        yield f"fan-in 32, paper's start + auxiliary until epoch {epoch}", fan_in(32) + PAPER_START + cut, once
    zero = ["classifier.bias_init=0"]
    hinge = ["classifier.loss=squared_hinge"]
    for name, settings in (("paper's start, bias 0", start + zero), ("hinge, paper's start, bias 0", start + zero + hinge)):
        yield f"fan-in 32, {name}", settings, once
        yield f"fan-in 32, {name} + auxiliary", settings + AUXILIARY, once
    yield "fan-in 32, start 0.01", fan_in(32) + ["classifier.init_scale=0.01"], once
    yield "fan-in 32, bias 0", fan_in(32) + zero, once
    yield "fan-in 32, bias -1", fan_in(32) + ["classifier.bias_init=-1.0"], once
    yield "fan-in 32, paper's start, bias -1", start + ["classifier.bias_init=-1.0"], once
    yield "dense, bias 0", DENSE + zero, once
    yield "dense, hinge", DENSE + hinge, once
    yield "fan-in 32, hinge", fan_in(32) + hinge, once
    for aid, more in (("", []), (" + auxiliary", AUXILIARY), (" + intermediate", INTERMEDIATE),
                      (" + both", AUXILIARY + INTERMEDIATE)):
        yield f"fan-in 32, hinge, paper's start{aid}", start + hinge + more, once
    yield "fan-in 32, hinge, paper's start, bias -2", start + hinge + ["classifier.bias_init=-2.0"], once
    yield "fan-in 32, hinge, bias 0", fan_in(32) + hinge + ["classifier.bias_init=0"], once
    for interval in (50, 600):
        yield f"fan-in 32, every {interval}", fan_in(32) + [f"rewire.interval={interval}"], once
    yield "fan-in 32, share 0.3", fan_in(32) + ["rewire.fraction=0.3"], once
    threshold = fan_in(32) + ["rewire.mode=threshold", "rewire.threshold=0.05"]
    yield "fan-in 32, by gradient", fan_in(32) + ["rewire.growth=gradient"], thrice
    yield "fan-in 32, threshold 0.05", threshold, once
    # The same with what regrown connections keep.
    yield "fan-in 32, by gradient, second moment kept", fan_in(32) + ["rewire.growth=gradient"] + kept, thrice
    yield "fan-in 32, threshold 0.05, second moment kept", threshold + kept, once
    yield "fan-in 32, every 50, second moment kept", fan_in(32) + ["rewire.interval=50"] + kept, once


def shortened(metrics):
    """What the tables need."""
    names = [f"{metric}@{k}" for metric in ("P", "PSP", "nDCG", "R", "macroF1", "coverage") for k in (1, 3, 5)]
    short = {name: round(metrics[name], 4) for name in names}
    slices = metrics["slices"].items()
    short["slices"] = {name: {key: round(part[key], 4) for key in ("P@1", "R@5", "macroR@5")} for name, part in slices}
    return short


def run(options, name, settings, seed):
    folder = Path(tempfile.mkdtemp(prefix="regrow-grid-"))
    settings = settings + [f"train.seed={seed}"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    common = ["--device", "cpu", "--threads", "1"]
    began = time.time()
    train = [options.regrow, "train", str(CONFIG), "--data", options.data, "--out", str(folder / "run"), *common, *arguments]
    try:
        done = subprocess.run(train, capture_output=True, text=True)
        if done.returncode != 0:
            return {"name": name, "seed": seed, "settings": settings, "failed": done.stderr.strip().splitlines()[-1:]}
        seconds = time.time() - began
        evaluate = [options.regrow, "evaluate", str(folder / "run"), "--data", options.data, "--json", *common]
        metrics = json.loads(subprocess.run(evaluate, capture_output=True, text=True, check=True).stdout)
        lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        epochs = [line for line in map(json.loads, lines) if line["event"] == "epoch"]
        dev = [[line["loss"], line.get("P@1"), line.get("PSP@1")] for line in epochs]
        return {"name": name, "seed": seed, "settings": settings, "seconds": round(seconds, 1),
                "epochs": dev, "test": shortened(metrics)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--regrow", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    done = set()
    if RUNS.exists():
        done = {(line["name"], line["seed"]) for line in map(json.loads, RUNS.read_text().splitlines())}
    wanted = [name for name in options.only.split(";") if name]
    # First seeds first: the whole grid is there before the repetitions are.
    todo = sorted(((seed, i, name, settings) for i, (name, settings, seeds) in enumerate(rows()) for seed in seeds
                   if (name, seed) not in done and (not wanted or name in wanted)))
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                if not todo:
                    return
                seed, _, name, settings = todo.pop(0)
            result = run(options, name, settings, seed)
            with lock, RUNS.open("a") as out:
                if "failed" in result:
                    print(f"{name}, seed {seed}: {result['failed']}", file=sys.stderr)
                    continue
                out.write(json.dumps(result) + "\n")
                test = result["test"]
                print(f"{name}, seed {seed}: P@1 {test['P@1']:.2f}, {result['seconds']:.0f} s; {len(todo)} left", flush=True)

    workers = [threading.Thread(target=work) for _ in range(options.workers)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]


if __name__ == "__main__":
    main()
