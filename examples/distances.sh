#!/usr/bin/env bash
# The whole distance matrix of 1797 handwritten digits, under a memory ceiling, with a record of the run.
# Usage: examples/distances.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
out=${1:-$(mktemp -d)}

mlpipe distances data/digits.npy -o "$out/digits-distances.npy" --memory 512MiB --report "$out/report.json"
mlpipe info "$out/digits-distances.npy"

# Only what lies above the diagonal, in the order of scipy's pdist: half the bytes.
mlpipe distances data/digits.npy --condensed -o "$out/digits-condensed.npy"
mlpipe info "$out/digits-condensed.npy"
