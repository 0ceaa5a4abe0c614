"""
One error class per seam.

Each message is one line: what is wrong, where, and how to mend it. `cli.py`
turns them into an exit code; nothing else catches `BotError` as a whole. No
password of an address is in one, whatever a library said.
"""

from bot.shown import shown


class BotError(Exception):
    """Something that its user can mend; the message is one line."""

    def __init__(self, reason: object = '') -> None:
        super().__init__(shown(str(reason)))


class UsageError(BotError):
    """A wrong option, argument or rule name (exit 2)."""


class ConfigError(BotError):
    """The configuration can't be read or does not fit (exit 2)."""


class MailboxError(BotError):
    """An input that holds no mail: no file, a folder without patches (exit 3)."""


class LetterError(BotError):
    """A mail that says what no mail can mean; it is passed over, and recorded."""


class LoreError(BotError):
    """
    The archive did not give what was asked for (exit 3).

    `missing`: it answered, and has no such message.
    """

    def __init__(self, reason: str, *, missing: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing


class B4Error(BotError):
    """b4 can't be run at all (exit 3); what it makes of a thread is never an error."""


class PatchError(BotError):
    """
    A diff that can't be read, or does not apply.

    `path` and `line` (of the diff) where known; `at` is the line of the file
    that a hunk is for, which begins at `line`.
    """

    def __init__(
        self, reason: str, path: str | None = None, line: int | None = None, at: int | None = None
    ) -> None:
        super().__init__(reason)
        self.path = path
        self.line = line
        self.at = at


class TreeError(BotError):
    """The kernel tree, or a commit in it, can't be used (exit 3)."""


class SandboxError(BotError):
    """No cage can be had, so nothing is built (a `CouldNotRun`)."""


class RuleLoadError(BotError):
    """A rule file does not load; the program does not start (exit 2)."""


class StoreError(BotError):
    """The database can't be had, or is not one that this program can use (exit 3)."""


class MailError(BotError):
    """No mail can be sent: the server, the password or the settings (exit 3)."""


class ReplyError(BotError):
    """A mail can't be composed: an operator's template does not work."""


class PatchworkError(BotError):
    """Patchwork does not take a check, or does not have the patch (exit 3)."""
