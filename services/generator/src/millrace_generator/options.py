"""The options every `millrace generate` command has."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from millrace_generator.faults import Faults
from millrace_generator.schedule import Rate

_UNITS: Final = {"s": 1.0, "m": 60.0}
_SHARE: Final = "Share of the good records"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficOptions:
    """How fast, how long, which faults to add; fields are options of the same names."""

    rate: Annotated[str | None, typer.Option(metavar="N|max", help="Records a second; of a spike, its peak.")] = None
    seconds: Annotated[float | None, typer.Option(min=0.001, help="How long; of a spike, its peak.")] = None
    seed: Annotated[int, typer.Option(help="Another seed, other visitors and other faults.")] = 1
    truth: Annotated[Path | None, typer.Option(help="Write the truth about what was sent to this file.")] = None
    duplicates: Annotated[float, typer.Option(min=0, max=1, help=f"{_SHARE} to send twice.")] = 0.0
    malformed: Annotated[float, typer.Option(min=0, max=1, help=f"{_SHARE} to add as undecodable ones.")] = 0.0
    invalid: Annotated[float, typer.Option(min=0, max=1, help=f"{_SHARE} to add as ones that break a rule.")] = 0.0
    late: Annotated[float, typer.Option(min=0, max=1, help="Share of the events to hold back past their session.")] = (
        0.0
    )
    out_of_order: Annotated[
        str, typer.Option(metavar="SECONDS", help="Hold a tenth of the events back by up to this: 120s, 2m.")
    ] = "0s"

    @property
    def faults(self) -> Faults:
        """What to add.

        Raises:
            InputError: more than can be done.
        """
        return Faults(self.duplicates, self.malformed, self.invalid, self.late, duration(self.out_of_order), self.seed)

    @property
    def pace(self) -> Rate | None:
        """The rate asked for; None if none was."""
        return None if self.rate is None else rate(self.rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(TrafficOptions):
    """Where to send, too."""

    work_dir: Annotated[Path, typer.Option(help="Folder of the running local stack.")] = Path(".millrace")
    bootstrap_servers: Annotated[str | None, typer.Option(help="Another cluster's brokers.")] = None
    registry_url: Annotated[str | None, typer.Option(help="Another cluster's schema registry.")] = None
    lane: Annotated[str | None, typer.Option(help="Suffix of the topics; empty: the live lane.")] = None


def duration(text: str) -> timedelta:
    """Read `120s`, `2m` or `120`.

    Raises:
        BadParameter: it is none of these.
    """
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1.0)
    try:
        return timedelta(seconds=float(number) * unit)
    except (ValueError, OverflowError) as error:
        message = f"{text!r} is no duration: write 120s or 2m"
        raise typer.BadParameter(message) from error


def rate(text: str) -> Rate:
    """Read a positive number, or `max`.

    Raises:
        BadParameter: it is neither.
    """
    if text == "max":
        return "max"
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        message = f"{text!r} is no rate: write a number of records a second, or max"
        raise typer.BadParameter(message)
    return number


def with_options(body: Callable[..., None], options: type[TrafficOptions] = Options) -> Callable[..., None]:
    """Return a command that takes what `body` takes and all `options`, and gives them to it as its first argument."""
    hints = get_type_hints(options, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(options)
    ]
    _, *own = inspect.signature(body).parameters.values()

    def command(**given: Any) -> None:
        body(options(**{field.name: given.pop(field.name) for field in fields(options)}), **given)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + shared
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__name__, command.__doc__ = body.__name__, body.__doc__
    return command
