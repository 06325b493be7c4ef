"""Processes that have torch loaded already: each is forked from one that waits.

Importing torch takes a fresh process seconds. A fork's only thread runs the program and then leaves
the interpreter as any other does, so that the end of a process is the same in it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.processes import CHECKOUT

# Longer than any program takes on a busy machine.
HANGS_S = 240

Ready = Callable[..., tuple[int, str]]


@contextmanager
def waiting() -> Iterator[Ready]:
    """A call that runs a program with arguments: its code or minus a signal, and its errors."""
    command = [sys.executable, "-m", "tests.ready"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=pipe, stdout=pipe, text=True) as process:
        requests, answers = process.stdin, process.stdout
        assert requests is not None
        assert answers is not None

        def run(*program: str) -> tuple[int, str]:
            requests.write(json.dumps(program) + "\n")
            requests.flush()
            code, errors = json.loads(answers.readline())
            return code, errors

        yield run


def _next_program() -> list[str] | None:
    """Forks for each program that is asked for: in the fork, the program; at the end, None."""
    while line := sys.stdin.readline():
        with tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                signal.alarm(HANGS_S)
                nothing = os.open(os.devnull, os.O_RDWR)
                for descriptor, place in ((nothing, 0), (nothing, 1), (errors.fileno(), 2)):
                    os.dup2(descriptor, place)
                found: list[str] = json.loads(line)
                return found
            _, status = os.waitpid(child, 0)
            errors.seek(0)
            answer = [os.waitstatus_to_exitcode(status), errors.read().decode(errors="replace")]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return None


if __name__ == "__main__":
    import smartcash_format.torch_io.save  # noqa: F401  torch, and most of what a program imports

    if asked := _next_program():
        program, *sys.argv[1:] = asked
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
