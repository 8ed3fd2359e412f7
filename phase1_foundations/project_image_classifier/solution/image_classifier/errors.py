"""What can go wrong by input: each error's message is one sentence for the person who can mend it."""


class Refused(Exception):
    """Base of all errors that a user of the program can mend."""


class ConfigError(Refused):
    """A configuration that cannot be used."""


class CheckpointError(Refused):
    """A checkpoint that is missing, is none, or belongs to another configuration."""


class PictureError(Refused):
    """A picture that is missing or cannot be read."""
