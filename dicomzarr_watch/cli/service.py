"""The commands of the daemon: run it, ask it, look whether it can run."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicomzarr_watch import config, console, private
from dicomzarr_watch.cli.command import (
    Config,
    Inbox,
    Json,
    Output,
    State,
    Verify,
    Workers,
    app,
    settings,
)
from dicomzarr_watch.errors import StopError
from dicomzarr_watch.ledger.inquiry import about, job_facts
from dicomzarr_watch.ledger.jobs import State as JobState
from dicomzarr_watch.ledger.notice import paused
from dicomzarr_watch.ledger.requests import wish_retries
from dicomzarr_watch.ledger.store import Ledger, is_owned

if TYPE_CHECKING:
    from dicomzarr_watch.operate import logs


@app.command()
def run(
    *,
    config_file: Config = None,
    inbox: Inbox = None,
    output: Output = None,
    state: State = None,
    verify: Verify = None,
    workers: Workers = None,
    once: Annotated[
        bool, typer.Option("--once", help="Work off what is there, taking it as all there is.")
    ] = False,
) -> None:
    """Watch the inbox and archive every series that is complete."""
    flags = {"inbox": inbox, "output": output, "state": state, "verify": verify}
    found = settings(config_file, flags | {"workers": workers})
    # structlog, watchdog and the engine are for this command alone
    from dicomzarr_watch import daemon
    from dicomzarr_watch.operate import logs
    from dicomzarr_watch.operate.process import confine
    from dicomzarr_watch.operate.systemd import Notifier

    notifier = Notifier(os.environ)
    confine(int(found.umask, 8), os.environ)
    log = _opened_log(found)
    try:
        code = daemon.run(found, log, notifier, is_once=once)
    except (OSError, sqlite3.Error) as error:
        log.error(
            logs.Event.DAEMON_FAILED,
            code="state-or-inbox-failed",
            told=f"{type(error).__name__}; check the state folder, the inbox and their disks",
            **log.private(str(error)),
        )
        raise typer.Exit(1) from None
    except StopError as error:
        log.error(logs.Event.DAEMON_FAILED, code=error.code, told=str(error))
        raise typer.Exit(1) from None
    raise typer.Exit(code)


def _opened_log(found: config.Settings) -> logs.Log:
    """Open the log; where that or its key is not to be had, say so on stderr and end."""
    from dicomzarr_watch.operate import logs

    try:
        private.make_folder(found.state)
        return logs.open_log(found, logs.identifier_key(found.state))
    except OSError as error:
        log = logs.open_log(found.model_copy(update={"log_file": None}), os.urandom(8))
        log.error(
            logs.Event.DAEMON_FAILED,
            code="state-or-log-failed",
            told=f"{error.strerror}; let this user write to the state folder and the log file",
            **log.private(str(error)),
        )
        raise typer.Exit(1) from None


@app.command()
def status(
    config_file: Config = None,
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Tell what the daemon is doing."""
    folder = _folder(config_file, state)
    ledger = Ledger.read(folder)
    arriving = ledger.drops.arriving()
    counts = {found.value: count for found, count in ledger.jobs.counts().items()}
    rejected = ledger.jobs.select(JobState.REJECTED)
    is_running = is_owned(folder)
    why = paused(folder) if is_running else ""
    document = {
        "running": is_running,
        "paused": why,
        "arriving": [
            {"drop": a.drop, "series": a.series_uid, "files": a.files, "waits_for": a.waits_for}
            for a in arriving
        ],
        "jobs": counts,
        "rejected": [
            {"job": job.id, "drop": job.drop, "series": job.series_uid, "code": job.code}
            for job in rejected
        ],
    }
    if as_json:
        console.as_json(document)
        return
    console.say(f"daemon: {'running' if is_running else 'not running'}")
    if why:
        console.say(f"paused: {why}")
    for row in arriving:
        console.say(f"arriving: {row.drop}, {row.files} files, waits for {row.waits_for}")
    console.say(", ".join(f"{count} {name}" for name, count in counts.items()))
    for job in rejected:
        console.say(f"rejected: job {job.id}, {job.drop}, {job.code}")


@app.command("list")
def list_jobs(
    config_file: Config = None,
    state: State = None,
    only: Annotated[JobState | None, typer.Option(help="Jobs in this state alone.")] = None,
    drop: Annotated[str | None, typer.Option(help="Jobs of this drop alone.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """List the jobs, the oldest first."""
    jobs = [job_facts(job) for job in _ledger(config_file, state).jobs.select(only, drop=drop)]
    if as_json:
        console.as_json(jobs)
        return
    for job in jobs:
        told = " ".join(filter(None, (job["folder"], job["code"])))
        console.say(f"{job['job']} {job['state']}: {job['drop']}, {job['files']} files {told}")


@app.command()
def explain(
    what: Annotated[str, typer.Argument(help="A path, a Series Instance UID or a job's number.")],
    config_file: Config = None,
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Tell what became of a file, a series or a job, or what it waits for."""
    found = about(_ledger(config_file, state), what)
    if as_json:
        console.as_json(found)
    else:
        for facts in found:
            _say_facts(facts)
    if not found:
        console.complain("nothing is known under this name; `list --drop` tells of a drop")
        raise typer.Exit(1)


def _say_facts(facts: dict[str, Any]) -> None:
    console.say(str(facts.get("file") or f"series {facts['series']}"))
    for name, value in facts.items():
        if value != "" and name != "file":
            console.say(f"  {name}: {value}")


@app.command()
def retry(
    numbers: Annotated[list[int] | None, typer.Argument(help="Numbers of rejected jobs.")] = None,
    config_file: Config = None,
    state: State = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All rejected jobs.")] = False,
) -> None:
    """Have the daemon try rejected jobs again, now or when it is started."""
    folder = _folder(config_file, state)
    rejected = {job.id for job in Ledger.read(folder).jobs.select(JobState.REJECTED)}
    wanted = rejected if every else set(numbers or [])
    for number in sorted(wanted - rejected):
        console.complain(f"job {number} is not rejected")
    wish_retries(folder, wanted & rejected)
    console.say(f"{len(wanted & rejected)} jobs to be tried again")
    raise typer.Exit(bool(wanted - rejected) or not (wanted or every))


def _folder(config_file: Path | None, state: Path | None) -> Path:
    return state or config.state_folder(config_file, os.environ)


def _ledger(config_file: Path | None, state: Path | None) -> Ledger:
    return Ledger.read(_folder(config_file, state))


@app.command()
def check(
    *,
    config_file: Config = None,
    inbox: Inbox = None,
    output: Output = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Look whether settings and machine are fit for the daemon; say what to do where not."""
    from dicomzarr_watch.daemon.mounts import mounts
    from dicomzarr_watch.daemon.surroundings import checks

    given = settings(config_file, {"inbox": inbox, "output": output, "state": state})
    found = list(checks(given, mounts(), is_thorough=True))
    if as_json:
        console.as_json([asdict(one) | {"is_well": one.is_well} for one in found])
    else:
        for one in found:
            console.say(f"{'ok' if one.is_well else 'NO':<3} {one.name}: {one.found}")
            if one.todo:
                console.say(f"    {one.todo}")
    raise typer.Exit(not all(one.is_well for one in found))
