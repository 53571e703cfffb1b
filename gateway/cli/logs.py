"""How the gateway's own log reads on a terminal: one line, the constant message, then what varies."""

import logging

from typing_extensions import override

from gateway.cli.show import plain

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class OneLine(logging.Formatter):
    """`warning: a server could not be discovered server=bank why=...`; values are shown inert."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        said = "".join(f" {key}={plain(value)}" for key, value in sorted(extra.items()))
        line = f"{record.levelname.lower()}: {record.getMessage()}{said}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def log_to_stderr() -> None:
    """Warnings and worse, from everybody."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
