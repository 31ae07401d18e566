"""What can go wrong, one class for each reaction.

::

    AgentError
    ├── ConfigError(problems)             the configuration cannot work   → exit 78, all problems listed
    ├── DataDirectoryError                the identity cannot be kept     → exit 1
    │   └── DirectoryInUseError           an agent runs there             → exit 1; a carried reply is left for it
    ├── InstallationError                 the host cannot be changed so   → exit 1, nothing or the rest undone
    ├── UnreachableError(retry_after)     no answer, or "not now"         → back off, 1 s to 60 s
    ├── CredentialRejectedError(refusal)  leaf or agent token not taken   → Register again, same key
    ├── ApprovalPendingError              an operator has to decide       → ask again every 30 s
    └── EnrolmentRefusedError(refusal)    the server said no              → stay up, say why, 60 s to 15 min

`lifecycle` holds the reactions of the daemon, `cli` the exit codes. Whatever differs without being
treated differently (which reason, which status) is a field, not a class. Every text is a sentence
for an operator and holds no secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


class AgentError(Exception):
    """Any failure that the agent expects and knows how to react to."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the configuration."""

    key: str
    """Dotted, as in the file: ``agent.data_dir``."""

    text: str
    """What was found, and what to do."""

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


class ConfigError(AgentError):
    """The configuration cannot work. Carries every problem, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class DataDirectoryError(AgentError):
    """The data directory is in use, unsafe, unreadable, or holds something unusable."""


class DirectoryInUseError(DataDirectoryError):
    """Another agent holds the data directory."""


class InstallationError(AgentError):
    """The agent cannot be installed on this host, or taken off it."""


@dataclass(frozen=True)
class Refusal:
    """A "no" as the server said it."""

    status: str
    """Name of the gRPC status, or of the enrolment status when the call itself succeeded."""

    reason: str
    """``ct-ops-reason``; empty: an existing server, which sends none."""

    detail: str
    """The server's own words, printable and bounded."""

    retry_after: timedelta = timedelta(0)
    """How long the server asked us to stay away."""

    reconnect_within: timedelta = timedelta(0)
    """The server stops: come back until then, at a moment of one's own choice; nothing: it did not say."""

    clock_skew_s: float | None = None
    """This host's clock minus the server's; ``None``: an existing server, which does not tell."""

    request_id: str = ""
    """Under which the server's log has it; empty: an existing server, which does not tell."""


class UnreachableError(AgentError):
    """No answer from the server, or one that says *later*."""

    def __init__(
        self,
        text: str,
        *,
        retry_after: timedelta = timedelta(0),
        reconnect_within: timedelta = timedelta(0),
        cut_off_in_handshake: bool = False,
    ) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.reconnect_within = reconnect_within
        self.cut_off_in_handshake = cut_off_in_handshake
        """The peer hung up while TLS was being set up: it may not like the leaf we presented."""


class CredentialRejectedError(AgentError):
    """The server knows no agent with this leaf or agent token. The key stays; Register again."""

    def __init__(self, sentence: str, refusal: Refusal) -> None:
        super().__init__(sentence)
        self.refusal = refusal


class ApprovalPendingError(AgentError):
    """The server holds the enrolment until an operator approves it."""

    def __init__(self, sentence: str, agent_id: str) -> None:
        super().__init__(sentence)
        self.agent_id = agent_id


class EnrolmentRefusedError(AgentError):
    """The server will not have this agent until somebody does something."""

    def __init__(self, sentence: str, refusal: Refusal) -> None:
        super().__init__(sentence)
        self.refusal = refusal
