"""The command line: a file holds one command, or a few that belong together; `app` what they form.

Commands read what was typed, call one function and print what comes of it. Heavy imports wait until one needs them.
"""

from fewtune.cli.app import main

__all__ = ["main"]
