#!/usr/bin/env bash
# Runs every test, on the CPU engine and on a Vulkan (or Metal) adapter. Installs the software Vulkan driver where no
# adapter is there and it may; otherwise says the command. Arguments go to cargo, as in `tests/run.sh --features cuda`.
set -euo pipefail
cd "$(dirname "$0")/.."

have_driver() {
    [ "$(uname -s)" != Linux ] && return 0
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return 0
    compgen -G "/usr/share/vulkan/icd.d/*.json" >/dev/null || compgen -G "/etc/vulkan/icd.d/*.json" >/dev/null
}

if ! have_driver; then
    install="apt-get install -y libvulkan1 mesa-vulkan-drivers"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "no Vulkan driver: installing the software driver"
        apt-get update -q && DEBIAN_FRONTEND=noninteractive $install
    else
        echo "no Vulkan driver was found, and the tests need one; software will do. On Debian and Ubuntu:" >&2
        echo "    sudo $install" >&2
        exit 1
    fi
fi

# The Python example is tested too; its two packages go into the target folder, not into the system.
if ! python3 -c "import numpy, safetensors" 2>/dev/null; then
    venv=target/python
    [ -x $venv/bin/python3 ] || python3 -m venv $venv
    $venv/bin/python3 -c "import numpy, safetensors" 2>/dev/null || $venv/bin/python3 -m pip install -q numpy safetensors
    PATH="$PWD/$venv/bin:$PATH"
fi

features=("$@")
tests() {
    set -- ${features[@]+"${features[@]}"} "$@"
    if command -v cargo-nextest >/dev/null; then cargo nextest run --no-fail-fast "$@"; else cargo test --no-fail-fast "$@"; fi
}

# Twice what runs kernels of subgroups: of four lanes (128 bits) and of eight (256); they must not care. The width is lavapipe's.
kernels=(--test golden_fan_in --test kernels_fan_in_step --test narrow_storage --test fan_in_chunks --test end_to_end_groups)
LP_NATIVE_VECTOR_WIDTH=128 tests "${kernels[@]}"
LP_NATIVE_VECTOR_WIDTH=256 tests
cargo test --doc "$@"
