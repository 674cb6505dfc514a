"""The one error of the services that a person may read."""


class ServiceError(Exception):
    """A service refused; the text is a sentence for the person who asked."""
