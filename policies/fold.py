"""Names as a careless reader takes them: blind to case, to compatible characters (NFKC) and to both at once."""

import unicodedata


def fold(name: str) -> str:
    """Equal for names that such a reader would confuse."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
