"""What stands in a body that could move money or a reader: account numbers, links, addresses.

Finding them detects and asks, it never authorises: text can always be written so that a program misses it.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import TypeAlias

from policies.forms import canonical_form
from policies.pack import Form
from policies.plain import is_hidden

Found: TypeAlias = tuple[Form, str, str]
"""(form, canonical spelling or "" when it has none, as written)."""

_EMAIL = re.compile(r"(?<![\w.!#$%&'*+/=?^`{|}~-])[\w.!#$%&'*+/=?^`{|}~-]+@[\w.-]{1,253}\w")
_LINK = re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s<>\"'`]{1,2048}|\bwww\.[^\s<>\"'`]{1,2048}", re.IGNORECASE)
_ACCOUNT = re.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?![A-Z0-9])")
_ACCOUNT_STARTS = re.compile(r"[A-Za-z]{2}\d\d")
_DIGITS = re.compile(r"\d\d")
_TRAILING = ".,;:!?)]}"


def found_in(text: str) -> Iterator[Found]:
    """Every account number, link and address in `text`, read past invisible characters and compatibility forms.

    Each search is behind a cheap sign of what it looks for: most bodies hold none, and pay for none.
    """
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKC", text) if not is_hidden(c))
    for match in _LINK.finditer(text) if "://" in text or "www." in text.lower() else ():
        written = match[0].rstrip(_TRAILING)
        yield Form.URL, canonical_form(Form.URL, written) or "", written
    for match in _EMAIL.finditer(_LINK.sub(" ", text)) if "@" in text else ():
        written = match[0].rstrip(_TRAILING)
        yield Form.EMAIL, canonical_form(Form.EMAIL, written) or "", written
    for match in _ACCOUNT.finditer(text.upper()) if _may_hold_account(text) else ():
        if account := _account(match[0]):
            yield Form.IBAN, account, match[0]


def _may_hold_account(text: str) -> bool:
    """Two letters and two digits; the digits are looked for first, which is faster where there are none."""
    return _DIGITS.search(text) is not None and _ACCOUNT_STARTS.search(text) is not None


def _account(run: str) -> str | None:
    """The IBAN that `run` begins with; what follows it in capitals may be the next word."""
    packed = run.replace(" ", "").replace("-", "")
    candidates = (canonical_form(Form.IBAN, packed[:length]) for length in range(len(packed), 14, -1))
    return next((iban for iban in candidates if iban is not None), None)
