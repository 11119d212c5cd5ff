#!/usr/bin/env bash
# Builds target/cuda/libcuda.so, a stand-in for NVIDIA's driver that runs the CUDA kernels on the processor. A program
# that is started with LD_LIBRARY_PATH=target/cuda then has a device cuda:0.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=target/cuda
mkdir -p $out
sed -nE 's/^KERNEL (__launch_bounds__\([^)]*\) )?([a-z_]+)\(.*/ENTRY(\2)/p' src/cuda/kernels/*.cu >$out/entries.inc.new
cmp -s $out/entries.inc.new $out/entries.inc || mv $out/entries.inc.new $out/entries.inc
rm -f $out/entries.inc.new
if [ -z "$(find $out/libcuda.so -newer $out/entries.inc 2>/dev/null)" ] ||
    [ -n "$(find tests/cuda src/cuda/kernels -type f -newer $out/libcuda.so)" ]; then
    # Sums in the order in which they are written, as the tests' twins have them; setjmp between stacks is what
    # _FORTIFY_SOURCE forbids.
    g++ -std=c++17 -O2 -ffp-contract=off -fno-strict-aliasing -U_FORTIFY_SOURCE -fPIC -shared -Wall -Wextra \
        -Wno-unknown-pragmas -I $out -I src/cuda/kernels -o $out/libcuda.so tests/cuda/driver.cpp
fi
