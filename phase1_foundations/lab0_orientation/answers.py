"""Known answers to the orientation: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake


class NoParentheses(Mistake):
    """You subtract 32 · 5/9: without parentheses Python multiplies first. Write `(fahrenheit - 32) * 5 / 9`."""

    exercise = "to_celsius"

    def to_celsius(fahrenheit):
        return fahrenheit - 32 * 5 / 9


class SubtractedLast(Mistake):
    """You scale first and subtract 32 afterwards. The 32 are degrees Fahrenheit: they go before the scaling."""

    exercise = "to_celsius"

    def to_celsius(fahrenheit):
        return fahrenheit * 5 / 9 - 32


class UpsideDown(Mistake):
    """You multiply by 9/5, which is the way back. To Celsius it is 5/9."""

    exercise = "to_celsius"

    def to_celsius(fahrenheit):
        return (fahrenheit - 32) * 9 / 5


class FactorRounded(Mistake):
    """You have rounded 5/9 to a few digits. Let Python divide."""

    exercise = "to_celsius"

    def to_celsius(fahrenheit):
        return (fahrenheit - 32) * 0.5556


class ChangedInPlace(Mistake):
    """`-=` changes the caller's tensor. Use `-`, which makes a new one."""

    exercise = "to_celsius"

    def to_celsius(fahrenheit):
        fahrenheit -= 32
        return fahrenheit * 5 / 9


class ByDividing(Alternative):
    """One division by 1.8."""

    exercise = "to_celsius"

    def to_celsius(fahrenheit):
        return torch.sub(fahrenheit, 32).div(1.8)


class WholeTable(Mistake):
    """You take the highest and lowest reading of the whole table. Say along which axis: `dim=1`, the hours."""

    exercise = "daily_range"

    def daily_range(readings):
        return readings.max() - readings.min()


class OverDays(Mistake):
    """You reduce over the days, so you get a number for each hour. The axis to remove is the one of the hours."""

    exercise = "daily_range"

    def daily_range(readings):
        return readings.amax(dim=0) - readings.amin(dim=0)


class LowestMinusHighest(Mistake):
    """You subtract the highest from the lowest, so your ranges are negative. Swap them."""

    exercise = "daily_range"

    def daily_range(readings):
        return readings.amin(dim=1) - readings.amax(dim=1)


class LastMinusFirst(Mistake):
    """You take the last hour minus the first. The extremes may lie anywhere in the day."""

    exercise = "daily_range"

    def daily_range(readings):
        return readings[:, -1] - readings[:, 0]


class AxisKept(Mistake):
    """Your result is `(days, 1)`: `keepdim=True` keeps the axis of the hours. Leave it out."""

    exercise = "daily_range"

    def daily_range(readings):
        return readings.amax(dim=1, keepdim=True) - readings.amin(dim=1, keepdim=True)


class LowestForgotten(Mistake):
    """You return the highest reading alone. Subtract the lowest of the same day."""

    exercise = "daily_range"

    def daily_range(readings):
        return readings.amax(dim=1)


class DayByDay(Alternative):
    """A loop over the days."""

    exercise = "daily_range"

    def daily_range(readings):
        return torch.stack([day.max() - day.min() for day in readings])


class ByAminmax(Alternative):
    """Both extremes in one call."""

    exercise = "daily_range"

    def daily_range(readings):
        low, high = torch.aminmax(readings, dim=-1)
        return high - low
