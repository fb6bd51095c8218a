#!/usr/bin/env bash
# What values, rows and words occur, and how often: tables as files, and through pipes.
# Usage: examples/count.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
out=${1:-$(mktemp -d)}

# A table for each of the 64 pixels, in one pass; and how dark pixels are in each of the ten digits.
mlpipe --quiet count-features data/digits.npy --each-column --sort value -o "$out/pixels.csv"
mlpipe --quiet count-features data/digits.npy --by data/digits_labels.npy --sort value -o "$out/darkness.npz"

# The same bins as numpy.histogram makes, of the sums of two pixels.
mlpipe --quiet run read data/digits.npy then apply 'x[20] + x[28]' then write - |
    mlpipe --quiet count-features --edges 0,8,16,24,32 --json > "$out/bins.json"

# As sort | uniq -c | sort -rn | head -3 would, but without sorting what is counted.
tr -s '[:punct:]' ' ' < data/README.md | mlpipe --quiet count-features --lines - --split --top 3

python -c '
import sys

import numpy as np

with np.load(f"{sys.argv[1]}/darkness.npz") as table:
    label, value, count = table["label"], table["value"], table["count"]
for digit in range(10):
    mean = np.average(value[label == digit], weights=count[label == digit])
    print(f"a {digit} takes {64 * mean:.0f} drops of ink")
' "$out"
