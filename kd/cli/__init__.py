"""Implement the command `kd`. Import only modules that parse the command line; large modules are imported on use.

Commands about a run take Hydra overrides (`key=value`); commands about files take ordinary options.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, ModuleType

from kd import __version__
from kd.base.errors import EXIT_TRANSIENT, EXIT_USER, StopRequested, TransientError, UserError, exit_of
from kd.base.faults import LASTING, disk_fault
from kd.base.log import print_messages
from kd.cli import bundle, completion, container, evaluate, plan, recipes, scaling, select, serve, settings, translate

EXIT_INTERRUPTED = 130
EXIT_PIPE = 128 + signal.SIGPIPE  # the reader of the output has ended, as in `kd status … | head -1`
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    print_messages()
    given = list(sys.argv[1:] if arguments is None else arguments)
    _escape_unencodable()
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        completion.complete(parser)
    if not given:
        parser.print_help()
        return 0
    end = given.index("--") if given[:1] == ["container"] and "--" in given else len(given)
    options, rest = parser.parse_known_args(given[:end])
    options.behind = given[end + 1 :]  # another program's arguments: `kd container exec cpu -- ls -l`
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        if rest:
            # Hydra overrides may come after options and start with ~ or +; argparse takes the rest for options.
            if not hasattr(options, "overrides") or any(argument.startswith("-") for argument in rest):
                raise UserError(f"There is no option {rest[0]}.", f"See `kd {options.name} --help`.")
            options.overrides += rest
        status = command(options)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"kd: {error}", file=sys.stderr)
        return EXIT_USER
    except TransientError as error:
        print(f"kd: {error}", file=sys.stderr)
        return EXIT_TRANSIENT
    except KeyboardInterrupt:
        print("kd: Stopped; finished work is kept. The same command resumes.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return EXIT_PIPE
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich ends the process with status 1
            return EXIT_PIPE
        raise
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("kd", "conf"):
            raise
        print(f"kd: {_missing_package(error.name, options.name)}", file=sys.stderr)
        return EXIT_USER
    except OSError as error:
        fault = _output_fault(error) or disk_fault(error, Path.cwd())
        if fault is None:
            raise
        print(f"kd: {fault}", file=sys.stderr)
        return exit_of(fault)


def _escape_unencodable() -> None:
    """Write characters that the terminal's encoding lacks as escapes; Python would end with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _missing_package(module: str, command: str) -> UserError:
    """Return the error for a package that the installation without extras does not have."""
    extra = "comet" if module.partition(".")[0] == "comet" else "train"
    return UserError(
        f"`kd {command}` needs the package {module}, which is not installed.",
        f"In a checkout: `make install`, which installs everything. With pip: `pip install 'kd[{extra}]'`.",
    )


def _output_fault(error: OSError) -> UserError | None:
    """Return the error to report if the output could not be written, as on a full disk; None for any other error."""
    if error.filename is not None or error.errno not in LASTING:
        return None
    _discard_output()
    reason = os.strerror(error.errno)
    return UserError(f"The output cannot be written: {reason}.", "Free some space, or write to another disk.")


def _discard_output() -> None:
    """Discard standard output, so that the interpreter prints no error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kd",
        description="Small, fast machine translation models from parallel text, by knowledge distillation.",
        epilog="Try: kd run recipe=demo",
    )
    parser.add_argument("--version", action="version", version=f"kd {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = _about_a_run(
        commands, "run", _run, "run the missing tasks of a recipe", "kd run recipe=demo select.metric=chrf"
    )
    run.add_argument("-m", "--multirun", action="store_true", help="sweep over comma-separated values")
    run.add_argument("--cfg", choices=["job"], help="print the composed config and do nothing")
    status = _about_a_run(
        commands, "status", _status, "show the state of every stage and task", "kd status recipe=demo"
    )
    status.add_argument("--all", action="store_true", help="one line per task, for large stages as well")
    _about_a_run(commands, "cancel", _cancel, "cancel a run's jobs in Slurm's queue", "kd cancel recipe=demo")
    clean = _about_a_run(commands, "clean", _clean, "list artifacts that no run refers to", "kd clean recipe=demo")
    clean.add_argument("--remove", action="store_true", help="remove these artifacts as well")
    _about_a_run(
        commands, "verify", _verify, "compare artifacts with their manifests", "kd verify recipe=demo (or kd verify)"
    )
    _about_a_run(commands, "report", _report, "print a run's results and the path of its page", "kd report recipe=demo")
    _about_a_run(
        commands,
        "doctor",
        _doctor,
        "check whether a machine is ready for runs; with bench=true, measure its GPUs in ten minutes",
        "kd doctor machine=lumi launcher=slurm machine.account=project_465000000",
    )

    _about_a_run(
        commands,
        "release",
        _release,
        "list the released models of a run, or upload one: push=ORG/NAME folder=NAME",
        "kd release recipe=demo push=me/demo-en-de folder=student-int8",
    )
    _about_files(commands, "plan", plan, "forecast time, memory, disk and energy of a run; start nothing")
    _about_files(commands, "scaling", scaling, "measure the speed of a training on several devices or nodes")

    _about_files(commands, "bundle", bundle, "pack a run for a computer without a network, or verify such a bundle")

    _about_files(commands, "recipes", recipes, "list the recipes")
    _about_files(commands, "settings", settings, "search the settings of recipes: type, unit, default, meaning")
    _about_files(
        commands,
        "completion",
        completion,
        "print the shell code that completes commands, recipes and keys in bash or zsh",
    )

    _about_files(commands, "evaluate", evaluate, "score translations of any files against references")
    _about_files(commands, "select", select, "choose from each n-best list the hypothesis closest to a reference")
    _about_files(commands, "translate", translate, "translate standard input, line by line")
    _about_files(commands, "serve", serve, "serve models over HTTP: LibreTranslate's API, and a page")

    _about_files(
        commands, "container", container, "manage images with kd and its dependencies: list, build, check, exec, pin"
    )

    task = _command(commands, "task", _task, "run one task from a frozen config (used by launchers)",
                    "kd task --config 1f2e --run runs/demo select.en-de worker-0")  # fmt: skip
    task.add_argument("--config", required=True, metavar="HASH", help="the frozen config, by its hash")
    task.add_argument(
        "--run",
        type=Path,
        metavar="FOLDER",
        help="the run's folder (default: the folder in runs/ that has this config)",
    )
    task.add_argument("stage")
    task.add_argument("task")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace], int],
    help_: str,
    example: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help_,
        description=f"{help_[0].upper()}{help_[1:]}.",
        epilog=f"Example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=function, name=name)
    return parser


def _about_a_run(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace], int],
    help_: str,
    example: str,
) -> argparse.ArgumentParser:
    parser = _command(commands, name, function, help_, example)
    overrides = parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="recipe=NAME or a path; stages=[a,b]: these stages only; upto=STAGE (or until=STAGE): STAGE and "
        "everything it depends on; any setting (`kd settings` lists them)",
    )
    overrides.completer = completion.overrides  # type: ignore[attr-defined]
    return parser


def _about_files(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, module: ModuleType, help_: str
) -> None:
    """Add a command that is described and implemented by a separate module."""
    module.add_arguments(_command(commands, name, module.run, help_, module.EXAMPLE))


def _run(options: argparse.Namespace) -> int:
    from kd.recipe import compose
    from kd.run import commands

    request = compose.parse_request(options.overrides)
    if options.cfg:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(compose.compose(request)), end="")
        return 0
    if options.multirun:
        return commands.run_all(compose.sweep(request))
    from kd.planning.gather import size_warnings

    return commands.run(request, size_warnings)


def _status(options: argparse.Namespace) -> int:
    from kd.recipe import compose
    from kd.run import status

    return status.status(compose.parse_request(options.overrides), every=options.all)


def _cancel(options: argparse.Namespace) -> int:
    from kd.recipe import compose
    from kd.run import commands

    return commands.cancel(compose.parse_request(options.overrides))


def _clean(options: argparse.Namespace) -> int:
    from kd.recipe import compose
    from kd.run.clean import clean

    return clean(compose.parse_request(options.overrides), remove=options.remove)


def _report(options: argparse.Namespace) -> int:
    from kd.recipe import compose
    from kd.run import commands

    return commands.report(compose.parse_request(options.overrides))


def _release(options: argparse.Namespace) -> int:
    from kd.recipe import compose
    from kd.run.release import release

    given = dict(each.partition("=")[::2] for each in options.overrides)
    rest = [each for each in options.overrides if each.partition("=")[0] not in ("push", "folder")]
    return release(compose.parse_request(rest), given.get("push"), given.get("folder"))


def _doctor(options: argparse.Namespace) -> int:
    from kd.doctor import command
    from kd.doctor.bench import command as bench
    from kd.recipe import compose

    wanted, overrides = bench.parse_options(options.overrides)
    named = any(override.startswith("recipe=") for override in overrides)
    # It needs the folders, launcher and machine, which are the same in any recipe that does not set them.
    request = compose.parse_request([*([] if named else ["recipe=demo"]), *overrides])
    return command.run(request) if wanted is None else bench.run(wanted, request)


def _verify(options: argparse.Namespace) -> int:
    from kd.recipe import compose
    from kd.run.verify import verify

    if any(override.startswith("recipe=") for override in options.overrides):
        return verify(compose.parse_request(options.overrides))
    return verify(None, options.overrides)


def _task(options: argparse.Namespace) -> int:
    from kd.run import task

    # A launcher ends a task by SIGTERM, or by SIGUSR1 before its time limit: the task ends with the status for a retry.
    for number in STOP_SIGNALS:
        signal.signal(number, _end_as_transient)
    return task.task(options.config, options.run, options.stage, options.task)


def _end_as_transient(number: int, _frame: FrameType | None) -> None:
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # another signal would interrupt the saving that this one started
    raise StopRequested(number)
