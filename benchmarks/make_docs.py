"""Write every measured number of the documentation from ``benchmarks/results``.

    python benchmarks/make_docs.py           # write the pages
    python benchmarks/make_docs.py --check   # change nothing; exit code 1 where a page disagrees with the results
    python benchmarks/make_docs.py --pictures  # draw the pictures again too; their bytes depend on matplotlib's version

README.md and the pages of docs/ mark what is generated with ``<!-- results:NAME -->`` and ``<!-- /results -->``, around
a table or within a sentence. ``benchmarks/fragments.py`` and ``benchmarks/trials_report.py`` have a function for each
NAME. All results of a space, with tables and pictures, are on the page ``benchmarks/results/SPACE.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import fragments, trials_report
from benchmarks.fragments import NUMBERS
from zcpt.errors import ConfigError, ZcptError, describe_unknown_name
from zcpt.files import write_atomically
from zcpt.tabular.pictures import save_picture
from zcpt.tabular.report import render_page

ROOT = Path(__file__).resolve().parents[1]
PREFACE = """# Results on `{space}`

Measured by `zcpt benchmark`, each with the settings named below its table, and written by
`python benchmarks/make_docs.py`.
"""
TABLES = {**fragments.TABLES, **trials_report.TABLES}
_MARKED = re.compile(r"<!-- results:(?P<name>.*?) -->.*?<!-- /results -->", re.DOTALL)


def fill_markers(text: str, page: Path) -> str:
    """Return the text of a page with the current result between each pair of markers.

    Raises:
        ConfigError: A marker has an unknown name, or is not closed.
    """

    def replace(match: re.Match[str]) -> str:
        content = render_fragment(match["name"], page)
        # Tables stand in paragraphs of their own, sentences stay within theirs.
        content = f"\n\n{content.strip()}\n\n" if "\n" in content else content
        return f"<!-- results:{match['name']} -->{content}<!-- /results -->"

    filled, count = _MARKED.subn(replace, text)
    if text.count("<!-- results:") != count or text.count("<!-- /results -->") != count:
        raise ConfigError(f"{page} has a marker of results that is not closed: end each with <!-- /results -->.")
    return filled


def render_fragment(marker: str, page: Path) -> str:
    """Return what a marker stands for: a table's name, or the name of a number with the result that it is read from.

    ``orders`` is a table. ``mean:nasbench201-cifar10-search`` is a number of a folder,
    ``spearman:nasbench201-cifar10-proxies snip`` one of a proxy in it.

    Raises:
        ConfigError: There is no such fragment or result.
    """
    name, colon, source = marker.partition(":")
    if colon:
        if name not in NUMBERS:
            raise ConfigError(describe_unknown_name(f"number marked in {page}", name, NUMBERS))
        try:
            return NUMBERS[name](source)
        except (KeyError, ValueError) as error:
            raise ConfigError(f"{page} marks '{marker}', but the results have no such number: correct it.") from error
    if name not in TABLES:
        raise ConfigError(describe_unknown_name(f"table marked in {page}", name, TABLES))
    return TABLES[name]()


def render_pages(root: Path, pictures: bool = False) -> Iterator[tuple[Path, str]]:
    """Yield each generated page of a checkout with the text that it should have; draw its pictures on request."""
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        yield page, fill_markers(page.read_text(), page.relative_to(root))
    results = root / "benchmarks" / "results"
    folders: dict[str, list[Path]] = {}
    for path in sorted(results.glob("tables/**/result.json")):
        space = json.loads(path.read_text())["protocol"]["space"]
        folders.setdefault(space, []).append(path.parent)
    for space, measured in folders.items():
        page = results / f"{space}.md"
        text, drawings = render_page(measured, page, preface=PREFACE.format(space=space))
        for path, draw in drawings.items() if pictures else ():
            save_picture(draw(), path)
        yield page, text


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare the pages with the results")
    parser.add_argument("--pictures", action="store_true", help="also draw the pictures whose numbers are at hand")
    args = parser.parse_args()
    try:
        pages = list(render_pages(ROOT, args.pictures and not args.check))
    except ZcptError as error:
        sys.exit(str(error))
    outdated = [(page, text) for page, text in pages if not page.exists() or page.read_text() != text]
    for page, text in outdated:
        sys.stdout.write(f"{'outdated' if args.check else 'written '}      {page.relative_to(ROOT)}\n")
        if not args.check:
            write_atomically(page, text)
    if args.check and outdated:
        sys.exit("Run 'python benchmarks/make_docs.py' and commit what it writes.")


if __name__ == "__main__":
    main()
