"""Numbers to work on."""

SCALE = 1.0


def mean(values: list[float]) -> float:
    """The mean."""
    ### BEGIN SOLUTION
    return sum(values) / len(values)
    ### END SOLUTION


def centred(values: list[float]) -> list[float]:
    """The values less their mean."""
    ### BEGIN SOLUTION
    middle = mean(values)
    return [SCALE * (value - middle) for value in values]
    ### END SOLUTION
