"""Money as people read it: whole units with the currency's own decimals (ISO 4217)."""

_DECIMALS = dict.fromkeys(
    ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"), 0
) | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
"""Currencies whose minor unit is not a hundredth."""


def spelled(currency: str, minor_units: int) -> str:
    """`("EUR", 123456)` as `1 234.56 EUR`."""
    decimals = _DECIMALS.get(currency, 2)
    sign, (whole, rest) = "-" if minor_units < 0 else "", divmod(abs(minor_units), 10**decimals)
    fraction = f".{rest:0{decimals}d}" if decimals else ""
    return f"{sign}{whole:,}".replace(",", " ") + f"{fraction} {currency}"
