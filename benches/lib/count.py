"""What one call takes that does not depend on how fast the machine is: instructions and system calls."""

import os
import re
import signal
import subprocess
import time

from .load import Crowd, post
from .peers import SIDECAR, Proxy
from .processes import RUN
from .upstream import POST

# Few enough that no connection waits for 20 ms for its next call, even under valgrind: then it is looked at before it is
# used again, which counts as some thousand instructions.
CONNECTIONS = 8


def instructions(upstream, calls=3200, kind=SIDECAR):
    """User instructions a call, of all threads: what a long run counts more than a short one, divided by its calls.

    So the start, the token request and the handshakes cancel out, if `upstream` issues no tickets: a handshake
    that is resumed takes three million less.
    """
    assert calls % CONNECTIONS == 0
    counts = [counted(upstream, kind, rounds) for rounds in (10, 10 + calls // CONNECTIONS)]
    return (counts[1] - counts[0]) / calls


def counted(upstream, kind, rounds):
    output = RUN / "callgrind.out"
    under = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}.%p", "--error-exitcode=0"]
    proxy = Proxy(kind, upstream, workers=1, under=under)
    try:
        crowd = Crowd(proxy.port, CONNECTIONS)
        crowd.rounds(post(POST), rounds)
        crowd.close()
        time.sleep(0.3)
        proxy.program.stop(patience=60)
        found = re.findall(r"Collected : (\d+)", proxy.program.log.read_text(errors="replace"))
        if not found:
            raise RuntimeError(f"callgrind counted nothing:\n{proxy.program.tail()}")
        return sum(map(int, found))
    finally:
        proxy.stop()
        for left in RUN.glob("callgrind.out.*"):
            left.unlink()


def syscalls(proxy, connections, run):
    """System calls a request, by name, while `run()` makes the requests and returns how many.

    strace is attached after the warm-up, so that connections and handshakes are not counted.
    """
    output = RUN / "strace"
    command = ["strace", "-c", "-f", "-o", str(output)]
    for pid in proxy.program.pids():
        command += ["-p", str(pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        # It says so once for each thread that it follows.
        os.set_blocking(tracer.stderr.fileno(), True)
        tracer.stderr.readline()
        time.sleep(0.5)
        requests = run()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
        tracer.stderr.close()
    found = {}
    for line in output.read_text().splitlines():
        # % time, seconds, usecs/call, calls, errors if any, name
        parts = line.split()
        if len(parts) in (5, 6) and parts[0][0].isdigit() and parts[-1] != "total":
            found[parts[-1]] = int(parts[3]) / requests
    # Each connection of wrk's is accepted, registered and closed once.
    return {name: count for name, count in found.items() if count * requests > connections}
