# shellcheck shell=bash
# compile CC FOLDER PROGRAMS FLAGS...: every PROGRAM.c of this folder with the kernels of all instruction sets that CC
# compiles for, as FOLDER/PROGRAM, under the flags of a release and FLAGS behind them.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
csrc=$(cd "$here/../../csrc" && pwd)
flags=(-std=gnu11 -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall -I "$csrc")

compile() {
    local cc=$1 folder=$2 programs=$3 program specs objects=() jobs=() spec dtype isa job
    shift 3
    mkdir -p "$folder"
    case $($cc -dumpmachine) in
    x86_64*) specs=(scalar:-O2 "avx2:-mavx2 -mfma -mbmi -mbmi2"
        "avx512:-mavx512f -mavx512dq -mavx512bw -mavx512vl -mprfchw -mfma -mbmi -mbmi2") ;;
    aarch64*) specs=(scalar:-O2 neon:) ;;
    *) specs=(scalar:-O2) ;;
    esac
    for spec in "${specs[@]}"; do
        isa=${spec%%:*}
        for dtype in f32 f64; do
            # shellcheck disable=SC2086
            $cc "${flags[@]}" ${spec#*:} "$@" "-DFNN_${isa^^}" "-DFNN_${dtype^^}" "-DFNN_TABLE=fnn_${isa}_${dtype}" \
                -c "$csrc/kernels.c" -o "$folder/${isa}_$dtype.o" &
            jobs+=($!) objects+=("$folder/${isa}_$dtype.o")
        done
        for job in "${jobs[@]}"; do wait "$job"; done
        jobs=()
    done
    for program in $programs; do
        $cc "${flags[@]}" "$@" "$here/$program.c" "$csrc/dispatch.c" "${objects[@]}" -lm -o "$folder/$program"
    done
}
