"""The learner's own tests."""

import pytest
from tiny import data
from tiny.model import spread


@pytest.mark.parametrize("values", [[1.0, 2.0, 6.0], [4.0]])
def test_centred(values):
    """Centred values sum to nothing."""
    ### BEGIN SOLUTION
    assert sum(data.centred(values)) == pytest.approx(0)
    ### END SOLUTION


def test_spread(tmp_path):
    """The spread of 1 and 3 is 1."""
    ### BEGIN SOLUTION
    assert tmp_path.is_dir()
    assert spread([1.0, 3.0]) == 1
    ### END SOLUTION
