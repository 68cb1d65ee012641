"""Passes that rewrite a graph. Each takes a graph and returns a new one; no value is ever changed.

The order of ``PASSES`` matters. Every pass states what it needs from those before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from zcpt.scoring.fast.graph import FusedChain, Graph, Term, Value, WeightedSum
from zcpt.scoring.fast.operations import (
    AveragePool,
    ChannelAffine,
    Concatenation,
    Convolution,
    ImageOp,
    Relu,
    TensorOp,
)

NewOp = tuple[TensorOp, tuple[Value, ...]]


def rewrite_graph(graph: Graph) -> Graph:
    """Apply all passes."""
    for rewrite in PASSES:
        graph = rewrite(graph)
    return graph


def observe_relu_outputs(graph: Graph) -> Graph:
    """Observe the output of a ReLU instead of its input, and the parts of a concatenation instead of the whole.

    Signs are the same: ReLU(x) is positive exactly where x is. Comes first, because an observed value is one more
    reader, and the passes behind fuse only values with a single reader. Afterwards nothing observes what stands
    between a convolution and its ReLU.
    """
    relus = {value.sources[0]: value for value in graph.values if isinstance(value.op, Relu)}

    def find_equivalents(value: Value) -> Iterator[Value]:
        if isinstance(value.op, Concatenation):
            yield from chain.from_iterable(map(find_equivalents, value.sources))
        else:
            yield relus.get(value, value)

    observed = {
        place: tuple(chain.from_iterable(map(find_equivalents, values))) for place, values in graph.observed.items()
    }
    return _drop_unused(replace(graph, observed=observed))


def fold_batch_norms(graph: Graph) -> Graph:
    """Fold the factors and summands of a BatchNorm into the convolution that it alone reads."""
    readers = _count_uses(graph)

    def rewrite(value: Value, sources: tuple[Value, ...]) -> NewOp:
        if isinstance(value.op, ChannelAffine) and readers[sources[0].index] == 1:
            convolution = sources[0].op
            if isinstance(convolution, Convolution):
                return convolution.fold_affine(value.op.scale, value.op.shift), sources[0].sources
        return value.op, sources

    return _rewrite_values(graph, rewrite)


def run_relus_in_place(graph: Graph) -> Graph:
    """Let a ReLU overwrite its source where nothing else reads that.

    Only results of operations that allocate a tensor of their own may be overwritten: a view, a summand that a sum
    passes on as it is, or the images would change under other readers. Both values depend on the same choices, so a
    plan computes them together: the source is never kept for several mixtures while the ReLU runs for each.
    """
    readers = _count_uses(graph)

    def rewrite(value: Value, sources: tuple[Value, ...]) -> NewOp:
        if isinstance(value.op, Relu) and readers[sources[0].index] == 1:
            is_fresh = isinstance(sources[0].op, AveragePool | Convolution | ChannelAffine)
            return (Relu(value.op.maximum, in_place=True) if is_fresh else value.op), sources
        return value.op, sources

    return _rewrite_values(graph, rewrite)


def fuse_sums(graph: Graph) -> Graph:
    """Fuse into each sum the sums, uniform factors and convolutions whose only reader it is.

    Terms of one source whose convolutions are mergeable stand together; the planner makes one convolution of them
    (``merge_convolutions``), which has the mixture's weights in its kernel. Comes after ``fold_batch_norms``, because
    a convolution with its BatchNorm still behind it could not be fused.
    """
    readers = _count_uses(graph)

    def rewrite(value: Value, sources: tuple[Value, ...]) -> NewOp:
        if not isinstance(value.op, WeightedSum):
            return value.op, sources
        fused: list[tuple[Value, tuple[Term, ...]]] = []
        for source, terms in _list_summands(value.op, sources, readers):
            for position, (earlier, earlier_terms) in enumerate(fused):
                if earlier is source and _are_mergeable(earlier_terms[0], terms[0]):
                    fused[position] = (source, earlier_terms + terms)
                    break
            else:
                fused.append((source, terms))
        return WeightedSum(tuple(terms for _, terms in fused)), tuple(source for source, _ in fused)

    return _rewrite_values(graph, rewrite)


def _list_summands(
    total: WeightedSum, sources: Iterable[Value], readers: Mapping[int, int]
) -> Iterator[tuple[Value, tuple[Term, ...]]]:
    for source, terms in zip(sources, total.terms, strict=True):
        if terms[0].convolution is not None:  # of an inner sum that was fused already
            yield source, terms
            continue
        (term,) = terms
        is_only_reader = readers[source.index] == 1
        while isinstance(source.op, ChannelAffine) and source.op.uniform_factor is not None:
            term = replace(term, constant=term.constant * source.op.uniform_factor)
            (source,) = source.sources
            is_only_reader = is_only_reader and readers[source.index] == 1
        if isinstance(source.op, WeightedSum) and is_only_reader:
            for inner, inner_terms in _list_summands(source.op, source.sources, readers):
                yield inner, tuple(_multiply_terms(term, inner_term) for inner_term in inner_terms)
        elif isinstance(source.op, Convolution) and is_only_reader and source.sources[0].units <= source.units:
            # Not a convolution that shrinks its input: until the sum is added up the input is kept, not the output,
            # so that would take more memory.
            yield source.sources[0], (replace(term, convolution=source.op),)
        else:
            yield source, (term,)


def _multiply_terms(outer: Term, inner: Term) -> Term:
    return Term(outer.mixture_weights + inner.mixture_weights, outer.constant * inner.constant, inner.convolution)


def _are_mergeable(one: Term, other: Term) -> bool:
    first, second = one.convolution, other.convolution
    return first is not None and second is not None and first.is_mergeable(second)


def cast_weights(graph: Graph) -> Graph:
    """Cast weights to the type to compute in.

    After all folding, so that products of weights are rounded once. Convolutions in sums stay as they are: the
    mixture's weights are multiplied into them first, and ``merge_convolutions`` casts the result.
    """

    def rewrite(value: Value, sources: tuple[Value, ...]) -> NewOp:
        is_weighted = isinstance(value.op, Convolution | ChannelAffine)
        return (value.op.to(graph.dtype) if is_weighted else value.op), sources  # type: ignore[attr-defined]

    return _rewrite_values(graph, rewrite)


def chain_image_operations(graph: Graph) -> Graph:
    """Fuse operations on single images that follow each other and that nothing else reads.

    Comes last: a ``FusedChain`` holds values of the graph before, and the other passes do not look into it.
    """
    readers = graph.count_readers()  # an observed link may be fused: its signs are taken on the way
    observed = graph.list_observed()
    summands = {source for value in graph.values if isinstance(value.op, WeightedSum) for source in value.sources}
    replaced: dict[Value, Value] = {}
    chains: dict[Value, Value] = {}
    for value in graph.values:
        op, sources = value.op, tuple(replaced[source] for source in value.sources)
        links: tuple[Value, ...] = ()
        if isinstance(op, ImageOp):
            source = value.sources[0]
            source_op = replaced[source].op
            if readers[source.index] == 1 and isinstance(source_op, FusedChain | ImageOp):
                links = (*(source_op.links if isinstance(source_op, FusedChain) else (source,)), value)
                sources = replaced[source].sources
            elif value in observed or (value in summands and readers[value.index] == 1):
                links = (value,)  # alone, but its signs are taken, or it is added up, while it is in the cache
        replaced[value] = replace(value, op=FusedChain(links) if links else op, sources=sources)
        chains.update(dict.fromkeys(links, replaced[value]))
    renamed = replace(
        graph,
        values=tuple(replaced.values()),
        output=replaced[graph.output],
        observed={
            place: tuple(value if value in chains else replaced[value] for value in values)
            for place, values in graph.observed.items()
        },
        chains=chains,
    )
    return _drop_unused(renamed)


PASSES: tuple[Callable[[Graph], Graph], ...] = (
    observe_relu_outputs,
    fold_batch_norms,
    run_relus_in_place,
    fuse_sums,
    cast_weights,
    chain_image_operations,
)


def _count_uses(graph: Graph) -> Counter[int]:
    """Count the readers of each value by index, the proxy included."""
    return graph.count_readers() + Counter(value.index for value in graph.list_observed())


def _rewrite_values(graph: Graph, rewrite: Callable[[Value, tuple[Value, ...]], NewOp]) -> Graph:
    """Return a graph of new values; ``rewrite`` gives each one's operation and sources from the old value.

    Values are visited after their sources, so what was fused into a source can be fused again into its reader.
    """
    replaced: dict[Value, Value] = {}
    for value in graph.values:
        op, sources = rewrite(value, tuple(replaced[source] for source in value.sources))
        replaced[value] = replace(value, op=op, sources=sources)
    observed = {place: tuple(replaced[value] for value in values) for place, values in graph.observed.items()}
    renamed = replace(graph, values=tuple(replaced.values()), output=replaced[graph.output], observed=observed)
    return _drop_unused(renamed)


def _drop_unused(graph: Graph) -> Graph:
    """Drop the values that neither the output nor an observed value depends on; dead readers must not be counted."""
    used = {graph.output, *map(graph.computing_value, graph.list_observed())}
    for value in reversed(graph.values):
        if value in used:
            used.update(value.sources)
    return replace(graph, values=tuple(value for value in graph.values if value in used))
