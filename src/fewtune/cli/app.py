"""The command `fewtune`: its subcommands and its exit codes.

Owns exit codes: 0, 1 where trials failed, a risk could not be held or with --strict the audit found an error, 2 for a
mistake the message says how to mend, 130 after Ctrl-C, 141 where whoever reads what is printed is gone, 143 and 129
after SIGTERM and SIGHUP; `serve` ends with 0 after any signal.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App, CycloptsError, Parameter

from fewtune import __version__
from fewtune.cli.audit import audit
from fewtune.cli.evaluate import evaluate
from fewtune.cli.export import export
from fewtune.cli.fit import fit
from fewtune.cli.listing import list_, schema
from fewtune.cli.merge import merge
from fewtune.cli.output import complain, console, errors
from fewtune.cli.pack import pack
from fewtune.cli.predict import predict
from fewtune.cli.recommend import recommend
from fewtune.cli.report import report
from fewtune.cli.run import check, run
from fewtune.cli.serve import serve
from fewtune.cli.track import track
from fewtune.cli.usage import format_usage
from fewtune.cli.watch import watch
from fewtune.errors import FewtuneError, format_install
from fewtune.system.failure_kinds import FULL, find_failure_kind
from fewtune.system.signals import CLOSED_PIPE, exit_code, format_interrupt, raise_on_signals
from fewtune.system.terminal import replace_unshowable

EXTRAS = {
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "prometheus_client"), "serve"),
    **{name: name for name in ("mlflow", "ray", "trackio")},
}
"""The extra that brings a package, where it is not `run`."""

app = App(
    name="fewtune",
    version=__version__,
    help="Run every way of adapting a language model on the same few labelled rows, and say which to use.",
    suppress_keyboard_interrupt=False,  # `main` has a word for it
    console=console,
    error_console=errors,
    group_parameters="Options",
    default_parameter=Parameter(negative=()),  # no `--empty-text` or `--no-strict` that nobody asks for
)
USAGE = {
    fit: "fewtune fit [TRAIN] --save PATH [OPTIONS]",
    audit: "fewtune audit [OUT] [OPTIONS]",
    merge: "fewtune merge PARTS... --out PATH [OPTIONS]",
    list_: "fewtune list WHAT [NAME]",
}
"""What help shows of commands where Cyclopts says [ARGS], or one of what may be several."""

for command in (
    fit,
    predict,
    evaluate,
    export,
    serve,
    run,
    check,
    report,
    audit,
    recommend,
    watch,
    pack,
    merge,
    track,
    schema,
    list_,
):
    app.command(command, usage=f"Usage: {USAGE[command]}" if command in USAGE else None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (the process's own arguments where None); a user's mistake exits with 2."""
    replace_unshowable()
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        with raise_on_signals():
            code = app(given, result_action="return_value", exit_on_error=False, print_error=False)
    except CycloptsError as error:
        complain(f"fewtune: {format_usage(error)}")
        code = 2
    except FewtuneError as error:
        complain(f"fewtune: {error}")
        code = 2
    except KeyboardInterrupt as stopped:
        code = exit_code(stopped)
        if code != 128 + CLOSED_PIPE:  # as of `| head`, which needs no word
            complain(f"{format_interrupt(stopped)}.")
    except Exception as error:
        said = _word(error)
        if said is None:
            raise
        complain(f"fewtune: {said}")
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _word(error: Exception) -> str | None:
    """What went wrong around the command, in words; None where it is a fault of fewtune's."""
    if find_failure_kind(error) == "out_of_memory":
        return "memory did not suffice for this command itself. What was finished is kept."
    if isinstance(error, ModuleNotFoundError) and error.name is not None and not error.name.startswith("fewtune"):
        extra = EXTRAS.get(error.name, "run")
        return (
            f"{error.name} is not installed, and this command needs it: {format_install(extra)}. `report`, `audit`, "
            "`recommend` and `watch` do without it."
        )
    if isinstance(error, ImportError) and ".so" in str(error):
        return f"a library cannot be loaded ({error}): memory may not suffice for it, or it is not installed well."
    if isinstance(error, OSError):
        if error.errno in FULL and error.filename:
            from fewtune.records.files import name_path

            return str(name_path(error, Path(error.filename)))
        # Without a name: of temporary files, and of what processes share.
        nameless = f"a file in {tempfile.gettempdir()} or /dev/shm" if error.errno in FULL else "a file"
        return f"{error.filename or nameless}: {error.strerror or error}."
    return None
