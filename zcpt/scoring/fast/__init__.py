"""The fast evaluator: for proxies of the naswot family, on any network of ours.

It looks into the network once (``trace``, ``lowering``, ``network``), finds out what the mixtures of a call have in
common (``plan``), and computes every value once (``run``) in the form that is fast (``operations``, ``kernels``),
in as little memory as it must (``memory``).
"""

from zcpt.scoring.fast.evaluator import FastEvaluator

__all__ = ["FastEvaluator"]
