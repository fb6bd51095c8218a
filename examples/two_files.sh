#!/usr/bin/env bash
# Which known digit is each new one nearest to? Rows of one file against rows of another, through a pipe.
# Usage: examples/two_files.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
out=${1:-$(mktemp -d)}

python -c '
import sys

import numpy as np

digits = np.load("data/digits.npy")
np.save(f"{sys.argv[1]}/known.npy", digits[:1500])
np.save(f"{sys.argv[1]}/new.npy", digits[1500:])
' "$out"

mlpipe --quiet distances "$out/new.npy" "$out/known.npy" --dtype float32 -o - | python -c '
import io
import sys

import numpy as np

labels = np.load("data/digits_labels.npy")
distances = np.load(io.BytesIO(sys.stdin.buffer.read()))
right = labels[:1500][distances.argmin(axis=1)] == labels[1500:]
print(f"the nearest known digit is the same digit for {right.mean():.1%} of {len(right)}")
'
