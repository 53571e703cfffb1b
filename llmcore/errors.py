"""What can go wrong with a model or a request; refusals are values (`request.Refused`), not exceptions.

LlmError
|-- ModelError          a checkpoint that cannot be found, read or run; the sentence says what to do
|-- GrammarError        an output grammar that cannot be compiled
|-- PromptError         a prompt that cannot be turned into tokens
|-- SnapshotError       a snapshot that is not ours, not whole, or not this owner's
`-- EngineStopped       the engine is gone; what it ran can be resumed from its snapshots
"""


class LlmError(Exception):
    """The root; its text is one sentence for the person who runs the gateway."""


class ModelError(LlmError):
    pass


class GrammarError(LlmError):
    pass


class PromptError(LlmError):
    pass


class SnapshotError(LlmError):
    pass


class EngineStopped(LlmError):
    pass
