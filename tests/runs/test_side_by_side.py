"""Which classes a picture beside the teacher has room for."""

import numpy as np
import pytest

from pplemd.runs import side_by_side as beside


@pytest.mark.parametrize("classes", [1, 3, 10, 16, 17, 1000])
def test_classes_are_all_drawn_or_some_evenly_apart(classes):
    some = np.asarray(beside._some(classes))
    assert len(some) == min(classes, beside.MOST)
    assert some[0] == 0
    assert some[-1] == classes - 1
    apart = np.diff(some)
    assert apart.size == 0 or (apart.min() >= 1 and apart.max() - apart.min() <= 1)
