"""What goes wrong by a mistake in what was asked for."""


class UserError(ValueError):
    """A mistake in what was asked for; its message is one sentence: what was given, what is allowed, what to do."""
