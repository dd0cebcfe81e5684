"""Where the units of a sweep run: processes of this machine, or the workers of Dask that are there or are started.

An engine is a context manager that gives a `concurrent.futures.Executor`; another one is a line of ENGINES. What is
handed to other machines goes by value: their workers need no checkout of this project.
"""

import contextlib
import logging
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from edge.errors import UserError
from experiments import unit

WAIT = 30  # seconds until a scheduler has answered
MOST_WORKERS = 1000
PATIENCE, MOST_PATIENCE = 3600, 30 * 86400  # seconds without a worker until a sweep gives up, and the most of them
WAITING = "wait longer with --wait; what is done is kept"
MEND = "name another partition, or see jobqueue.slurm in ~/.config/dask/jobqueue.yaml"


@contextlib.contextmanager
def local(address: str, workers: int, patience: float) -> Iterator[Executor]:
    """Threads of this process, each of which waits for the dvc that it started."""
    executor = ThreadPoolExecutor(workers, "unit")
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def dask(address: str, workers: int, patience: float) -> Iterator[Executor]:
    """The workers that a running scheduler has, now or later."""
    advice = f"start dask worker tcp://{address} --nthreads 1"
    with _client(f"tcp://{address}", Absence(f"dask://{address}", patience, advice)) as executor:
        yield executor


@contextlib.contextmanager
def slurm(address: str, workers: int, patience: float) -> Iterator[Executor]:
    """A job of Slurm for each worker; ~/.config/dask/jobqueue.yaml says their partition, memory and time."""
    jobqueue = _imported("dask_jobqueue")
    advice = "squeue --me says what its jobs wait for, jobqueue.slurm.log-directory where they say why they ended"
    absence = Absence("slurm", patience, advice, workers)

    job: Any = jobqueue.slurm.SLURMJob

    class Job(job):
        """One that sbatch refuses is noted here: Dask would log a traceback and wait for its worker."""

        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                absence.refuse(_reason(error).rpartition("stderr: ")[2])
                await super(jobqueue.core.Job, self).start()

    if shutil.which("sbatch") is None:
        raise UserError("slurm: there is no sbatch here; start the sweep where Slurm takes jobs")
    try:
        cluster = jobqueue.SLURMCluster(processes=1, job_cls=Job, **({"queue": address} if address else {}))
        cluster.scale(jobs=workers)
    except Exception as error:
        raise UserError(f"slurm: {_reason(error)}; see jobqueue.slurm in ~/.config/dask/jobqueue.yaml") from None
    with cluster, _client(cluster, absence) as executor:
        yield executor


@contextlib.contextmanager
def ssh(address: str, workers: int, patience: float) -> Iterator[Executor]:
    """A worker on each of the hosts, and a scheduler on the first; ~/.ssh/config says how they are reached."""
    distributed, hosts = _imported("distributed"), address.split(",")
    logging.getLogger("distributed.deploy.ssh").setLevel(logging.WARNING)  # or it repeats all that they say
    scheduler = {"host": hosts[0], "dashboard": False, "allowed_failures": 0}
    try:
        cluster = distributed.SSHCluster(
            [hosts[0], *hosts], scheduler_options=scheduler, worker_options={"nthreads": 1}
        )
    except Exception as error:
        raise UserError(
            f"ssh://{address}: {_reason(error)}; try ssh HOST {sys.executable} -c 'import distributed'"
        ) from None
    with cluster, _client(cluster, Absence(f"ssh://{address}", patience, "see whether the hosts are up")) as executor:
        yield executor


def _needs_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise UserError(f"--engine dask://{address}: give the scheduler as dask://HOST:PORT")


def _needs_hosts(address: str) -> None:
    if not re.fullmatch(r"[\w.-]+(,[\w.-]+)*", address, re.ASCII):
        raise UserError(f"--engine ssh://{address}: give hosts as ssh://HOST,HOST; ~/.ssh/config says user and port")


def _needs_nothing(address: str) -> None:
    if address:
        raise UserError(f"--engine local://{address}: local takes no address; --workers says how many")


ENGINES: dict[str, tuple[Callable[[str, int, float], Any], Callable[[str], None]]] = {  # and the check of the address
    "local": (local, _needs_nothing),
    "dask": (dask, _needs_port),
    "ssh": (ssh, _needs_hosts),
    "slurm": (slurm, lambda address: None),
}
PACKAGES = {"slurm": ("dask_jobqueue",), "ssh": ("distributed", "asyncssh")}  # where it is not distributed alone


def find(name: str) -> tuple[Callable[[str, int, float], Any], str]:
    """The engine and its address of `dask://HOST:PORT` and the like; UserError for another."""
    scheme, _, address = name.partition("://")
    if scheme not in ENGINES:
        raise UserError(f"--engine {name}: there are local, dask://HOST:PORT, ssh://HOST,HOST, slurm[://PARTITION]")
    engine, check = ENGINES[scheme]
    check(address)
    if scheme != "local":
        for name in PACKAGES.get(scheme, ("distributed",)):
            _imported(name)
    return engine, address


@dataclass
class Absence:
    """Since when there is no worker, and what to say when that takes too long. place: the engine; advice: where to
    look; jobs: how many are submitted; refused: what was said of each that was not taken."""

    place: str
    patience: float  # seconds
    advice: str
    jobs: int = 0
    refused: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def look(self, count: int) -> None:
        """Takes note of how many workers there are; UserError when there will be none."""
        if count:
            self.since = time.monotonic()
        elif 0 < self.jobs <= len(self.refused):
            raise UserError(f"{self.place}: no job was taken: {self.refused[0]}; {MEND}")
        elif time.monotonic() - self.since > self.patience:
            others = f" ({len(self.refused)} jobs were not taken: {self.refused[0]})" if self.refused else ""
            raise UserError(f"{self.place}: no worker for {self.patience:g} s{others}; {self.advice}; {WAITING}")

    def refuse(self, why: str) -> None:
        """Takes note of a job that was not taken; the first one is said, for a sweep goes on with those that were."""
        if not self.refused:
            print(f"sweep: {self.place}: a job was not taken: {why}", file=sys.stderr, flush=True)
        self.refused.append(why)


class Workers(Executor):
    """The workers of Dask. A worker that dies takes along what only waited at it, so nothing should: see `room`."""

    def __init__(self, client: Any, absence: Absence):
        self._client, self._executor, self._absence = client, client.get_executor(pure=False), absence

    def submit(self, *arguments: Any, **named: Any) -> Any:
        return self._executor.submit(*arguments, **named)

    def room(self) -> int:
        """How many units they can run at a time, as many as there are now; 0 where the scheduler doesn't answer.
        UserError when there was no worker for too long."""
        try:
            count = sum(self._client.nthreads().values())
        except OSError:
            count = 0
        self._absence.look(count)
        return count


@contextlib.contextmanager
def _client(to: Any, absence: Absence) -> Iterator[Executor]:
    """An executor of Dask; the unit goes along by value."""
    cloudpickle, distributed = _imported("cloudpickle"), _imported("distributed")
    cloudpickle.register_pickle_by_value(unit)
    try:
        client = distributed.Client(to, timeout=WAIT, set_as_default=False)
    except Exception as error:  # an address or a setting that it does not take
        raise UserError(f"{to}: no scheduler answers ({_reason(error)}); start one with dask scheduler") from None
    try:
        yield Workers(client, absence)
    finally:
        cloudpickle.unregister_pickle_by_value(unit)
        client.close()


def portable(do: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """The same function in a form that goes by value: pickle takes no closure, and cloudpickle then takes all of it."""
    return lambda job: do(job)


def lost(error: BaseException) -> str | None:
    """Why a unit should be tried again: its process or its worker was killed; None for another error."""
    if isinstance(error, unit.LostError) or type(error).__name__ == "LostError":
        return str(error)
    if type(error).__name__ == "KilledWorker":
        return "its worker was killed or could not be reached any more"
    return None


def _imported(name: str) -> Any:
    """A module of the extra `sweep`; UserError without it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.replace("_", "-")
        raise UserError(f"{package} is not installed; pip install distributed dask-jobqueue asyncssh") from None


def _reason(error: BaseException) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__
