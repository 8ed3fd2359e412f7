"""What is made of the numbers."""

from tiny.data import centred


def spread(values: list[float]) -> float:
    """The mean square of the centred values."""
    # Your code here
    raise NotImplementedError
