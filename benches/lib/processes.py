"""Starts programs, and reads from /proc what they cost."""

import atexit
import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

BENCH = Path(os.environ["BENCH_DIR"])
RUN = BENCH / "run"
running = []


def raise_file_limit():
    """Thousands of connections need thousands of files, on both sides of a proxy."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def free_port():
    """A port that nobody listens on; below the range that outgoing connections take theirs from."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(lowest - 1 - free_port.given, 10000, -1):
        free_port.given += 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


free_port.given = 0


class Program:
    """A running program and its children. Its output goes to its log, or to `output`."""

    def __init__(self, name, command, cores=None, env=None, output=None):
        RUN.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = RUN / f"{name}.log"
        pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output or log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                preexec_fn=pin,
            )
        running.append(self)

    @property
    def pid(self):
        return self.process.pid

    def pids(self):
        """This process and everything that descends from it."""
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    queue += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        return found

    def pin(self, cores):
        for pid in self.pids():
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), cores)

    def cpu(self):
        """Nanoseconds on a CPU, of all threads; /proc/PID/stat would count ticks of 10 ms."""
        total = 0
        for pid in self.pids():
            for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    total += int(stat.read_text().split()[0])
        return total

    def rss(self):
        """KiB; a page that two of its processes share counts twice."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total

    def threads(self):
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in self.pids())

    def files(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids())

    def alive(self):
        return self.process.poll() is None

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    def kill(self):
        """Ends it at once."""
        self.stop(signal.SIGKILL)

    def stop(self, how=signal.SIGTERM, patience=10):
        if self in running:
            running.remove(self)
        if self.alive():
            self.process.send_signal(how)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


def wait_until(true, what, program=None, patience=15):
    end = time.monotonic() + patience
    while not true():
        if program and not program.alive():
            raise RuntimeError(f"{program.name} ended:\n{program.tail()}")
        if time.monotonic() > end:
            tail = f"\n{program.tail()}" if program else ""
            raise RuntimeError(f"waited {patience} s in vain: {what}{tail}")
        time.sleep(0.01)


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@atexit.register
def stop_all():
    for program in list(running):
        program.stop(patience=3)
