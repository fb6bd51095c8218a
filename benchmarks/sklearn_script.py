"""What people run today: python sklearn_script.py X.npy Y.npy D.npy [mmap], ending in fsync like mlpipe."""

from __future__ import annotations

import os
import sys

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

x_path, y_path, output, *mode = sys.argv[1:]
mmap_mode = "r" if mode else None
x = np.load(x_path, mmap_mode=mmap_mode)
y = np.load(y_path, mmap_mode=mmap_mode)
distances = euclidean_distances(x, y)
with open(output, "wb") as stream:
    np.save(stream, distances)
    stream.flush()
    os.fsync(stream.fileno())
