"""Scikit-learn's handwritten digits: 1,797 images of 8x8 that need no download."""

import importlib.metadata

import numpy as np

from pplemd.data.dataset import Dataset, held_out

GREY_LEVELS = 16  # pixels are integers 0..16: https://archive.ics.uci.edu/dataset/80


def digits(test_fraction: float = 0.25, seed: int = 0) -> Dataset:
    """The 8x8 handwritten digits, in 10 classes, with a stratified held-out split.

    Pixels 0..16 become x / 8 - 1 in [-1, 1].

    Args:
        test_fraction: share of each class that is held out.
        seed: seed of the split.

    Returns:
        Samples of shape (8, 8, 1) with labels 0..9.

    Source: UCI "Optical Recognition of Handwritten Digits" (test part), as scikit-learn ships it.
    """
    # the file itself: importing scikit-learn takes a second, which every start would wait for
    file = importlib.metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), delimiter=",")  # 64 pixels and the class
    x = (rows[:, :-1].reshape(-1, 8, 8, 1) * (2.0 / GREY_LEVELS) - 1.0).astype(np.float32)
    return held_out(x, rows[:, -1].astype(np.int32), 10, test_fraction=test_fraction, seed=seed)
