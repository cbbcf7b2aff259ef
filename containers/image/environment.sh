# shellcheck shell=sh
# The environment inside every image of kd; sourced by the definitions' %environment, by any POSIX shell.

# The image's programs, and none of the packages that the host's variables or the user's home lead to.
export PATH="/opt/kd/bin:$PATH"
export LC_ALL=C.UTF-8
unset PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE=1

# An image is read-only: what libraries keep for later goes to a folder for temporary files. Nothing of the host's
# environment is seen here, and what is set here wins over it; `kd run` sets these once more, to the run's own folder.
# Models of the Hugging Face hub (HF_HOME) are the user's own, in the home folder: nothing is set for them.
cache=/tmp/kd-cache-$(id -u)
export NUMBA_CACHE_DIR="$cache/numba"
export TRITON_CACHE_DIR="$cache/triton"
export TORCHINDUCTOR_CACHE_DIR="$cache/inductor"
unset cache
