"""The one error that is the user's to mend."""


class InputError(ValueError):
    """Something that came from outside cannot be used.

    The message is one line: what came, what is allowed, what to do. The command line prints it
    without a traceback and exits with status 2; in a program it is an ordinary ``ValueError``.
    """

    def __init__(self, message: str) -> None:
        # File names and settings may hold anything.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


def shortened(text: str) -> str:
    """What came from outside as an error shows it: at most 40 characters of it."""
    return text if len(text) <= 40 else f"{text[:40]}..."
