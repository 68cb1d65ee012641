"""Multi-trial search: algorithms that measure one architecture after another, guided by zero-cost proxies."""

from zcpt.trials.candidates import Candidates

__all__ = ["Candidates"]
