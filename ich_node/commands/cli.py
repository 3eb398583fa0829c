"""The command line: verbs only; wiring happens here.

Exit codes: 0 success, 1 failure, 3 not analysed (`analyse`), 78 a configuration error.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import importlib
import os
import select
import sys
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

from ich_node import __version__
from ich_node.domain.errors import ConfigError, IchNodeError, StoreError
from ich_node.domain.findings import DISCLAIMER, LABELS
from ich_node.domain.ledger import JobState
from ich_node.runtime import account, audit, config, logs, service

Run = Callable[[argparse.Namespace], int]
DEFAULT_CONFIG = Path("/etc/ich_node/ich_node.yaml")
UMASK = 0o027  # as UMask= of the units: nothing for others, and a group that reads


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code. Others cannot read what it writes, whoever runs it, as in the units."""
    os.umask(UMASK)
    words = sys.argv[1:] if argv is None else argv
    arguments = parser(words[:1]).parse_args(words)
    logs.configure(config.LogConfig(level="error"), role="command")  # a role says more, once it has its configuration
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return service.EXIT_FAILURE
    except ConfigError as error:
        for problem in error.problems:
            print(f"configuration: {problem}", file=sys.stderr)
        return service.EXIT_CONFIG
    except IchNodeError as error:
        print(f"ich-node: {error}", file=sys.stderr)
        return service.EXIT_FAILURE
    return code


def _nobody_reads() -> bool:
    """Whether who read our output has gone, as `head` and `grep -q` do; then what is left of it goes nowhere."""
    ends = select.poll()
    ends.register(sys.stdout, 0)
    gone = any(event & select.POLLERR for _, event in ends.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def parser(asked: Collection[str]) -> argparse.ArgumentParser:
    """The parser. asked: verbs of the learning side whose options are wanted."""
    made = argparse.ArgumentParser(
        prog="ich-node", description=f"Triage of intracranial hemorrhage on head CT. {DISCLAIMER}."
    )
    made.add_argument("--version", action="version", version=f"ich-node {__version__}")
    verbs = made.add_subparsers(title="verbs", required=True, metavar="VERB")

    def verb(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(run=run)
        return added

    _add_roles(verb)
    _add_looks(verb)
    _add_tools(verb)
    _add_learning(verb, asked)
    return made


def _load(path: Path) -> config.Config:
    """The configuration; root goes on as the account that the state directory belongs to."""
    settings = config.load(path)
    account.become_owner(settings.state_dir)
    return settings


def _config_option(parser: argparse.ArgumentParser, *, default: Path | None = DEFAULT_CONFIG) -> None:
    text = f"configuration file ({default or 'none: the defaults'})"
    parser.add_argument("--config", type=Path, metavar="F", default=default, help=text)


# --- roles -----------------------------------------------------------------------------------------------------------


def _add_roles(verb: Callable[[str, Run, str], argparse.ArgumentParser]) -> None:
    _config_option(verb("run", _run, "run all roles in the foreground"))
    for role, text in (
        ("receive", "run the Storage SCP and series assembly"),
        ("infer", "run the inference worker"),
        ("deliver", "run the sender of results"),
    ):
        _config_option(verb(role, _role(role), text))
    board = verb("board", _board, "run the triage board, or add a user to it")
    _config_option(board)
    board.add_argument("--add", metavar="NAME", help="print the line of a new user for the file board.users")
    board.add_argument("--role", choices=("reader", "operator"), default="reader", help="what the new user may do")


ROLE_MODULES = {
    "receive": "ich_node.receive.role",
    "infer": "ich_node.infer.worker",
    "deliver": "ich_node.deliver.role",
    "board": "ich_node.board.role",
}


def _role(name: str) -> Run:
    """A role is imported only when it runs: receiving must not load the inference runtime."""

    def run(arguments: argparse.Namespace) -> int:
        settings = _load(arguments.config)
        logs.configure(settings.log, role=name)
        log = logs.get()
        stop = service.stop_on_signals()
        log.info("role_started")
        service.begin()
        try:
            with audit.running(settings, name):
                importlib.import_module(ROLE_MODULES[name]).run(settings, stop)
        except ConfigError:
            raise
        except IchNodeError as error:
            log.error("role_failed", error=type(error).__name__, reason=str(error))
            return service.EXIT_FAILURE
        log.info("role_stopped")
        return service.EXIT_OK

    return run


def _board(arguments: argparse.Namespace) -> int:
    if arguments.add is None:
        return _role("board")(arguments)
    from ich_node.board import people

    try:
        print(people.line_for(arguments.add, arguments.role, getpass.getpass("password: ")))
    except (ValueError, EOFError) as error:
        raise ConfigError([str(error) or "no password was given"]) from error
    return service.EXIT_OK


def _run(arguments: argparse.Namespace) -> int:
    from ich_node.runtime import supervise

    settings = _load(arguments.config)
    logs.configure(settings.log, role="run")
    return supervise.run(arguments.config, service.stop_on_signals())


# --- tools -----------------------------------------------------------------------------------------------------------


def _add_tools(verb: Callable[[str, Run, str], argparse.ArgumentParser]) -> None:
    demo = verb("demo", _demo, "a whole night shift in a minute: phantoms in over the network, results out")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where the results go (demo)")

    analyse = verb("analyse", _analyse, "analyse the series in a folder without a node")
    analyse.add_argument("folder", type=Path, metavar="FOLDER", help="DICOM files, nested folders, other files too")
    analyse.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    _config_option(analyse, default=None)

    _config_option(verb("check", _check, "check configuration, spool, database, model and destinations"))

    jobs = verb("jobs", _jobs, "list, show, retry or drop jobs, make their results anew, send them again or at once")
    _config_option(jobs)
    jobs.add_argument(
        "action", nargs="?", choices=("list", "show", "retry", "drop", "redo", "resend", "hurry"), default="list"
    )
    jobs.add_argument("id", nargs="?", type=int, metavar="ID")
    jobs.add_argument("--to", metavar="NAME", help="resend, hurry: to this destination only")
    jobs.add_argument("--state", choices=[state.value for state in JobState], help="list: in this state")
    jobs.add_argument("--study", metavar="UID", help="list: of this Study Instance UID")
    jobs.add_argument("--patient", metavar="ID", help="list: of this Patient ID")
    jobs.add_argument("--accession", metavar="NUMBER", help="list: of this Accession Number")
    jobs.add_argument("--caller", metavar="AE", help="list: sent by this AE title")
    jobs.add_argument("--since", metavar="TIME", help="list: made at or after, e.g. 2026-11-26T08:00, local time")
    jobs.add_argument("--until", metavar="TIME", help="list: made before")

    for name, text in (("install", "put units, account and configuration in place"), ("uninstall", "remove the units")):
        installer = verb(name, _install, f"{text} (systemd); data and configuration are kept")
        installer.add_argument("--dry-run", action="store_true", help="only say what would be done")
        installer.add_argument("--no-start", action="store_true", help="do not start the node")
        installer.set_defaults(remove=name == "uninstall")

    echo = verb("echo", _echo, "ask a destination for a C-ECHO")
    echo.add_argument("destination", metavar="DESTINATION", help="a name out of deliver.destinations")
    _config_option(echo)

    phantom = verb("phantom", _phantom, "write a phantom head CT series")
    phantom.add_argument("directory", type=Path, metavar="DIR")
    phantom.add_argument("--type", choices=(*LABELS[1:], "none"), default="intraparenchymal", help="kind of hemorrhage")
    phantom.add_argument("--slices", type=int, default=32, metavar="N", help="number of slices (32)")
    phantom.add_argument("--seed", type=int, default=0, metavar="N", help="another head for another number (0)")

    model = verb("model", _model, "verify or describe a model bundle, or put it into a Triton model repository")
    model.add_argument("action", choices=("verify", "info", "repository"))
    model.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="repository: the folder to add it to")
    model.add_argument("--bundle", type=Path, metavar="DIR", help="folder with ich.onnx and ich.yaml (the shipped one)")

    retention = verb("retention", _retention, "delete what is finished and old, by age and by space")
    _config_option(retention)
    retention.add_argument("--dry-run", action="store_true", help="only say what would go")


def _add_looks(verb: Callable[[str, Run, str], argparse.ArgumentParser]) -> None:
    """What only looks: at the node, at a study, at a month, at the machine."""
    status = verb("status", _status, "how the node is: parts, queue, destinations, newest results")
    _config_option(status)
    status.add_argument("--json", action="store_true", help="for programs")
    status.add_argument("--watch", action="store_true", help="again and again")

    why = verb("why", _why, "the story of a study: received, judged, analysed, sent, and why not")
    why.add_argument(
        "wanted", metavar="UID|ACCESSION|ID", help="Study or Series UID, accession number, Patient ID or job"
    )
    _config_option(why)

    replay = verb(
        "replay", _replay, "analyse again what is still here, publish nothing, say what would be answered today"
    )
    replay.add_argument("wanted", nargs="?", metavar="UID|ACCESSION|ID", help="none: the newest answered studies")
    replay.add_argument("--last", type=int, default=20, metavar="N", help="how many of the newest (20)")
    _config_option(replay)

    report = verb("report", _report, "one month on one printable page (HTML, to standard output)")
    report.add_argument("month", metavar="MONTH", help="e.g. 2026-11, local time")
    _config_option(report)

    _config_option(verb("doctor", _doctor, "look at the machine under the node, with a remedy for each finding"))


def _demo(arguments: argparse.Namespace) -> int:
    from ich_node.commands import demo

    return demo.run(arguments.out)


def _analyse(arguments: argparse.Namespace) -> int:
    from ich_node.commands import analyse

    settings = config.Config() if arguments.config is None else _load(arguments.config)
    return analyse.run(arguments.folder, arguments.out, settings)


def _check(arguments: argparse.Namespace) -> int:
    from ich_node.commands import check

    passed = True
    for line in check.checks(_load(arguments.config)):
        passed &= line.passed
        print(f"{'ok  ' if line.passed else 'FAIL'}  {line.subject}: {line.detail}", flush=True)
    return service.EXIT_OK if passed else service.EXIT_FAILURE


def _jobs(arguments: argparse.Namespace) -> int:
    from ich_node.commands import job_table

    try:
        since, until = (job_table.moment(text) if text else None for text in (arguments.since, arguments.until))
    except ValueError as error:
        raise ConfigError([f"--since, --until: {error}"]) from error
    wanted = job_table.Wanted(
        arguments.state, arguments.study, arguments.patient, arguments.accession, arguments.caller, since, until
    )
    return job_table.run(_load(arguments.config), arguments.action, arguments.id, arguments.to, wanted)


def _status(arguments: argparse.Namespace) -> int:
    from ich_node.commands import status

    return status.status(_load(arguments.config), as_json=arguments.json, watch=arguments.watch)


def _why(arguments: argparse.Namespace) -> int:
    from ich_node.commands import status

    return status.why(_load(arguments.config), arguments.wanted.strip())


def _replay(arguments: argparse.Namespace) -> int:
    from ich_node.commands import replay

    wanted = None if arguments.wanted is None else arguments.wanted.strip()
    return replay.run(_load(arguments.config), wanted, arguments.last)


def _report(arguments: argparse.Namespace) -> int:
    from ich_node.commands import report

    return report.run(_load(arguments.config), arguments.month)


def _doctor(arguments: argparse.Namespace) -> int:
    from ich_node.commands import doctor

    well = True
    for item in doctor.findings(_load(arguments.config)):
        well &= item.well
        print(f"{'ok  ' if item.well else 'LOOK'}  {item.subject}: {item.detail}", flush=True)
        if not item.well and item.remedy:
            print(f"      -> {item.remedy}")
    return service.EXIT_OK if well else service.EXIT_FAILURE


def _install(arguments: argparse.Namespace) -> int:
    from ich_node.commands import install

    os.umask(0o022)  # units, manual and completions are for everybody
    installer = install.Installer(dry_run=arguments.dry_run)
    return install.run(installer, remove=arguments.remove, start=not arguments.no_start)


def _echo(arguments: argparse.Namespace) -> int:
    from ich_node.deliver.dicom import scu

    settings = _load(arguments.config)
    for destination in settings.deliver.destinations:
        if destination.name == arguments.destination:
            answer = scu.echo(settings.ae_title, destination, settings.deliver)
            print(f"{destination.name}: {answer.cause} ({answer.seconds * 1000:.0f} ms)")
            return service.EXIT_OK if answer.ok else service.EXIT_FAILURE
    names = ", ".join(d.name for d in settings.deliver.destinations) or "none"
    raise ConfigError([f"there is no destination {arguments.destination!r}; configured: {names}"])


def _phantom(arguments: argparse.Namespace) -> int:
    from ich_node.phantom import head, series

    kind = None if arguments.type == "none" else arguments.type
    made = head.phantom(kind, slices=arguments.slices, seed=arguments.seed)
    options = f"{arguments.type} {arguments.slices} {arguments.seed}"  # other pixels must have other UIDs
    paths = series.write_series(arguments.directory, made, seed=zlib.crc32(options.encode()))
    print(f"{len(paths)} slices in {arguments.directory}")
    return service.EXIT_OK


def _model(arguments: argparse.Namespace) -> int:
    from ich_node.infer.bundle import info, load
    from ich_node.infer.engine.self_test import verify

    folder = arguments.bundle or config.default_bundle()
    if arguments.action == "repository":
        if arguments.folder is None:
            raise ConfigError(["model repository needs a folder"])
        from ich_node.infer.engine import triton

        for path in triton.write_repository(load(folder), arguments.folder):
            print(path)
        return service.EXIT_OK
    for line in verify(folder) if arguments.action == "verify" else info(folder):
        print(line)
    return service.EXIT_OK


def _retention(arguments: argparse.Namespace) -> int:
    from ich_node.board import trend
    from ich_node.store import retention

    settings = _load(arguments.config)
    logs.configure(settings.log, role="retention")
    if not arguments.dry_run:
        with contextlib.suppress(StoreError):  # a full disk: the more reason to make room
            trend.keep(settings)
    for line in retention.run(settings, dry_run=arguments.dry_run):
        print(line)
    return service.EXIT_OK


# --- learning --------------------------------------------------------------------------------------------------------

LEARNING = {
    "train": ("ich_node.training.learn.command", "train a model and export its bundle"),
    "evaluate": ("ich_node.training.evaluate.command", "measure a bundle on labelled studies"),
    "simulate": ("ich_node.training.worklist.simulate", "simulate a reading worklist with and without triage"),
}


def _add_learning(verb: Callable[[str, Run, str], argparse.ArgumentParser], asked: Collection[str]) -> None:
    """A verb of the learning side brings its own options; it is imported only when it is called."""
    for name, (module, text) in LEARNING.items():
        if name in asked:
            commands = importlib.import_module(module)
            commands.add_arguments(verb(name, commands.run, text))
        else:
            verb(name, lambda _arguments: service.EXIT_FAILURE, text)
