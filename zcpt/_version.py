"""The version of zcpt."""

__version__ = "0.2.0"
