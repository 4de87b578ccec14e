"""The one exception that is meant for the person at the keyboard."""


class InputError(ValueError):
    """Something the user can put right.

    The message is ONE line that names the cause and the cure, for example "data/x.tgz is cut short;
    delete it and run `make data`". The command line prints that line alone and exits non-zero; any
    other exception is a defect of the program and keeps its traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """What notebooks show instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def brief(error: BaseException) -> str:
    """Say in one line, of at most 120 characters, what an exception says; its type's name if it says nothing."""
    return (" ".join(str(error).split()) or type(error).__name__)[:120]
