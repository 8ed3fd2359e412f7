"""Numbers to work on."""

SCALE = 1.0


def mean(values: list[float]) -> float:
    """The mean."""
    # Your code here
    raise NotImplementedError


def centred(values: list[float]) -> list[float]:
    """The values less their mean."""
    # Your code here
    raise NotImplementedError
