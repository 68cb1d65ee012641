"""``python -m zcpt.timm``: run a script of timm with the models registered, or save a trained network for timm."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from zcpt.errors import ConfigError, ZcptError
from zcpt.printing import print_lines
from zcpt.timm import save_model

_USAGE = """usage: python -m zcpt.timm SCRIPT.py [ARGUMENTS]    run a script, for example timm's validate.py
       python -m zcpt.timm save RUN FOLDER          save a trained network for timm and the Hugging Face hub"""


def main(arguments: list[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: The arguments are no command.
    """
    if arguments[:1] == ["save"] and len(arguments) == 3:
        print_lines(str(save_model(*arguments[1:])))
    elif arguments and arguments[0].endswith(".py"):
        if not Path(arguments[0]).is_file():
            raise ConfigError(f"{arguments[0]} is missing: give the path of the script.")
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))  # as Python does for a script
        runpy.run_path(arguments[0], run_name="__main__")
    elif arguments in (["-h"], ["--help"]):
        print_lines(*_USAGE.splitlines())
    else:
        raise ConfigError(f"these arguments are no command.\n{_USAGE}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ZcptError as error:
        sys.exit(f"error: {error}")
