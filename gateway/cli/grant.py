"""`pratique grant`, `inspect` and `revoke`: a task's token, from its making to its end."""

import os
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.client import operator
from gateway.cli.show import Json, State, plain, print_fields, print_json
from gateway.errors import ConfigError, OperatorError
from gateway.keyring import FOLDER, INSTANCE, TOKENS
from gateway.settings import default_state
from policies.capability import Authority, Refused
from policies.currencies import DECIMALS

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_DAYS = 3650
MOST_CALLS = 2**53 - 1
TOKEN = re.compile(r"[A-Za-z0-9_=-]{64,}")
"""What may be one; anything else is taken for the name of a file."""
AGENT = re.compile(r"[A-Za-z0-9._@-]{1,64}")
LONGEST_TEXT = 10_000
"""Characters of a task's text, and of a rule."""
MOST_RULES = 500
"""What the gateway takes, so that what it does not is told in the words of the command line."""


def grant(
    *,
    task: Annotated[str, typer.Option("--task", metavar="TEXT", help="What the agent is to do, in your words.")],
    allow: Annotated[
        list[str],
        typer.Option("--allow", metavar="RULE", help='As in: bank.pay(to = "DE89...", amount_cents <= 80000)'),
    ],
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="NAME", help="Whose mark it shares; a new one by itself.", show_default=False),
    ] = None,
    calls: Annotated[
        int | None, typer.Option("--calls", min=1, max=MOST_CALLS, help="How many calls.", show_default=False)
    ] = None,
    spend: Annotated[
        list[str] | None, typer.Option("--spend", metavar="800EUR", help="The most it may spend.", show_default=False)
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", min=1, max=MOST_CALLS, help="How many tokens of the model.", show_default=False),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            "--bits", min=1, max=MOST_CALLS, help="How many bits extraction may raise out of text.", show_default=False
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="2h", help="How long the token lasts: 90s, 30m, 2h or 7d.", show_default=False
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="FILE", help="Write the token there, readable by you alone.", show_default=False
        ),
    ] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Create a task, and the token that an agent does it with; the token is shown once."""
    _check(task, allow, agent)
    body: dict[str, Any] = {"text": task, "allow": allow}
    if agent is not None:
        body["agent"] = agent
    if calls is not None:
        body["calls"] = calls
    if spend:
        body["spend"] = dict(minor_units(amount) for amount in spend)
    if tokens is not None:
        body["tokens"] = tokens
    if bits is not None:
        body["bits"] = bits
    if expires is not None:
        body["expires_s"] = seconds(expires)
    file = None if write is None else _fresh(write)
    try:
        made = operator(state or default_state()).post("/tasks", body)
        if file is not None:
            os.write(file, made.pop("token").encode())
    except BaseException:
        if write is not None:
            write.unlink()
        raise
    finally:
        if file is not None:
            os.close(file)
    if as_json:
        print_json(made)
        return
    print(f"task {made['task']} for {made['agent']}, token {made['token_id']}")
    print(f"token written to {write}" if write else made["token"])


def inspect(
    token: Annotated[str, typer.Argument(metavar="TOKEN|FILE", help="A token, or a file that holds one.")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """Show what a token of this gateway says, running or not; its budgets and its revocation are not in it."""
    held = _token_of(token)
    if not TOKEN.fullmatch(held):
        named = plain(token[:200])
        raise ConfigError(f"{named}: no such file, and no token" if held is token else f"{named}: holds no token")
    said = _authority(state or default_state()).inspect(held)
    if isinstance(said, Refused):
        raise OperatorError(said.reason)
    subject = said.subject
    document = {
        "task": subject.task,
        "agent": subject.agent,
        "holder": subject.holder,
        "principal": subject.principal,
        "token": subject.root,
        "expires": subject.expires,
        "is_expired": subject.expires is not None and subject.expires <= time.time(),
        "audience": said.audience,
        "blocks": list(said.blocks),
    }
    if as_json:
        print_json(document)
    else:
        blocks = {f"block {place}": block for place, block in enumerate(said.blocks)}
        print_fields({key: value for key, value in document.items() if key != "blocks"} | blocks)


def revoke(
    what: Annotated[str, typer.Argument(metavar="TOKEN|TASK", help="A token, a file that holds one, or an id.")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """End a token and everything made from it, or every token of a task; calls that wait are ended too."""
    is_id = what.startswith(("task_", "tok_"))
    ended = operator(state or default_state()).post("/tokens/revoke", {"what": what if is_id else _token_of(what)})
    if as_json:
        print_json(ended)
    else:
        print(f"revoked {what}" if is_id else f"revoked the token, of {ended['task']}")


def minor_units(amount: str) -> tuple[str, int]:
    """`800EUR` or `19.90EUR` as a currency and an amount in its minor unit.

    Raises:
        BadParameter: it is no amount of money, of no currency, or finer than the currency.
    """
    found = re.fullmatch(r"(\d{1,12})(?:\.(\d{1,3}))?([A-Z]{3})", amount, re.ASCII)
    if found is None:
        raise typer.BadParameter(f"{amount!r} is not an amount such as 800EUR", param_hint="--spend")
    whole, fraction, currency = found[1], found[2] or "", found[3]
    if currency not in DECIMALS:
        raise typer.BadParameter(f"no currency is called {currency} (ISO 4217)", param_hint="--spend")
    digits = DECIMALS[currency]
    if len(fraction) > digits:
        raise typer.BadParameter(f"{amount!r} is finer than {currency} can be", param_hint="--spend")
    return currency, int(whole + fraction.ljust(digits, "0"))


def seconds(text: str) -> int:
    """`90s`, `30m`, `2h` or `7d` in seconds.

    Raises:
        BadParameter: it is no such length of time.
    """
    found = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is not a length of time such as 30m, 2h or 7d", param_hint="--expires")
    length = int(found[1]) * SECONDS[found[2]]
    if length > LONGEST_DAYS * SECONDS["d"]:
        raise typer.BadParameter(f"{text!r} is longer than {LONGEST_DAYS}d", param_hint="--expires")
    return length


def _check(task: str, allow: list[str], agent: str | None) -> None:
    if len(task) > LONGEST_TEXT:
        raise typer.BadParameter(f"longer than {LONGEST_TEXT} characters", param_hint="--task")
    for rule in allow:
        if len(rule) > LONGEST_TEXT:
            raise typer.BadParameter(f"{rule[:40]!r}... is longer than {LONGEST_TEXT} characters", param_hint="--allow")
    if len(allow) > MOST_RULES:
        raise typer.BadParameter(f"more than {MOST_RULES} rules", param_hint="--allow")
    if agent is not None and not AGENT.fullmatch(agent):
        wanted = "1 to 64 letters of a to z, digits, '.', '_', '@' or '-'"
        raise typer.BadParameter(f"{agent[:64]!r} is not a name: {wanted}", param_hint="--agent")


def _authority(state: Path) -> Authority:
    """The one who minted this gateway's tokens."""
    keys = state / FOLDER
    try:
        return Authority((keys / TOKENS).read_bytes(), (keys / INSTANCE).read_text("ascii"))
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; tokens are checked with their gateway's key") from error


def _token_of(token_or_file: str) -> str:
    path = Path(token_or_file)
    try:
        return path.read_text("ascii").strip() if len(token_or_file) < 256 and path.is_file() else token_or_file
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not a file that holds a token") from error


def _fresh(path: Path) -> int:
    """A new file for its owner's eyes, opened before the token exists so that none is made that cannot be kept."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
