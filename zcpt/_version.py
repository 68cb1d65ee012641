"""The version of zcpt."""

__version__ = "0.1.0"
