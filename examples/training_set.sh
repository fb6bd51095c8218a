#!/usr/bin/env bash
# A training and a test set that know nothing of each other: split, learned from the one, applied to both.
# Usage: examples/training_set.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
out=${1:-$(mktemp -d)}

# A row's side depends on the seed and its position: it never changes, not even when rows are added.
mlpipe --quiet run read data/digits.npy --labels data/digits_labels.npy \
    then split --fractions 0.8,0.2 --seed 7 "$out/train.npy" "$out/test.npy"

# Means and deviations are those of the training set alone.
mlpipe --quiet run read "$out/train.npy" --labels "$out/train-labels.npy" \
    then standardize --save-stats "$out/stats.npz" then shuffle --seed 7 then write "$out/train-ready.npy"
mlpipe --quiet run read "$out/test.npy" --labels "$out/test-labels.npy" \
    then standardize --from "$out/stats.npz" then write "$out/test-ready.npy"

mlpipe info "$out/train-ready.npy" "$out/test-ready.npy"
