"""How the coach says numbers."""


def rounded(number: float) -> str:
    """Two digits, for more would be noise: 9, 3.4, 120, 12,000."""
    return f"{float(f'{number:.2g}'):,g}"


def percent(share: float) -> str:
    """0.94 as 94 %."""
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def megabytes(size: float) -> str:
    """Bytes as 4.0 MiB."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 / 10 else "under 0.1 MiB"
