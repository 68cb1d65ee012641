"""Install the missing requirements of setup.cfg, in the versions of constraints.txt.

    python scripts/install_missing.py [EXTRA ...]

Installed packages are left as they are. Nothing is printed if nothing is missing.
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


def read_requirements(extras: list[str]) -> list[str]:
    """Read the requirements in setup.cfg, including those of the extras."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"]]
    texts += [config["options.extras_require"][extra] for extra in extras]
    return [line.strip() for text in texts for line in text.splitlines() if line.strip()]


def get_package_name(requirement: str) -> str:
    """Return the name of the package that a requirement names."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return match.group()


def is_installed(requirement: str) -> bool:
    """Return whether the package is installed in a version that meets the requirement."""
    try:
        version = importlib.metadata.version(get_package_name(requirement))
    except importlib.metadata.PackageNotFoundError:
        return False
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return False  # packaging is a requirement itself, so pip has to run in any case
    return Requirement(requirement).specifier.contains(version, prereleases=True)


def main(extras: list[str]) -> int:
    """Install the missing requirements, and return the exit code of pip."""
    wanted = read_requirements(extras)
    missing = [requirement for requirement in wanted if not is_installed(requirement)]
    if not missing:
        return 0
    installed = {get_package_name(r).lower() for r in wanted if r not in missing}
    # Pins of installed packages would make pip change their versions.
    pins = [line for line in (ROOT / "constraints.txt").read_text().split("\n") if line]
    names = ", ".join(get_package_name(requirement) for requirement in missing)
    duration = "some minutes, several GB" if "torch" in names.split(", ") else "a minute"
    sys.stderr.write(f"installing {names} into {sys.prefix}: {duration}\n")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pin for pin in pins if get_package_name(pin).lower() not in installed))
        file.flush()
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        return subprocess.run([*pip, "-c", file.name, *missing]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
