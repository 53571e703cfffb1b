"""Money as people read it: whole units with the currency's own decimals (ISO 4217)."""

from policies.currencies import DECIMALS


def spelled(currency: str, minor_units: int) -> str:
    """`("EUR", 123456)` as `1 234.56 EUR`."""
    decimals = DECIMALS.get(currency, 2)
    sign, (whole, rest) = "-" if minor_units < 0 else "", divmod(abs(minor_units), 10**decimals)
    fraction = f".{rest:0{decimals}d}" if decimals else ""
    return f"{sign}{whole:,}".replace(",", " ") + f"{fraction} {currency}"
