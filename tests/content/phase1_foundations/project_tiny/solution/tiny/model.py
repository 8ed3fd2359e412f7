"""What is made of the numbers."""

from tiny.data import centred


def spread(values: list[float]) -> float:
    """The mean square of the centred values."""
    ### BEGIN SOLUTION
    return sum(value**2 for value in centred(values)) / len(values)
    ### END SOLUTION
