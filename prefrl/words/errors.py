"""What goes wrong by a mistake in what was asked for."""


class UserError(ValueError):
    """A mistake in what was asked for; its message is one sentence: what was given, what is allowed, what to do."""


def install(extra: str) -> str:
    """The command that installs an optional part; no index has this package, so it works in a checkout."""
    return f'pip install -c constraints.txt -e ".[{extra}]" in your checkout of prefrl'
