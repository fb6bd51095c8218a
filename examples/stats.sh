#!/usr/bin/env bash
# What is in the digits: pixels that never change, pixels that go together, and a chain that keeps statistics on its way.
# Usage: examples/stats.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
out=${1:-$(mktemp -d)}

# One pass over the rows, two for the quantiles of wider numbers; the plan (--dry-run) tells.
mlpipe --quiet stats data/digits.npy --quantiles 0.25,0.5,0.75 --unique \
    --correlation "$out/correlation.npy" -o "$out/digits.npz"

# Statistics of what is written, without reading it again; those in front of head are of all rows.
mlpipe --quiet run read data/digits.npy then stats -o "$out/all.json" \
    then standardize --from "$out/digits.npz" then stats -o "$out/standardized.json" \
    then head --rows 100 then write "$out/first.npy"

python -c '
import json
import sys

import numpy as np

out = sys.argv[1]
with np.load(f"{out}/digits.npz") as digits:
    constant, rows = (digits["distinct"] == 1).sum(), digits["count"].max()
print(f"{constant} pixels are the same in all {rows} digits")
together = np.load(f"{out}/correlation.npy")
np.fill_diagonal(together, np.nan)
one, other = np.unravel_index(np.nanargmax(together), together.shape)
print(f"pixels {one} and {other} go together: {together[one, other]:.3f}")
with open(f"{out}/standardized.json") as file:
    means = [column["mean"] for column in json.load(file)["columns"]]
print(f"{len(means)} columns with means of 0, to {max(map(abs, means)):.0e}")
' "$out"
