#!/usr/bin/env python3
"""Predicts with a model that regrow trained, without regrow: safetensors and numpy are enough.

    pip install safetensors numpy
    python examples/read_model.py RUN/model --tokens tokens.jsonl --top 5

Each line of tokens.jsonl is one document, {"tokens": [12, 7, ...]}: ids of RUN/model/tokenizer.json, which the
`tokenizers` package reads. For each, one line is printed: {"labels": [{"label": "...", "score": 1.5}, ...]}, best
first. A score is the label's logit; its probability is 1 / (1 + exp(-score)) for models trained with BCE.

Letters: V vocabulary, H features of the encoder (or of its last hidden layer), P outputs of the intermediate layer,
L labels, F fan-in, G labels that share their features, K labels that are dense where the others are not.
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


def read_weights(path):
    """classifier.weights as f32 [L, F]; they may be stored in types that numpy does not have."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))["classifier.weights"]
        begin, end = entry["data_offsets"]
        file.seek(8 + length + begin)
        data = file.read(end - begin)
    if entry["dtype"] == "BF16":  # the upper halves of f32
        values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif entry["dtype"] == "F8_E4M3":  # sign, 4 bits of exponent, 3 of fraction
        code = np.arange(256)
        exponent, fraction = code >> 3 & 15, code & 7
        table = np.where(exponent == 0, fraction / 512.0, 2.0 ** (exponent - 7) * (1 + fraction / 8.0))
        values = np.where(code < 128, table, -table).astype(np.float32)[np.frombuffer(data, np.uint8)]
    else:
        values = np.frombuffer(data, {"F32": np.float32, "F16": np.float16}[entry["dtype"]]).astype(np.float32)
    return values.reshape(entry["shape"])


def layer_norm(x, weight, bias, epsilon):
    """Over the last axis, with the biased variance."""
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * weight + bias


class Bag:
    """Mean of the token embeddings, LayerNorm, hidden layers with GELU."""

    def __init__(self, config, tensors):
        self.config, self.t = config, tensors

    def encode(self, tokens):
        """The features of a document, [H]."""
        embedding = self.t["embedding.weight"]  # [V, H]
        if tokens.size and not (0 <= tokens.min() and tokens.max() < len(embedding)):
            raise ValueError(f"token ids must be 0 to {len(embedding) - 1}")
        # Nothing for a document without tokens.
        h = embedding[tokens].mean(axis=0) if tokens.size else np.zeros(embedding.shape[1])
        h = layer_norm(h, self.t["norm.weight"], self.t["norm.bias"], self.config["norm_epsilon"])
        for i in range(len(self.config.get("hidden", []))):
            h = gelu(self.t[f"hidden.{i}.weight"] @ h + self.t[f"hidden.{i}.bias"])
        return h


class Transformer:
    """The BERT family. Tensors have Hugging Face's names; DistilBERT has its own."""

    BERT = {"layer": "encoder.layer", "q": "attention.self.query", "k": "attention.self.key",
            "v": "attention.self.value", "o": "attention.output.dense", "n1": "attention.output.LayerNorm",
            "up": "intermediate.dense", "down": "output.dense", "n2": "output.LayerNorm"}
    DISTILBERT = {"layer": "transformer.layer", "q": "attention.q_lin", "k": "attention.k_lin", "v": "attention.v_lin",
                  "o": "attention.out_lin", "n1": "sa_layer_norm", "up": "ffn.lin1", "down": "ffn.lin2",
                  "n2": "output_layer_norm"}

    def __init__(self, config, tensors):
        a, self.t, self.pooling = config["architecture"], tensors, config["pooling"]
        distilbert = a["model_type"] == "distilbert"
        self.names = self.DISTILBERT if distilbert else self.BERT
        self.layers = a["n_layers" if distilbert else "num_hidden_layers"]
        self.heads = a["n_heads" if distilbert else "num_attention_heads"]
        self.epsilon = 1e-12 if distilbert else a["layer_norm_eps"]
        # RoBERTa's positions begin after its padding id.
        self.first_position = a["pad_token_id"] + 1 if a["model_type"] == "roberta" else 0
        tanh = lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        activations = {"gelu": gelu, "gelu_new": tanh, "relu": lambda x: np.maximum(x, 0)}
        self.activation = activations[a["activation" if distilbert else "hidden_act"]]

    def encode(self, tokens):
        """The features of a document, [H], or [n · H] for the first tokens of n layers."""
        words = self.t["embeddings.word_embeddings.weight"]
        if not (tokens.size and 0 <= tokens.min() and tokens.max() < len(words)):
            raise ValueError(f"a document has at least one token, and ids are 0 to {len(words) - 1}")
        positions = self.first_position + np.arange(tokens.size)
        x = words[tokens] + self.t["embeddings.position_embeddings.weight"][positions]
        if "embeddings.token_type_embeddings.weight" in self.t:
            x = x + self.t["embeddings.token_type_embeddings.weight"][0]
        x = self.norm("embeddings.LayerNorm", x)
        first = []
        for layer in range(self.layers):
            name = {key: f"{self.names['layer']}.{layer}.{value}" for key, value in self.names.items()}
            split = lambda y: y.reshape(tokens.size, self.heads, -1).transpose(1, 0, 2)  # [heads, T, H / heads]
            q, k, v = (split(self.dense(name[part], x)) for part in "qkv")
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            context = (weights @ v).transpose(1, 0, 2).reshape(tokens.size, -1)
            x = self.norm(name["n1"], x + self.dense(name["o"], context))
            x = self.norm(name["n2"], x + self.dense(name["down"], self.activation(self.dense(name["up"], x))))
            first.append(x[0])
        if self.pooling["kind"] == "mean":
            return x.mean(axis=0)
        return np.concatenate(first[::-1][: self.pooling["layers"]])

    def dense(self, name, x):
        return x @ self.t[name + ".weight"].T + self.t[name + ".bias"]

    def norm(self, name, x):
        return layer_norm(x, self.t[name + ".weight"], self.t[name + ".bias"], self.epsilon)


class Model:
    def __init__(self, folder):
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.labels = read_labels(folder / "labels.txt")
        encoder = self.config["encoder"]
        if encoder["kind"] not in ("bag", "transformer"):
            sys.exit(f"{folder}: this example reads encoders of kind bag and transformer, not {encoder['kind']}")
        with safe_open(folder / "model.safetensors", framework="np") as file:
            tensors = {name.removeprefix("encoder."): file.get_tensor(name).astype(np.float64)
                       for name in file.keys() if name.startswith("encoder.")}
            self.encoder = (Transformer if encoder["kind"] == "transformer" else Bag)(encoder, tensors)
            self.intermediate = None
            if self.config.get("intermediate"):
                self.intermediate = [file.get_tensor(f"intermediate.{name}") for name in ("weight", "bias")]  # [P, H], [P]
            self.indices = None  # a dense classifier: F is all features
            if "classifier.indices" in file.keys():
                self.indices = file.get_tensor("classifier.indices")  # u16 [⌈L / G⌉, F]: which feature a weight is for
            self.group = self.config["classifier"].get("group", 1)  # G
            self.label_of_row = np.arange(len(self.labels))  # with groups or dense labels, rows are in another order
            if "classifier.label_of_row" in file.keys():
                self.label_of_row = file.get_tensor("classifier.label_of_row")  # u32 [L]
            self.bias = file.get_tensor("classifier.bias")  # f32 [L], or of the L - K labels that are not dense
            self.dense = None
            if "classifier.dense.weights" in file.keys():
                names = ("classifier.dense.weights", "classifier.dense.bias")
                self.dense = [file.get_tensor(name) for name in names]  # [K, P], [K]
        self.private = self.config["classifier"].get("dense_features", 0)  # features for the dense labels alone
        self.weights = read_weights(folder / "model.safetensors")  # [L, F]

    def features(self, tokens):
        """What the classifier sees: the encoder's features, or what the intermediate layer makes of them."""
        h = self.encoder.encode(tokens)
        if self.intermediate is None:
            return h
        weight, bias = self.intermediate
        z = weight @ h + bias
        activations = {"none": lambda x: x, "relu": lambda x: np.maximum(x, 0.0), "gelu": gelu}
        return activations[self.config["intermediate"]["activation"]](z)

    def score(self, h):
        """The logit of every row, [L]: each looks at F of the features only, or at all of them."""
        if self.dense is None:
            return self.score_alike(h)
        weights, bias = self.dense
        frequent = weights @ h[: weights.shape[1]] + bias
        return np.concatenate([frequent, self.score_alike(h[self.private :])])

    def score_alike(self, h):
        """The logits of the rows of classifier.weights."""
        z = np.empty(len(self.bias))
        for start in range(0, len(z), BLOCK):
            block = slice(start, start + BLOCK)
            if self.indices is None:
                z[block] = self.bias[block] + self.weights[block] @ h
            else:
                rows = np.arange(start, min(start + BLOCK, len(z)))
                seen = h[self.indices[rows // self.group]]
                z[block] = self.bias[block] + (self.weights[block] * seen).sum(axis=1)
        return z

    def predict(self, tokens, top):
        z = self.score(self.features(np.asarray(tokens, dtype=np.int64)))
        top = min(top, len(z))
        # The candidates are in the order of their rows and the sort is stable: of equal scores, lower rows are listed.
        candidates = np.flatnonzero(z >= np.partition(z, -top)[-top])
        best = candidates[np.argsort(-z[candidates], kind="stable")][:top]
        # Within the list, equal scores stand by label id.
        best = best[np.lexsort((self.label_of_row[best], -z[best]))]
        return [{"label": self.labels[self.label_of_row[row]], "score": float(z[row])} for row in best]


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
