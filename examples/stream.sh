#!/usr/bin/env bash
# Rows through pipes: nothing is stored on the way, and nothing is read twice.
# Usage: examples/stream.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

mlpipe --quiet run read data/digits.npy then apply 'x / 16' then cast --to float32 |
    mlpipe --quiet run read - then shuffle --buffer-size 500 --seed 7 then batch --size 64 --drop-last then write - |
    python -c '
import io
import sys

import numpy as np

rows = np.load(io.BytesIO(sys.stdin.buffer.read()))
print(f"{len(rows)} rows of {rows.dtype}, from {rows.min():g} to {rows.max():g}")
'
