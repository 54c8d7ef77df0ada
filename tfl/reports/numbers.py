"""Numbers as people read them."""

UNDEFINED = "undefined"


def format_share(value: float | None) -> str:
    """Return a share in 0..1 as per cent, or `undefined`."""
    return UNDEFINED if value is None else f"{value:.2%}"


def format_number(value: float | None) -> str:
    """Return a number with four decimals, never -0.0000, or `undefined`."""
    return UNDEFINED if value is None else f"{round(value, 4) + 0.0:.4f}"


def format_duration(seconds: float) -> str:
    """Return minutes and seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
