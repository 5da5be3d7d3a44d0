"""The version of this perdure."""

__version__ = "0.1.0"
