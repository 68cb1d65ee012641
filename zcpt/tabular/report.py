"""Pages of results in Markdown, with pictures and with published figures beside them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from zcpt.errors import ConfigError
from zcpt.files import read_json, write_atomically
from zcpt.tabular import published
from zcpt.tabular._folder import PAGE, RESULT
from zcpt.tabular._sections import Result, Section, render_operations, render_proxies, render_search, render_searches
from zcpt.tabular._trials_section import render_trials
from zcpt.tabular.pictures import save_picture

_PREFACE = """# Results

Measured by `zcpt benchmark`, each with the settings named below its table, and written by `zcpt benchmark report`.
"""
_KEYS = ("protocol.benchmark", "protocol.space", "protocol.table", "results")
_RENDERERS = {
    "proxies": render_proxies,
    "operations": render_operations,
    "search": render_search,
    "trials": render_trials,
}


def write_report(folder: Path) -> Path:
    """Write the page and the pictures of one result into its folder."""
    return write_page([folder], folder / PAGE)


def write_page(folders: Sequence[Path], out: Path) -> Path:
    """Write one page for several results, with the pictures into their folders.

    Raises:
        ConfigError: A folder holds no result.
    """
    text, pictures = render_page(folders, out)
    for path, draw in pictures.items():
        save_picture(draw(), path)
    write_atomically(out, text)
    return out


def render_page(
    folders: Sequence[Path], out: Path, preface: str = _PREFACE
) -> tuple[str, dict[Path, Callable[[], Figure]]]:
    """Return the text of a page, and the functions that draw its pictures by their paths.

    A scatter plot needs ``scores.csv``. Without that file the page shows an earlier picture, if there is one.

    Args:
        folders: Folders of the results.
        out: Path of the page, to which links are relative.
        preface: Heading of a page of several results.

    Raises:
        ConfigError: A folder holds no result.
    """
    texts, pictures = [], {}
    titles = []
    for section, folder in _render_sections(folders):
        text = f"# {section.title}\n\n{section.text}"
        for name, draw in section.pictures.items():
            path = folder / f"{name}.png"
            if draw is not None:
                pictures[path] = draw
            elif not path.exists():
                continue
            text += f"\n![{name}]({Path(os.path.relpath(path, out.parent)).as_posix()})\n"
        texts.append(text)
        titles.append(section.title)
    sources = _list_sources("".join(texts))
    if len(folders) > 1:
        return "\n".join([preface + _list_contents(titles) + sources, *(f"#{text}" for text in texts)]), pictures
    return texts[0] + sources, pictures


def _render_sections(folders: Sequence[Path]) -> Iterator[tuple[Section, Path]]:
    """Yield the sections with the folders of their pictures.

    Searches with the same ground truth share a section, since their accuracies can be compared.
    """
    groups: dict[object, list[tuple[Result, Path]]] = {}
    for folder in folders:
        result: Result = read_json(folder / RESULT, _KEYS)
        protocol = result["protocol"]
        kind, table = protocol["benchmark"], protocol["table"]
        if kind not in _RENDERERS:
            raise ConfigError(f"{folder / RESULT} is damaged: there is no benchmark '{kind}'.")
        ground_truth = (protocol["space"], table["data_set"], table["metric"], table["content"])
        groups.setdefault(ground_truth if kind == "search" else folder, []).append((result, folder))
    for group in groups.values():
        result, folder = group[0]
        if len(group) > 1:
            yield render_searches([searches for searches, _ in group]), folder
        else:
            yield _RENDERERS[result["protocol"]["benchmark"]](result, folder), folder


def _list_contents(titles: Sequence[str]) -> str:
    """Return links to the sections, with the anchors that GitHub gives to their headings."""
    lines, seen = [], Counter[str]()
    for title in titles:
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        # GitHub numbers repeated headings: 'a', 'a-1', 'a-2'.
        lines.append(f"- [{title}](#{anchor}{f'-{seen[anchor]}' if seen[anchor] else ''})\n")
        seen[anchor] += 1
    return "\n" + "".join(lines)


def _list_sources(text: str) -> str:
    """Return a list of the sources that a page cites for published figures, with their full names."""
    names = [name for name in published.SOURCES if re.search(rf"\({name}[,)]|\| {name} \|", text)]
    lines = "".join(f"- {name}: {published.SOURCES[name]}.\n" for name in names)
    return f"\nSources of published figures, whose protocols differ:\n\n{lines}" if names else ""
