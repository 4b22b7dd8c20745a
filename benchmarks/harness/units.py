"""Numbers for people."""

__all__ = ["told"]


def told(value: float | None, unit: str) -> str:
    """A value with its unit, in the size that it is easiest read in. Units: `/s`, `s`, `bytes`, or any other word."""
    if value is None:
        return "-"
    if unit == "/s":
        return f"{value:,.0f} /s"
    if unit == "s":
        value, unit = _scaled(value, ((1, "s"), (1e-3, "ms"), (1e-6, "µs")))
    elif unit == "bytes":
        value, unit = _scaled(value, ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")))
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:,.3g} {unit}"


def _scaled(value: float, sizes: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    """In the largest unit of which there is at least one, else in the smallest."""
    size, name = next((each for each in sizes if value >= each[0]), sizes[-1])
    return value / size, name
