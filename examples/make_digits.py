"""Writes examples/data/digits.npy and digits_labels.npy from the copy that scikit-learn carries.

Run once, with the `bench` extra installed; the files are in the repository.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

DATA = Path(__file__).parent / "data"


def main() -> None:
    digits = load_digits()
    np.save(DATA / "digits.npy", digits.data.astype(np.uint8))
    np.save(DATA / "digits_labels.npy", digits.target.astype(np.uint8))


if __name__ == "__main__":
    main()
