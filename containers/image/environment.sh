# shellcheck shell=sh
# The environment inside every image of kd; sourced by the definitions' %environment, by any POSIX shell.

# The image's programs, and none of the packages that the host's variables or the user's home lead to.
export PATH="/opt/kd/bin:$PATH"
export LC_ALL="${LC_ALL:-C.UTF-8}"
unset PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE=1

# An image is read-only. What libraries keep for later goes below the run's folder (kd sets KD_CACHE), else below the
# folder for temporary files; a folder that the user has named stays.
KD_CACHE="${KD_CACHE:-${TMPDIR:-/tmp}/kd-cache-$(id -u)}"
export KD_CACHE
export MPLCONFIGDIR="${MPLCONFIGDIR:-$KD_CACHE/matplotlib}"
export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-$KD_CACHE/numba}"
export TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-$KD_CACHE/triton}"
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$KD_CACHE/inductor}"
# Models that were fetched before stand in the user's own cache: compute nodes reach no network to fetch them again.
if [ -z "${HF_HOME:-}" ]; then
    HF_HOME="${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/huggingface"
    [ -d "$HF_HOME" ] || HF_HOME="$KD_CACHE/huggingface"
    export HF_HOME
fi
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$KD_CACHE}"
