#!/usr/bin/env python3
"""Predicts with a model that regrow trained, without regrow: safetensors and numpy are enough.

    pip install safetensors numpy
    python examples/read_model.py RUN/model --tokens tokens.jsonl --top 5

Each line of tokens.jsonl is one document, {"tokens": [12, 7, ...]}: ids of RUN/model/tokenizer.json, which the
`tokenizers` package reads. For each, one line is printed: {"labels": [{"label": "...", "score": 1.5}, ...]}, best
first. A score is the label's logit; its probability is 1 / (1 + exp(-score)) for models trained with BCE.

Letters: V vocabulary, H features of the encoder (or of its last hidden layer), L labels, F fan-in.
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

BLOCK = 65536  # labels scored at a time, so that millions of them need little memory


def read_labels(path):
    """One label a line; a backslash, a newline or a carriage return in a label is written \\\\, \\n or \\r."""
    plain = {"\\": "\\", "n": "\n", "r": "\r"}
    # Split at \n only: labels may hold other characters that Python takes for the end of a line.
    lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    return [re.sub(r"\\(.)", lambda m: plain[m[1]], line) for line in lines]


class Model:
    def __init__(self, folder):
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.labels = read_labels(folder / "labels.txt")
        encoder = self.config["encoder"]
        if encoder["kind"] != "bag":
            sys.exit(f"{folder}: this example reads encoders of kind bag, not {encoder['kind']}")
        with safe_open(folder / "model.safetensors", framework="np") as file:
            self.embedding = file.get_tensor("encoder.embedding.weight")  # f32 [V, H]
            self.norm_weight = file.get_tensor("encoder.norm.weight")  # f32 [H]
            self.norm_bias = file.get_tensor("encoder.norm.bias")  # f32 [H]
            self.hidden = [  # f32 [out, in] and f32 [out], for each hidden layer; often there is none
                (file.get_tensor(f"encoder.hidden.{i}.weight"), file.get_tensor(f"encoder.hidden.{i}.bias"))
                for i in range(len(encoder.get("hidden", [])))
            ]
            self.weights = file.get_tensor("classifier.weights")  # f32 [L, F]
            self.indices = file.get_tensor("classifier.indices")  # u16 [L, F]: which feature a weight is for
            self.bias = file.get_tensor("classifier.bias")  # f32 [L]
        self.epsilon = encoder["norm_epsilon"]

    def encode(self, tokens):
        """The features of a document, [H]."""
        tokens = np.asarray(tokens, dtype=np.int64)
        if tokens.size and not (0 <= tokens.min() and tokens.max() < len(self.embedding)):
            raise ValueError(f"token ids must be 0 to {len(self.embedding) - 1}")
        # The mean of the tokens' embeddings; nothing for a document without tokens.
        rows = self.embedding[tokens].astype(np.float64)
        pooled = rows.mean(axis=0) if tokens.size else np.zeros(self.embedding.shape[1])
        # LayerNorm, with the biased variance.
        h = (pooled - pooled.mean()) / np.sqrt(pooled.var() + self.epsilon)
        h = h * self.norm_weight + self.norm_bias
        for weight, bias in self.hidden:
            h = gelu(weight @ h + bias)
        return h

    def score(self, h):
        """The logit of every label, [L]: each label looks at F of the features only."""
        z = np.empty(len(self.bias))
        for start in range(0, len(z), BLOCK):
            block = slice(start, start + BLOCK)
            z[block] = self.bias[block] + (self.weights[block] * h[self.indices[block]]).sum(axis=1)
        return z

    def predict(self, tokens, top):
        z = self.score(self.encode(tokens))
        top = min(top, len(z))
        # The candidates are in the order of their ids and the sort is stable: equal scores, lower id first.
        candidates = np.flatnonzero(z >= np.partition(z, -top)[-top])
        best = candidates[np.argsort(-z[candidates], kind="stable")][:top]
        return [{"label": self.labels[l], "score": float(z[l])} for l in best]


def gelu(x):
    """x · Φ(x), with the exact error function, which numpy lacks."""
    return 0.5 * x * (1.0 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2.0)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model folder of a run")
    parser.add_argument("--tokens", default="-", help='JSON lines {"tokens": [...]}; - is standard input')
    parser.add_argument("--top", type=int, default=5, help="labels per document")
    options = parser.parse_args()
    if options.top < 1:
        parser.error("--top must be at least 1")

    model = Model(options.model)
    lines = sys.stdin if options.tokens == "-" else open(options.tokens, encoding="utf-8")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            labels = model.predict(json.loads(line)["tokens"], options.top)
        except (ValueError, KeyError, TypeError) as error:
            sys.exit(f"{options.tokens}:{number}: {error}; a line must be {{\"tokens\": [ids]}}")
        print(json.dumps({"labels": labels}, ensure_ascii=False))


if __name__ == "__main__":
    main()
