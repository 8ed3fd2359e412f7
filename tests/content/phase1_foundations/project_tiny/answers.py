"""Known answers to the tiny project."""

from grading.answers import Alternative, Mistake


class NotCentred(Mistake):
    """You leave the values where they are. Subtract their mean."""

    exercise = "data"
    module = "data"

    def centred(values):
        return list(values)


class MeanOfMiddle(Mistake):
    """You take the first value for the mean."""

    exercise = "data"
    module = "data"

    def mean(values):
        return values[0]


class OneByOne(Alternative):
    """A loop."""

    exercise = "data"
    module = "data"

    def mean(values):
        total = 0.0
        for value in values:
            total += value
        return total / len(values)


class SumOfSquares(Mistake):
    """You forget to divide by the number of values."""

    exercise = "model"
    module = "model"

    def spread(values):
        return sum(value**2 for value in centred(values))


class Unbiased(Mistake):
    """You divide by n − 1."""

    exercise = "model"
    module = "model"

    def spread(values):
        return sum(value**2 for value in centred(values)) / (len(values) - 1)


class ByDefinition(Alternative):
    """The mean square less the squared mean."""

    exercise = "model"
    module = "model"

    def spread(values):
        return sum(v**2 for v in values) / len(values) - (sum(values) / len(values)) ** 2


class NothingAsserted(Mistake):
    """Your tests of the spread assert nothing, so a wrong spread passes them."""

    exercise = "own_tests"
    module = "test_tiny"

    def test_spread():
        spread([1.0, 3.0])


class TooStrict(Mistake):
    """Your tests fail on a right package."""

    exercise = "own_tests"
    module = "test_tiny"

    def test_spread():
        assert spread([1.0, 3.0]) == 2


class OneTest(Alternative):
    """More in one test."""

    exercise = "own_tests"
    module = "test_tiny"

    def test_spread():
        assert spread([1.0, 3.0]) == 1
        assert spread([1.0, 2.0, 3.0]) == 2 / 3
