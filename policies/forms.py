"""Canonical forms: the one spelling under which two values of a kind count as the same atom.

A form may only equate spellings that every upstream must treat alike (the case of a host, the blanks of an IBAN);
whatever readers are known to disagree about (dot segments, userinfo, `127.1`, quoted mailboxes) has no canonical form,
and a value without one proves nothing and is proven by nothing. The same goes for anything that could deceive an eye:
zero-width, bidi and control characters, look-alikes, text that is not NFKC (`plain.py`).

A proof needs more than equal forms: the value sent must *be* the canonical spelling, or the very spelling that was
proven (`spellings`), so nothing is ever rewritten on its way to a tool.
"""

import ipaddress
import math
import re
from collections.abc import Callable
from datetime import date, datetime
from string import ascii_uppercase
from urllib.parse import urlsplit

import idna

from policies.jsonvalue import JSON
from policies.pack import Form
from policies.plain import is_plain

MAX_CHARS = 4096
"""A longer value has no canonical form; nobody compares it by eye either."""


def canonical_form(form: Form, value: JSON) -> str | None:
    """The canonical spelling of `value`, or None when it is not of that form or not safe to compare.

    What is no string has one as a number (`7`, `true`, `null`); a whole number also as an id, where it equals its
    digits. So `7` is `"7"` for a server that mints ids, and for nobody else.
    """
    if form is Form.NUMBER:
        return _number(value)
    if form is Form.ID and isinstance(value, int) and not isinstance(value, bool):
        return _number(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CHARS or not is_plain(value):
        return None
    return _FORMS[form](value)


def form_for(form: Form, value: JSON) -> Form:
    """The form that `value` is compared in where `form` was declared: what is no string is a number, or an id."""
    is_id = form is Form.ID and isinstance(value, int) and not isinstance(value, bool)
    return form if isinstance(value, str) or is_id else Form.NUMBER


def spellings(form: Form, value: JSON) -> frozenset[str]:
    """What a proven `value` stands for: its canonical spelling, and its own where that differs."""
    canonical = canonical_form(form, value)
    if canonical is None:
        return frozenset()
    return frozenset({canonical, value}) if isinstance(value, str) else frozenset({canonical})


def as_sent(form: Form, value: JSON) -> str | None:
    """What must be among the proven `spellings` for `value` to count as proven; None: nothing can prove it."""
    canonical = canonical_form(form, value)
    return value if canonical is not None and isinstance(value, str) else canonical


# ---- text, number, date, id, path ---------------------------------------------------------------------------------


def _text(value: str) -> str | None:
    return value if value == value.strip() else None


def _number(value: JSON) -> str | None:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) <= _MAX_INT else None
        case float():
            return repr(value) if math.isfinite(value) else None
        case _:
            return None


_MAX_INT = 2**53
_SPACE = re.compile(r"\s")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")  # RFC 3339


def _date(value: str) -> str | None:
    if not value.isascii():
        return None
    try:
        if _DATE.fullmatch(value):
            date.fromisoformat(value)
        elif _MOMENT.fullmatch(value):
            datetime.fromisoformat(value)
        else:
            return None
    except ValueError:
        return None
    return value


def _id(value: str) -> str | None:
    return None if _SPACE.search(value) else value


def _path(value: str) -> str | None:
    """Only what names one place whoever resolves it: no dot segments, doubled or trailing slashes, `~` or `$`."""
    if value == "/":
        return value
    steps = value.removeprefix("/").split("/")
    if any(step in {"", ".", ".."} or step != step.strip() for step in steps):
        return None
    if value[0] in "~-" or any(character in '\\$%*?"<>|\n\t' for character in value):
        return None
    return value


# ---- e-mail, IBAN, URL ---------------------------------------------------------------------------------------------

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")  # RFC 5322 dot-atom
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"\d+|0x[0-9a-f]*")


def _email(value: str) -> str | None:
    """The domain in lower-case A-labels; the mailbox as it stands, for its case is the receiver's to read."""
    local, at, domain = value.rpartition("@")
    host = _hostname(domain) if at else None
    if host is None or "." not in host or len(local) > 64 or not _LOCAL.fullmatch(local):
        return None
    return f"{local}@{host}"


def _hostname(host: str) -> str | None:
    """Lower-case A-labels (IDNA 2008, RFC 5891); None for what is no name or what readers resolve differently."""
    try:
        ascii_host = host.lower() if host.isascii() else idna.encode(host).decode()
        labels = ascii_host.split(".")
        shown = [idna.decode(label) if label.startswith("xn--") else label for label in labels]
    except (idna.IDNAError, UnicodeError):
        return None
    if len(ascii_host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    if _NUMERIC.fullmatch(labels[-1]) or not all(is_plain(label) for label in shown):
        return None
    return ascii_host


def _iban(value: str) -> str | None:
    """Upper case without blanks; its country's length and the checksum must hold (ISO 13616)."""
    text = value.replace(" ", "").upper()
    if not value.isascii() or not 15 <= len(text) <= 34 or not (text[:2].isalpha() and text.isalnum()):
        return None
    if not text[2:4].isdigit() or len(text) != _IBAN_CHARS.get(text[:2], len(text)):
        return None
    digits = (text[4:] + text[:4]).translate(_IBAN_DIGITS)
    return text if int(digits) % 97 == 1 else None


_IBAN_DIGITS = {ord(letter): str(int(letter, 36)) for letter in ascii_uppercase}


# fmt: off
_IBAN_CHARS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TN": 24, "TR": 26, "UA": 29, "VG": 24, "XK": 20,
}
# fmt: on


def _url(value: str) -> str | None:
    """Scheme and host in lower case, the scheme's own port dropped, everything after the host untouched."""
    if "\\" in value or any(character.isspace() for character in value) or not _HTTP.match(value):
        return None
    try:
        parts = urlsplit(value)
        port = parts.port
        host = _url_host(parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc)
    except ValueError:
        return None
    if host is None or any(step in _DOTS for step in parts.path.lower().split("/")):
        return None
    scheme = parts.scheme.lower()
    place = host if port is None or port == _PORTS[scheme] else f"{host}:{port}"
    tail = value[value.index("//") + 2 + len(parts.netloc) :]
    return f"{scheme}://{place}{tail if tail.startswith('/') else '/' + tail}"


def _url_host(host: str) -> str | None:
    if host.startswith("["):
        return f"[{ipaddress.IPv6Address(host.removeprefix('[').removesuffix(']')).compressed}]"
    if _FOUR.fullmatch(host):
        return str(ipaddress.IPv4Address(host))
    return _hostname(host)


_HTTP = re.compile(r"https?://", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_DOTS = frozenset({".", "..", "%2e", "%2e%2e", ".%2e", "%2e."})
_FOUR = re.compile(r"\d{1,3}(\.\d{1,3}){3}")

_FORMS: dict[Form, Callable[[str], str | None]] = {
    Form.TEXT: _text,
    Form.EMAIL: _email,
    Form.IBAN: _iban,
    Form.URL: _url,
    Form.PATH: _path,
    Form.DATE: _date,
    Form.ID: _id,
}
