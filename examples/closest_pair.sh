#!/usr/bin/env bash
# The two digits most alike, under three metrics. Without -o there is no matrix, only its summary.
# Usage: examples/closest_pair.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

for metric in euclidean chebyshev canberra; do
  mlpipe --quiet distances data/digits.npy --metric "$metric" --json
done | python -c '
import json
import sys

import numpy as np

labels = np.load("data/digits_labels.npy")
for line in sys.stdin:
    found = json.loads(line)
    name, (one, other) = found["metric"], found["closest"]
    print(f"{name}: rows {one} and {other}, a {labels[one]} and a {labels[other]}")
'
