"""Measure how source code reads: names, docstrings, comments, files and imports, as a Markdown table.

    python scripts/measure_language.py zcpt,darts_space,mobilenet_space,train,benchmarks,scripts ../timm/timm
    python scripts/measure_language.py --list zcpt

Every argument is one column: a folder, or several joined by commas that are counted together. Tests and hidden folders
are left out. The figures show where to look; they are no goal. ``--list`` prints the places behind them.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Graph = dict[str, set[str]]

QUESTION_WORDS = {"what", "how", "whether", "of", "where", "which"}
IRREGULAR_PARTICIPLES = (
    set(  # without "cut", "put", "set", "split": also imperatives; and "found", "left": nouns of code
        re.findall(
            r"\w+",
            """
    begun bound broken brought built caught chosen done drawn driven fallen fed felt fought freed frozen given gone
    grown heard held hidden kept known laid led lost made meant met paid said sent shown spent stood stuck sunk taken
    taught thought told torn understood undone withdrawn won worn written
    """,
        )
    )
)
IMPERATIVES = set(
    re.findall(
        r"\w+",
        """
    abort accept accumulate activate adapt add adjust adopt advance aggregate align allocate allow annotate answer
    append apply approximate argue arrange ask assemble assert assign attach average backpropagate balance batch
    begin bind block break broadcast build bypass cache calculate call cancel cast change check choose claim clamp
    clean clear clip clone close collapse collate collect combine compare compile complete compose compress compute
    concatenate configure confirm connect construct consult consume continue convert copy correct correlate count
    cover crash create crop cross cut cycle deactivate debug decide decode decorate decrease deduce deepcopy define
    delegate delete derive describe deserialize destroy detach detect determine disable discard disconnect dispatch
    display distribute divide do download draw drop dump duplicate emit enable encode end enforce ensure entail
    enter enumerate erase escape estimate evaluate exclude execute exit expand expect explain export expose extend
    extract fail fall fetch fill filter find finish fit fix flatten flip flush fold follow force form format forward
    free freeze fuse gather generate get give go group guard guess halve handle hash have hide hold hook identify
    ignore implement import improve include increase increment index indicate infer inherit init initialise
    initialize inject insert inspect install instantiate integrate interleave interpolate interpret intersect invert
    invoke issue iterate join judge keep kill label launch lay lead leave let lift limit link list listen load
    locate lock log look lower make manage map mark mask match materialise materialize maximise maximize mean
    measure merge minimise minimize mirror mix mock modify monitor move multiply mutate name normalise normalize
    note notify observe obtain offer open optimise optimize order overlap override overwrite pack pad pair parse
    partition pass patch pause perform permute persist perturb pick place plan plot pluralise point pool pop
    populate precompute prefetch prepare prepend preprocess present preserve prevent print process produce profile
    project propagate propose protect provide prune publish pull push put quantise quantize query queue raise rank
    read rearrange rebuild recalculate receive recombine recommend recompute record recover recurse redirect reduce
    refer refresh refuse register reject release reload remap remember remove rename render reorder repeat replace
    replay report represent request require rescale reset reshape resize resolve restore restrict resume retrieve
    retry return reuse reverse revert rewrite rotate round route run sample sanitize save scale scan scatter
    schedule score search seed select send separate serialise serialize serve set shard share shift show shrink
    shuffle shut signal simplify simulate skip slice smooth solve sort spawn specify split squeeze stack standardise
    standardize start step stop store stream strip submit subset subtract suggest sum summarise summarize supply
    support survey suspend swap switch sync synchronise synchronize tag take tear tell terminate test throw tie tile
    time toggle trace track train transfer transform translate transpose traverse treat trigger trim truncate try
    tune turn undo unflatten unfold unify unpack unregister unroll unscale unset unshard unsqueeze unwrap update
    upgrade upload upsample use validate verify view visit vote wait walk warm warn watch wrap write yield zero
    """,
    )
)


@dataclass
class Tally:
    """Counts of one column; the lists hold ``file:line name`` of every place that counts."""

    files: int = 0
    lines: int = 0
    comment_lines: int = 0
    arguments: int = 0
    function_docstrings: int = 0
    docstrings: int = 0
    function_names: list[str] = field(default_factory=list)
    participles: list[str] = field(default_factory=list)
    one_word: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    not_imperative: list[str] = field(default_factory=list)
    tuple_assignments: list[str] = field(default_factory=list)
    untyped: list[str] = field(default_factory=list)
    imports: Graph = field(default_factory=dict)


def is_participle(name: str) -> bool:
    """Return whether a function name is, or begins with, a past participle: ``drawn``, ``judged_rows``."""
    word = name.strip("_").split("_")[0].lower()
    regular = len(word) > 3 and word.endswith("ed") and word != "embed" and not word.endswith("eed")  # need, reseed
    return regular or word in IRREGULAR_PARTICIPLES


def first_word(docstring: str) -> str:
    """Return the first word of a docstring in lower case."""
    match = re.search(r"[A-Za-z'-]+", docstring)
    return match.group().lower() if match else ""


def is_property(node: FunctionNode) -> bool:
    """Return whether a function is a property: its docstring is a noun phrase."""
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def measure_function(node: FunctionNode, place: str, tally: Tally) -> None:
    """Count the name, the arguments and the docstring's mood of a function."""
    name = node.name
    if not name.startswith("__"):
        tally.function_names.append(name)
        if is_participle(name):
            tally.participles.append(f"{place} {name}")
        if "_" not in name.strip("_"):
            tally.one_word.append(f"{place} {name}")
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments += [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
    for argument in arguments:
        if argument.arg not in ("self", "cls", "mcs"):
            tally.arguments += 1
            if argument.annotation is None:
                tally.untyped.append(f"{place} {name}({argument.arg})")
    docstring = ast.get_docstring(node)
    if docstring and not is_property(node):
        tally.function_docstrings += 1
        if first_word(docstring) not in IMPERATIVES:
            tally.not_imperative.append(f"{place} {name}: {docstring.splitlines()[0]}")


def attribute_docstrings(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Yield line and text of the strings below assignments."""
    for before, node in pairwise(body):
        match before, node:
            case ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


def measure_tree(tree: ast.Module, file: str, tally: Tally) -> None:
    """Count everything that the syntax tree of a file shows."""
    for node in ast.walk(tree):
        texts: list[tuple[int, str]] = []
        if isinstance(node, FunctionNode | ast.ClassDef | ast.Module):
            line = getattr(node, "lineno", 1)
            docstring = ast.get_docstring(node)
            texts += [(line, docstring)] if docstring else []
            texts += attribute_docstrings(node.body)
        if isinstance(node, FunctionNode):
            measure_function(node, f"{file}:{node.lineno}", tally)
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)]) if all(isinstance(t, ast.Attribute) for t in targets):
                tally.tuple_assignments.append(f"{file}:{node.lineno} {ast.unparse(node)}")
        for line, text in texts:
            tally.docstrings += 1
            if first_word(text) in QUESTION_WORDS:
                tally.questions.append(f"{file}:{line} {text.strip().splitlines()[0]}")


def runtime_imports(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when a module is imported; those of functions and of TYPE_CHECKING do not."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from runtime_imports(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            blocks = [node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])]
            blocks += [handler.body for handler in getattr(node, "handlers", [])]
            for block in blocks:
                yield from runtime_imports(block)


def import_graph(trees: dict[str, tuple[ast.Module, bool]]) -> Graph:
    """Return which of the modules import which; the package that a submodule lies in is not counted as imported.

    Args:
        trees: Syntax tree of every module by its dotted name, and whether it is a package's ``__init__``.
    """
    graph: Graph = {name: set() for name in trees}
    for name, (tree, is_package) in trees.items():
        for node in runtime_imports(tree.body):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                parts = name.split(".") if is_package else name.split(".")[:-1]
                base = parts[: len(parts) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                names = [
                    f"{module}.{alias.name}" if f"{module}.{alias.name}" in trees else module for alias in node.names
                ]
            graph[name] |= {imported for imported in names if imported in trees and imported != name}
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components, imported ones before their importers (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for successor in sorted(graph[node]):
            if successor not in index:
                visit(successor)
            if successor in stack:
                low[node] = min(low[node], low[successor])
        if low[node] == index[node]:
            start = stack.index(node)
            components.append(sorted(stack[start:]))
            del stack[start:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return components


def longest_chain(graph: Graph) -> list[str]:
    """Return the longest path along imports; a circle on it counts as one module."""
    best: dict[str, list[str]] = {}
    for component in circles(graph):
        imported = {successor for node in component for successor in graph[node]} - set(component)
        tail = max((best[successor] for successor in sorted(imported)), key=len, default=[])
        for node in component:
            best[node] = [node, *tail]
    return max(best.values(), key=len, default=[])


def measure_folders(folders: list[Path]) -> Tally:
    """Count all Python files below some folders, tests left out."""
    tally, trees = Tally(), {}
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).parts
            if any(part.startswith(".") or part in ("tests", "test", "testing") for part in parts):
                continue
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
            tally.files += 1
            tally.lines += len(text.splitlines())
            with path.open("rb") as file:
                # a comment behind code explains one line: only comments with lines of their own are counted
                tally.comment_lines += sum(
                    token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
                    for token in tokenize.tokenize(file.readline)
                )
            measure_tree(tree, str(path), tally)
            is_package = path.name == "__init__.py"
            dotted = ".".join([folder.name, *parts[:-1], *([] if is_package else [path.stem])])
            trees[dotted] = tree, is_package
    tally.imports = import_graph(trees)
    return tally


def percent(part: int, whole: int) -> str:
    """Format a share in percent."""
    return f"{100 * part / max(whole, 1):.1f} %"


def table_rows(tally: Tally) -> dict[str, str]:
    """Return the figures of one column by their labels."""
    thousands = max(tally.lines, 1) / 1000
    functions = len(tally.function_names)
    circle = max(map(len, circles(tally.imports)), default=0)
    return {
        "files / lines": f"{tally.files} / {tally.lines:,}",
        "functions named by a past participle": percent(len(tally.participles), functions),
        "function names of one word": percent(len(tally.one_word), functions),
        "median length of a function name": f"{median(map(len, tally.function_names or [''])):g}",
        "docstrings that begin with What / How / Whether / Of / Where / Which": percent(
            len(tally.questions), tally.docstrings
        ),
        "docstrings of functions that do not begin with an imperative": percent(
            len(tally.not_imperative), tally.function_docstrings
        ),
        "`self.a, self.b = a, b` per 1,000 lines": f"{len(tally.tuple_assignments) / thousands:.1f}",
        "comment lines per 1,000": f"{tally.comment_lines / thousands:.0f}",
        "files per 1,000 lines": f"{tally.files / thousands:.1f}",
        "arguments typed": percent(tally.arguments - len(tally.untyped), tally.arguments),
        "longest import chain": str(len(longest_chain(tally.imports))),
        "files in the largest import circle": str(circle),
    }


def list_places(tally: Tally) -> Iterator[str]:
    """Yield every place that counts, below a heading for each measure."""
    lists = {
        "named by a past participle": tally.participles,
        "docstring begins with a question word": tally.questions,
        "docstring does not begin with an imperative": tally.not_imperative,
        "attributes assigned as a tuple": tally.tuple_assignments,
        "argument without type": tally.untyped,
        "name of one word": tally.one_word,
        "import circle": [" ".join(circle) for circle in circles(tally.imports) if len(circle) > 1],
        "longest import chain": [" -> ".join(longest_chain(tally.imports))],
    }
    for heading, places in lists.items():
        yield f"\n{heading} ({len(places)})"
        yield from places


def main(words: list[str] | None = None) -> int:
    """Print the table, or with ``--list`` the places."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("columns", nargs="+", metavar="FOLDER[,FOLDER...]")
    parser.add_argument("--list", action="store_true", help="print the places instead of the table")
    arguments = parser.parse_args(words)
    tallies = {}
    for column in arguments.columns:
        folders = [Path(folder) for folder in column.split(",")]
        missing = [str(folder) for folder in folders if not folder.is_dir()]
        if missing:
            parser.error(f"no such folder: {', '.join(missing)}")
        tallies[folders[0].resolve().name] = measure_folders(folders)
    if arguments.list:
        lines = [line for tally in tallies.values() for line in list_places(tally)]
    else:
        rows = [table_rows(tally) for tally in tallies.values()]
        lines = ["| | " + " | ".join(tallies) + " |", "|---" * (len(tallies) + 1) + "|"]
        lines += [f"| {label} | " + " | ".join(row[label] for row in rows) + " |" for label in rows[0]]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
