"""Contenders for the same work take turns on one machine, each in a process of its own.

A contender is a function of its work and of `Turns`: it sets itself up, calls `begin`, and calls `Turns` at the end of
each of its turns. Only one process works at a time, so that a change in what else the machine does falls on all of them
alike. Before its first turn a contender does a small part of the work, which is not measured.

CPU seconds are those of the process, all threads together; memory is the most that the process held since its start.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, get_context

from bsa_core.experiment import provenance


@dataclass(frozen=True)
class Contender:
    """run(work, turns) does all turns of the work; work.small() is what it warms up on."""

    run: Callable
    work: object


@dataclass
class Measured:
    """What a contender took, turn by turn. said: what each turn was to find out, such as losses or answers."""

    told: dict = field(default_factory=dict)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    said: list = field(default_factory=list)
    peak_memory_mb: float = 0.0

    def summary(self) -> dict:
        """What a record says of it."""
        return {
            **self.told,
            "wall_seconds": statistics.median(self.wall),
            "cpu_seconds": statistics.median(self.cpu),
            "wall_seconds_of_turns": self.wall,
            "cpu_seconds_of_turns": self.cpu,
            "peak_memory_mb": self.peak_memory_mb,
        }


class Turns:
    """A contender's side: it waits here until it is its turn."""

    def __init__(self, line: connection.Connection, cost: Callable[[], dict], left: int):
        self.line, self.cost, self.left = line, cost, left

    def begin(self, **told) -> None:
        """All is set up; told: what a record is to say of it, such as its settings."""
        self.line.send(("ready", told))
        self._wait()

    def __call__(self, said) -> None:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        self.line.send(("turn", (wall, cpu, said, self.cost()["peak_memory_mb"])))
        self.left -= 1
        if self.left:
            self._wait()

    def _wait(self) -> None:
        self.line.recv()
        self.wall, self.cpu = time.perf_counter(), time.process_time()


class Warming:
    """In place of `Turns` while a contender warms up: nobody measures, nobody waits."""

    def begin(self, **told) -> None: ...

    def __call__(self, said) -> None: ...


def work(line: connection.Connection, contender: Contender, turns: int) -> None:
    """The process of a contender."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    try:
        with provenance.watched() as cost:
            contender.run(contender.work.small(), Warming())
            contender.run(contender.work, Turns(line, cost, turns))
    except (EOFError, BrokenPipeError):
        return  # whoever started this is gone
    except Exception as error:
        line.send(("failed", f"{type(error).__name__}: {error}"))


@contextmanager
def started(contenders: dict[str, Contender], turns: int) -> Iterator[dict[str, connection.Connection]]:
    """A line to the process of each, set up one after the other."""
    context, lines, processes = get_context("spawn"), {}, []
    try:
        for name, contender in contenders.items():
            lines[name], theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, contender, turns), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
        yield lines
    finally:
        for line in lines.values():
            line.close()
        for process in processes:
            process.join(10)
            process.kill()


def heard(line: connection.Connection, name: str):
    """What a contender says next; ValueError with its reason when it failed."""
    try:
        kind, content = line.recv()
    except EOFError:
        kind, content = "failed", "its process ended without a word"
    if kind == "failed":
        raise ValueError(f"{name}: {content}")
    return content


def race(contenders: dict[str, Contender], turns: int) -> dict[str, Measured]:
    """All turns of all contenders, one by one. ValueError names the contender that failed, and why."""
    found = {name: Measured() for name in contenders}
    with started(contenders, turns) as lines:
        for name, line in lines.items():
            found[name].told = heard(line, name)
        for _ in range(turns):
            for name, line in lines.items():
                line.send("go")
                wall, cpu, said, found[name].peak_memory_mb = heard(line, name)
                found[name].wall.append(wall)
                found[name].cpu.append(cpu)
                found[name].said.append(said)
    return found
