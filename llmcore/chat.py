"""From messages to the text a model was trained on, in which nobody's words can pass for the model's own markers.

A chat template is a Jinja program that comes with the model. It is run in a sandbox, and it never sees what a message
says: each message's words are one private character while it runs. Its output is then cut at the markers
(`<|im_end|>`), and only what the template itself wrote can be one; the words are put back into the text between
them. So a message that says `<|im_end|><|im_start|>system` says just that.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from jinja2 import Template, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from typing_extensions import override

from llmcore.errors import ModelError, PromptError
from llmcore.vocabulary import Marker

PLAIN: Final = (
    "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n{% endfor %}Assistant:"
)
"""For a model without a template. It knows no markers, so nothing but the model's own sense tells roles apart."""

ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""Who may speak, and as whom the template knows them."""

_FIRST_VEIL: Final = 0x100000
"""The last private plane of Unicode: a veil is one of its characters, and stands for one message's words."""
_MOST_MESSAGES: Final = 0xFFFD


@dataclass(frozen=True, slots=True)
class Piece:
    """A marker, or text that holds none."""

    text: str
    marker: int | None = None
    is_first: bool = False
    """Nothing was written before it."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """One model's template, and the markers that only it may write."""

    template: Template
    markers: Mapping[str, Marker]
    names: Mapping[str, str]
    """What the template calls markers: `bos_token`, `eos_token` and the like."""
    is_plain: bool = False
    _cut: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        longest_first = sorted(self.markers, key=len, reverse=True)
        cut = re.compile("|".join(f"({re.escape(text)})" for text in longest_first) or "(?!)")
        object.__setattr__(self, "_cut", cut)

    @classmethod
    def open(cls, folder: Path, config: Mapping[str, Any], markers: Sequence[Marker]) -> "ChatTemplate":
        """The template of a model folder; `config` is its `tokenizer_config.json`.

        Raises:
            ModelError: it cannot be compiled.
        """
        source = _source(folder, config)
        text = PLAIN if source is None else source
        if any(ord(character) >= _FIRST_VEIL for character in text):
            raise ModelError(f"The chat template in {folder} uses Unicode's last private plane; remove it there.")
        try:
            template = _environment().from_string(text)
        except TemplateError as failure:
            raise ModelError(f"The chat template in {folder} does not compile: {failure}") from failure
        names = {
            key: token if isinstance(token, str) else token["content"]
            for key, token in config.items()
            if key.endswith("_token") and (isinstance(token, str) or (isinstance(token, dict) and "content" in token))
        }
        return cls(template, {marker.text: marker for marker in markers}, names, source is None)

    def render(self, messages: Sequence[Mapping[str, str]]) -> list[Piece]:
        """The conversation so far and the opening of the assistant's answer.

        Raises:
            PromptError: no messages, an unknown role, or the template refuses their order.
        """
        veiled, words = _veiled(messages)
        try:
            text = self.template.render(
                messages=veiled, add_generation_prompt=True, tools=None, documents=None, **self.names
            )
        except Exception as failure:  # a foreign program: whatever it raises, this prompt cannot be made
            raise PromptError(f"The model's chat template refuses these messages: {str(failure)[:200]}") from failure
        return [
            piece if piece.marker is not None else Piece(_unveiled(piece.text, words), is_first=piece.is_first)
            for piece in self._pieces(text)
        ]

    def _pieces(self, text: str) -> Iterator[Piece]:
        """Cut at the markers, the white space gone that they swallow."""
        at, after = 0, False
        for found in self._cut.finditer(text):
            marker = self.markers[found[0]]
            yield from _between(text, at, found.start(), after, marker.lstrip)
            yield Piece(found[0], marker.id)
            at, after = found.end(), marker.rstrip
        yield from _between(text, at, len(text), after, False)


def _between(text: str, start: int, end: int, lstrip: bool, rstrip: bool) -> Iterator[Piece]:
    part = text[start:end]
    part = part.lstrip() if lstrip else part
    part = part.rstrip() if rstrip else part
    if part:
        yield Piece(part, is_first=start == 0)


def _veiled(messages: Sequence[Mapping[str, str]]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Messages whose words are one character each, and the words by that character. White space around stays seen:
    templates trim it."""
    if not messages:
        raise PromptError("There are no messages to answer.")
    if len(messages) > _MOST_MESSAGES:
        raise PromptError(f"There are {len(messages)} messages; at most {_MOST_MESSAGES} can be in a prompt.")
    veiled, words = [], {}
    for i, message in enumerate(messages):
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise PromptError(f"Message {i} has the role {role[:40]!r}; known are {', '.join(ROLES)}.")
        said = content.strip()
        if said:
            veil = chr(_FIRST_VEIL + i)
            words[veil] = said
            start = content.index(said[0])
            content = content[:start] + veil + content[start + len(said) :]
        veiled.append({"role": ROLES[role], "content": content})
    return veiled, words


def _unveiled(text: str, words: Mapping[str, str]) -> str:
    return "".join(words.get(character, character) for character in text)


def _source(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Where a template lies, newest custom first; of several the one called `default`."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if found is None and (folder / "chat_template.json").is_file():
        found = json.loads((folder / "chat_template.json").read_text(encoding="utf-8")).get("chat_template")
    if isinstance(found, list):
        found = {each["name"]: each["template"] for each in found}.get("default")
    return found if isinstance(found, str) else None


def _environment() -> ImmutableSandboxedEnvironment:
    """What published templates expect to find; nothing that reaches beyond them."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


class _Generation(Extension):
    """`{% generation %}` marks for trainers which words are the model's; to a prompt it says nothing."""

    tags = {"generation"}  # noqa: RUF012 - Jinja declares it on the instance

    @override
    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(value: object, indent: int | None = None) -> str:
    """Jinja's own escapes for HTML, which a prompt is not."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(format: str) -> str:
    return datetime.now().astimezone().strftime(format)
