"""Known answers to the tiny quiz."""

from grading.answers import Alternative, Mistake


class Squared(Mistake):
    """You square. Twice x is x + x."""

    exercise = "doubled"

    def doubled(x):
        return x * x


class ByAddition(Alternative):
    """A sum."""

    exercise = "doubled"

    def doubled(x):
        return x + x


class DividedInPlace(Mistake):
    """`/=` changes the caller's tensor."""

    exercise = "mean_of"

    def mean_of(x: Tensor) -> Tensor:
        """The mean of `x`, which is left as it is."""
        x /= len(x)
        return x.sum()
