"""The fast engine: scores of the naswot family for any network of ours, with everything shared computed once.

Read in this order; docs/engine.md follows one small supernet through all of it.

    build      traces a network (``trace``, ``lowering``) into a ``graph`` of frozen values
    rewrite    passes that return a new graph: folding, fusing, chaining
    plan       what the mixtures of a call share, and the instructions for the rest of each
    executor   executes a plan, in several threads where possible (``parallel``)
    kernels    counts the signs of observed values; ``memory`` estimates, and packs signs of batches in parts
"""

from zcpt.scoring.fast.evaluator import FastEvaluator

__all__ = ["FastEvaluator"]
