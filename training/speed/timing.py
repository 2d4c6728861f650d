"""Timing of all comparisons: all sides in turn, on the wall clock and in CPU seconds, and their memory."""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any


@dataclass
class Times:
    """What the rounds of one side took, seconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of the wall clock."""
        return median(self.wall)

    @property
    def least(self) -> float:
        """Of the wall clock."""
        return min(self.wall)

    @property
    def cpu_least(self) -> float:
        """Of the processor, all threads: other work on the machine only ever adds, so this can be trusted most."""
        return min(self.cpu)


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def take_turns(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: float = 0.0,
    warm: int = 1,
    before: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """Run the sides one after the other, again and again, so that what disturbs the machine disturbs all of them.

    Args:
        sides: by name; each call is one round of that side.
        rounds: of every side, at least.
        seconds: go on for this long.
        warm: rounds before those that count.
        before: called before every round, and not counted.
    """
    times = {name: Times() for name in sides}
    end = 0.0
    turn = -warm
    while turn < rounds or time.perf_counter() < end:
        if turn == 0:
            end = time.perf_counter() + seconds
        for name, side in sides.items():
            before()
            wall, cpu = time.perf_counter(), cpu_seconds()
            side()
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
            if turn >= 0:
                times[name].wall.append(wall)
                times[name].cpu.append(cpu)
        turn += 1
    return times


def memory(what: str) -> float:
    """MB of this process: VmRSS now, VmHWM at the peak (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1e6


def forget_peak() -> None:
    """Let the peak start again at what is held now (Linux; a sandbox may take the wish and do nothing)."""
    Path("/proc/self/clear_refs").write_text("5")


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a call in a process of its own, which starts with the environment as it is now."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, function, args))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError as error:
        raise RuntimeError(f"{function.__name__} failed in its process, see above") from error
    finally:
        process.join()


def _answer(there: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    there.send(function(*args))
