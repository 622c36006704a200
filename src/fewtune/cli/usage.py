"""Messages for commands that were typed wrong.

Owns the sentence for each thing that Cyclopts refuses, in the form of all other messages: what was given, what is
allowed, what to do.
"""

from __future__ import annotations

from typing import Any, get_args

from cyclopts import (
    Argument,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from fewtune.errors import list_names, name_choices, shorten

KINDS = {int: "a whole number", float: "a number"}
"""What an option takes, by its type; every other takes any text."""


def format_usage(error: CycloptsError) -> str:
    """Say what is wrong with the arguments, what is allowed, and what to do."""
    command = " ".join(error.command_chain or ())
    match error:
        case UnknownCommandError(unused_tokens=[given, *_], app=app) if app is not None:
            options = [*app.help_flags, *app.version_flags]
            if given.startswith("-"):
                return name_choices(given, options, "option")
            return name_choices(given, (name for name in app if name not in options), "command")
        case UnknownOptionError(token=token, argument_collection=known):
            names = [name for argument in known for name in argument.names if name.startswith("-")]
            return name_choices(token.keyword or token.value, [*names, "--help"], "option")
        case UnusedCliTokensError(unused_tokens=list() as given):
            more = list_names(map(repr, given))
            return (
                f"{command} has no use for {more}. Put a value of several words in quotes; {_point_to_help(command)}."
            )
        case RepeatArgumentError(token=token):
            return f"{token.keyword} is given twice; give it once."
        case CoercionError(token=token, argument=Argument() as argument) if token is not None:
            name = token.keyword or _name(argument)
            return f"{name} is {shorten(repr(token.value))}; give {_format_kind(argument)}."
        case MissingArgumentError(argument=Argument() as argument):
            keyword = error.keyword or next((token.keyword for token in argument.tokens if token.keyword), None)
            if keyword is not None:
                return f"{keyword} is given without a value; {_point_to_help(command)}."
            return (
                f"{command} needs {_name(argument)}: {_format_need(argument)} {_point_to_help(command).capitalize()}."
            )
    return " ".join(str(error).split())


def _point_to_help(command: str) -> str:
    return f"`{' '.join(filter(None, ('fewtune', command, '--help')))}` says what it takes"


def _name(argument: Argument) -> str:
    """An option as it is typed; what is given by its place as help names it."""
    return argument.name if argument.name.startswith("-") else argument.name.upper()


def _format_need(argument: Argument) -> str:
    choices = argument.get_choices()
    if choices:
        return f"give {_format_kind(argument)}."
    told = argument.parameter.help or ""
    first = told.partition(" ")[0]
    return told if first.isupper() and len(first) > 1 else told[:1].lower() + told[1:]  # CSV stays as it is


def _format_kind(argument: Argument) -> str:
    """What an argument takes: 'methods, tasks or models', 'a whole number or auto'."""
    hints: list[Any] = [argument.hint, *get_args(argument.hint)]
    kinds = [*(KINDS[hint] for hint in hints if hint in KINDS), *(argument.get_choices() or ())]
    return " or ".join(filter(None, [", ".join(kinds[:-1]), *kinds[-1:]])) or "another value"
