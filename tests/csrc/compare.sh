#!/usr/bin/env bash
# Every instruction set of this machine and, where aarch64-linux-gnu-gcc and qemu-aarch64 are found, NEON under
# emulation must print the same checksums. Usage: tests/csrc/compare.sh
set -euo pipefail
csrc=$(cd "$(dirname "$0")/../../csrc" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
flags=(-std=gnu11 -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall -Werror -I "$csrc")

# compile CC FOLDER ISA:FLAGS...
compile() {
    local cc=$1 folder=$2 objects=() spec dtype isa options
    shift 2
    mkdir -p "$folder"
    for spec in "$@"; do
        isa=${spec%%:*} options=${spec#*:}
        for dtype in f32 f64; do
            # shellcheck disable=SC2086
            $cc "${flags[@]}" $options "-DFNN_${isa^^}" "-DFNN_${dtype^^}" "-DFNN_TABLE=fnn_${isa}_${dtype}" \
                -c "$csrc/kernels.c" -o "$folder/${isa}_$dtype.o"
            objects+=("$folder/${isa}_$dtype.o")
        done
    done
    $cc "${flags[@]}" -static "$here/one_arithmetic.c" "$csrc/dispatch.c" "${objects[@]}" -lm -o "$folder/one_arithmetic"
}

programs=()
case $(uname -m) in
x86_64)
    compile "${CC:-gcc}" "$build/native" scalar: "avx2:-mavx2 -mfma" \
        "avx512:-mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma" ;;
aarch64) compile "${CC:-gcc}" "$build/native" scalar: neon: ;;
esac
programs+=("$build/native/one_arithmetic")
if [ "$(uname -m)" != aarch64 ]; then
    if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null; then
        compile aarch64-linux-gnu-gcc "$build/aarch64" scalar: neon:
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
