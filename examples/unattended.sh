#!/usr/bin/env bash
# A job for cron or a container: compiled ahead, quiet, bounded, safe to repeat, and with an exit code that says why.
# Usage: examples/unattended.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
out=${1:-$(mktemp -d)}
export MLPIPE_MEMORY=512MiB MLPIPE_PROGRESS=log

mlpipe warmup --metric chebyshev # once, when the image is built

status=0
mlpipe --quiet distances data/digits.npy --metric chebyshev -o "$out/distances.npy" --force || status=$?
case $status in
  0) echo "done" ;;
  3 | 4) echo "the input is missing or broken: tell whoever makes it" >&2 ;;
  5) echo "the disk is full or not writable" >&2 ;;
  7) echo "MLPIPE_MEMORY is too small" >&2 ;;
  *) echo "ended with $status" >&2 ;;
esac
exit "$status"
