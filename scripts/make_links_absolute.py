"""Make the relative links of README.md absolute, so that they work on PyPI; the release workflow runs this.

python scripts/make_links_absolute.py https://HOST/OWNER/REPOSITORY TAG
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def make_links_absolute(text: str, repository: str, tag: str) -> str:
    """Return Markdown with the targets of relative links below the URL of a repository.

    Args:
        text: Markdown.
        repository: URL of the repository, without a slash at its end.
        tag: Tag or branch whose files are linked. Pictures are linked as raw files, pages as the host shows them.
    """

    def replace(match: re.Match[str]) -> str:
        view = "raw" if match["picture"] else "blob"
        return f"{match['picture']}[{match['text']}]({repository}/{view}/{tag}/{match['target']})"

    return re.sub(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?![a-z]+:|#)(?P<target>[^)\s]+)\)", replace, text)


def main(words: list[str]) -> int:
    """Rewrite README.md."""
    if len(words) != 2:
        sys.stderr.write("usage: python scripts/make_links_absolute.py https://HOST/OWNER/REPOSITORY TAG\n")
        return 2
    README.write_text(make_links_absolute(README.read_text(), *words))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
