#!/usr/bin/env bash
# The CUDA engine on a machine without an NVIDIA GPU:
#   * compiles every kernel with NVRTC, down to machine code, for the chips that tests/cuda/nvrtc.py names;
#   * runs the classifier's tests, and whole runs, on a stand-in for the driver (tests/cuda/build.sh), with the kernels
#     compiled by g++;
#   * once with the PTX that comes with the program, once with what NVRTC makes of the sources.
# With --write-ptx: writes that PTX, and nothing else. To be called when a file in src/cuda/kernels changed.
# With --on-gpu: the tests on the NVIDIA GPU cuda:0 of this machine, and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

tests() {
    local skipped=states_of_encoders_in_bf16 # has a kernel of the encoder
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --no-fail-fast --features cuda "$@" -- --skip $skipped
    else
        cargo test --no-fail-fast --features cuda "$@" -- --skip $skipped
    fi
}

classifier=(--test kernels_classifier --test kernels_fused --test kernels_rewire --test kernels_inverted_index
    --test narrow_storage --test rewire_growth --test golden_fan_in --test golden_rewire --test device_recordings
    --test kernels_probes --test kernels_fan_in_step --test fan_in_chunks --test stratified_layer --test stratified_rewire --test mixed_head
    --test kernels_dense_head --test end_to_end_cuda)
# The only one of an encoder's kernels that lies above it.
dropout=dropout_keeps_the_same_elements_there_and_back

if [ "${1:-}" = --on-gpu ]; then
    REGROW_TEST_CUDA=1 tests "${classifier[@]}"
    REGROW_TEST_CUDA=1 tests --test kernels_encoder "$dropout"
    exit
fi

# The version whose PTX the oldest driver reads that src/cuda/driver.rs accepts.
venv=target/python-cuda
nvrtc=nvidia-cuda-nvrtc-cu12==12.1.105
[ -x $venv/bin/python3 ] || python3 -m venv $venv
$venv/bin/python3 -m pip install -q --disable-pip-version-check $nvrtc
library=$(find "$PWD/$venv" -name 'libnvrtc.so.12')

if [ "${1:-}" = --write-ptx ]; then
    exec $venv/bin/python3 tests/cuda/nvrtc.py "$library" write src/cuda/kernels/kernels.ptx
fi

$venv/bin/python3 tests/cuda/nvrtc.py "$library" check
tests/cuda/build.sh
export REGROW_CUDA_STAND_IN="$PWD/target/cuda" REGROW_TEST_CUDA=1
tests --lib cuda::
LD_LIBRARY_PATH=$PWD/target/cuda tests --test cuda_device "${classifier[@]}"
LD_LIBRARY_PATH=$PWD/target/cuda tests --test kernels_encoder "$dropout"
LD_LIBRARY_PATH=$PWD/target/cuda:$(dirname "$library") tests --test kernels_classifier
