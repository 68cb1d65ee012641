"""Install what setup.cfg asks for and this Python lacks, in the versions of constraints.txt.

    python scripts/install_missing.py [EXTRA ...]

What is there already is left as it is; when nothing is missing, nothing is printed.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def requirements(extras: list[str]) -> list[str]:
    """The requirements in setup.cfg, those of the extras included."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"]]
    texts += [config["options.extras_require"][extra] for extra in extras]
    return [line.strip() for text in texts for line in text.splitlines() if line.strip()]


def name_of(requirement: str) -> str:
    """The package that a requirement is about."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return match.group()


def is_installed(requirement: str) -> bool:
    """Whether this Python has the package in a version that will do."""
    try:
        version = importlib.metadata.version(name_of(requirement))
    except importlib.metadata.PackageNotFoundError:
        return False
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return False  # it is itself required, so something has to be installed anyway
    return Requirement(requirement).specifier.contains(version, prereleases=True)


def main(extras: list[str]) -> int:
    """Install; the exit code is pip's."""
    wanted = requirements(extras)
    missing = [requirement for requirement in wanted if not is_installed(requirement)]
    if not missing:
        return 0
    have = {name_of(requirement).lower() for requirement in wanted} - {name_of(r).lower() for r in missing}
    pins = [line for line in (ROOT / "constraints.txt").read_text().split("\n") if line]
    names = ", ".join(name_of(requirement) for requirement in missing)
    much = "some minutes, several GB" if "torch" in names.split(", ") else "a minute"
    sys.stderr.write(f"installing {names} into {sys.prefix}: {much}\n")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pin for pin in pins if name_of(pin).lower() not in have))
        file.flush()
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        return subprocess.run([*pip, "-c", file.name, *missing]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
