"""Write every measured number of README.md and docs/*.md from ``benchmarks/results``.

    python benchmarks/make_docs.py           # write the pages
    python benchmarks/make_docs.py --check   # change nothing; exit code 1 where a page disagrees with the results

A page marks what is generated with ``<!-- results:NAME -->`` and ``<!-- /results -->``, around a table or within a
sentence. ``--names`` lists the names with what stands there now; ``benchmarks/fragments.py`` has a function for each.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fragments import FRAGMENTS
from zcpt.errors import ConfigError, ZcptError, describe_unknown_name
from zcpt.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
_MARKED = re.compile(r"<!-- results:(?P<name>[^\s>]*) -->.*?<!-- /results -->", re.DOTALL)


def fill_markers(text: str, page: Path) -> str:
    """Return the text of a page with the current result between each pair of markers.

    Raises:
        ConfigError: A marker has an unknown name, or is not closed.
    """

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in FRAGMENTS:
            raise ConfigError(describe_unknown_name(f"result marked in {page}", name, FRAGMENTS))
        content = FRAGMENTS[name]()
        # Tables stand in paragraphs of their own, sentences stay within theirs.
        content = f"\n\n{content.strip()}\n\n" if "\n" in content else content
        return f"<!-- results:{name} -->{content}<!-- /results -->"

    filled, count = _MARKED.subn(replace, text)
    if text.count("<!-- results:") != count or text.count("<!-- /results -->") != count:
        raise ConfigError(f"{page} has a marker of results that is not closed: end each with <!-- /results -->.")
    return filled


def render_pages(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each generated page of a checkout with the text that it should have."""
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        yield page, fill_markers(page.read_text(), page.relative_to(root))


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare the pages with the results")
    parser.add_argument("--names", action="store_true", help="only list the names of markers with their content")
    args = parser.parse_args()
    if args.names:
        for name, render in FRAGMENTS.items():
            sys.stdout.write(f"{name}\n{render().strip()}\n\n")
        return
    try:
        pages = list(render_pages(ROOT))
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
