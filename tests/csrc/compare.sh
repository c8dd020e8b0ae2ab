#!/usr/bin/env bash
# Every instruction set of this machine, AVX-512's kernels with its words written out in C where an x86 has none, and,
# where aarch64-linux-gnu-gcc and qemu-aarch64 are found, NEON under emulation must print the same checksums.
# Usage: tests/csrc/compare.sh
set -euo pipefail
# shellcheck source=tests/csrc/compile.sh
source "$(dirname "$0")/compile.sh"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

programs=()
compile "${CC:-gcc}" "$build/native" one_arithmetic -Werror -static
programs+=("$build/native/one_arithmetic")
if [ "$(uname -m)" = x86_64 ] && [[ "$("$build/native/one_arithmetic")" != *avx512* ]]; then
    cp -r "$csrc" "$build/csrc"
    cp "$here/emulated_avx512.h" "$build/csrc/simd_avx512.h"
    rm "$build"/native/avx512_*.o
    emulated=("${CC:-gcc}" "${flags[@]}" -O1 -mavx2 -mfma -mbmi -mbmi2 -Wno-psabi -Werror)
    for dtype in f32 f64; do
        "${emulated[@]}" -DFNN_AVX512 "-DFNN_${dtype^^}" "-DFNN_TABLE=fnn_avx512_$dtype" \
            -c "$build/csrc/kernels.c" -o "$build/native/avx512_$dtype.o" &
    done
    wait
    "${emulated[@]}" -static '-D__builtin_cpu_supports(feature)=1' "$here/one_arithmetic.c" "$csrc/dispatch.c" \
        "$build"/native/*.o -lm -o "$build/emulated"
    programs+=("$build/emulated")
fi
if [ "$(uname -m)" != aarch64 ]; then
    if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null; then
        compile aarch64-linux-gnu-gcc "$build/aarch64" one_arithmetic -Werror -static
        programs+=("qemu-aarch64 $build/aarch64/one_arithmetic")
    else
        echo "NEON not compared: aarch64-linux-gnu-gcc or qemu-aarch64 is not installed"
    fi
fi

for dtype in f32 f64; do
    for program in "${programs[@]}"; do
        isas=$($program)
        for isa in $isas; do
            $program "$isa" "$dtype" >"$build/$dtype.now"
            [ -e "$build/$dtype.first" ] || cp "$build/$dtype.now" "$build/$dtype.first"
            diff "$build/$dtype.first" "$build/$dtype.now" || { echo "$isa $dtype differs"; exit 1; }
            echo "same bits: $isa $dtype ($(wc -l <"$build/$dtype.now") checksums)"
        done
    done
done
