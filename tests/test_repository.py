"""The files around the code: workflows, hooks, forms, citation and versions, checked against setup.cfg."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import zcpt
from scripts import make_links_absolute, measure_language

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def read_yaml(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key 'on' of workflows as True.
    return {"on" if key is True else key: value for key, value in yaml.safe_load(path.read_text()).items()}


def read_setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def read_requirements(*texts: str) -> dict[str, Requirement]:
    """Return requirements by the lower-case names of their packages."""
    requirements = [Requirement(line) for text in texts for line in text.split("\n") if line.strip()]
    return {requirement.name.lower(): requirement for requirement in requirements}


def list_steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in read_yaml(workflow)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_parse_and_use_claimed_pythons(path: Path) -> None:
    document = read_yaml(path)
    assert {"name", "on", "permissions", "jobs"} <= document.keys()
    pythons = [step["with"]["python-version"] for step in list_steps(path) if "setup-python" in step.get("uses", "")]
    classifiers = read_setup()["metadata"]["classifiers"]
    for python in pythons:
        assert isinstance(python, str), "without quotes YAML reads 3.10 as 3.1"
        assert f"Programming Language :: Python :: {python}\n" in classifiers


def test_tests_run_on_the_oldest_and_the_newest_claimed_python() -> None:
    setup = read_setup()
    claimed = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    assert setup["options"]["python_requires"] == f">={claimed[0]}"
    steps = list_steps(ROOT / ".github" / "workflows" / "tests.yml")
    tested = {step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")}
    assert tested == {claimed[0], claimed[-1]}


def test_the_oldest_job_installs_the_lower_ends_of_the_ranges() -> None:
    job = read_yaml(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["oldest"]
    commands = " ".join(step.get("run", "") for step in job["steps"])
    requirements = read_requirements(read_setup()["options"]["install_requires"])
    for name, version in re.findall(r'"(\w+)==([\d.]*\d)', commands):
        assert str(requirements[name].specifier) == f">={version}"


def test_constraints_are_within_the_ranges() -> None:
    setup = read_setup()
    pins = read_requirements((ROOT / "constraints.txt").read_text())
    extras = setup["options.extras_require"]
    requirements = read_requirements(setup["options"]["install_requires"], *extras.values())
    assert set(requirements) == set(pins)
    for name, requirement in requirements.items():
        (pin,) = pins[name].specifier
        assert pin.operator == "=="
        assert Version(pin.version) in requirement.specifier, f"{pins[name]} is not {requirement}"


def test_hooks_parse_and_check_what_the_test_script_checks() -> None:
    hooks = {hook["id"] for repo in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]}
    assert {"ruff", "ruff-format", "mypy", "end-of-file-fixer", "check-yaml", "check-added-large-files"} <= hooks


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_what_a_form_needs(path: Path) -> None:
    form = read_yaml(path)
    assert {"name", "description", "body"} <= form.keys()
    identifiers = [field["id"] for field in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    assert all(field["attributes"]["label"] for field in form["body"])


def test_the_citation_has_this_version_and_the_paper() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == zcpt.__version__
    assert citation["license"] == read_setup()["metadata"]["license"]
    paper, readme = citation["preferred-citation"], (ROOT / "README.md").read_text()
    for fact in (paper["title"], paper["doi"], f"{paper['start']}--{paper['end']}", f"{{{paper['year']}}}"):
        assert fact in readme


def test_the_release_workflow_reads_the_version_where_it_stands() -> None:
    text = (ROOT / "zcpt" / "_version.py").read_text()
    (assignment,) = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    assert f'\n__version__ = "{ast.literal_eval(assignment.value)}"\n' in text
    assert "zcpt/_version.py" in (ROOT / ".github" / "workflows" / "release.yml").read_text()


def test_relative_links_become_absolute_for_pypi() -> None:
    text = "![a](docs/a.png) [b](docs/b.md#c) [d](https://d.org) [e](#e)"
    assert make_links_absolute.make_links_absolute(text, "https://host/o/r", "v1") == (
        "![a](https://host/o/r/raw/v1/docs/a.png) [b](https://host/o/r/blob/v1/docs/b.md#c) [d](https://d.org) [e](#e)"
    )


def test_the_measures_of_the_language_count_what_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text('"""A package."""\nfrom package import one\n')
    (package / "one.py").write_text('"""What it is."""\nfrom package.two import drawn_rows\n')
    (package / "two.py").write_text(
        "from package import one\n\n\n"
        "# Why this is here.\n"
        "def drawn_rows(rows, count: int):\n"
        '    """Rows that were drawn."""\n\n\n'
        "class Table:\n"
        "    def load(self) -> None:\n"
        '        """Load the table."""\n'
        "        self.rows, self.count = [], 0  # empty\n"
    )
    assert measure_language.main([str(package)]) == 0
    rows = dict(line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:])
    assert rows["files / lines"] == "3 / 16"
    assert rows["functions named by a past participle"] == "50.0 %"
    assert rows["function names of one word"] == "50.0 %"
    assert rows["median length of a function name"] == "7"
    assert rows["docstrings that begin with What / How / Whether / Of / Where / Which"] == "25.0 %"
    assert rows["docstrings of functions that do not begin with an imperative"] == "50.0 %"
    assert rows["`self.a, self.b = a, b` per 1,000 lines"] == "62.5"
    assert rows["comment lines per 1,000"] == "62"
    assert rows["arguments typed"] == "50.0 %"
    assert rows["longest import chain"] == "2"
    assert rows["files in the largest import circle"] == "2"
    assert measure_language.main(["--list", str(package)]) == 0
    assert f"{package / 'two.py'}:5 drawn_rows(rows)" in capsys.readouterr().out
