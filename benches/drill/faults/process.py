"""A calm run, and faults of the machine: no more files, and a log that nobody reads."""

import asyncio
import contextlib
import fcntl
import os
import resource

from drill.fault import Fault, Want
from drill.scene import APPID, SECRET

HARD_LIMIT = 4096


async def limit_files(scene):
    """Not one more file than now. Then apps open new connections."""
    pid = scene.sidecar.pid
    now = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (now, HARD_LIMIT))
    scene.start_app("newcomer", headers=["Connection: close"], rate=2, patience=5)


async def enough_files(scene):
    await scene.apps.pop("newcomer").stop()
    resource.prlimit(scene.sidecar.pid, resource.RLIMIT_NOFILE, (HARD_LIMIT, HARD_LIMIT))


async def read_through_pipe(scene):
    scene.keeps_pipe = True
    scene.notes["reading"] = asyncio.Event()
    scene.notes["reading"].set()
    scene.go_on(read_log(scene))


async def read_log(scene):
    """Stands for a log shipper."""
    while scene.sidecar is None:
        await asyncio.sleep(0.01)
    pipe = scene.sidecar.process.stdout
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(pipe.fileno(), False)
    with open(scene.sidecar.log, "ab") as log:
        while True:
            await scene.notes["reading"].wait()
            with contextlib.suppress(BlockingIOError):
                while data := os.read(pipe.fileno(), 1 << 20):
                    log.write(data)
            log.flush()
            await asyncio.sleep(0.05)


async def stall(scene):
    """Nobody reads, and an app causes lines: each forced refresh that it does not get is one."""
    await scene.set_log_level("debug")
    scene.notes["reading"].clear()
    body = f'{{"grant_type":"client_credential","appid":"{APPID}","secret":"{SECRET}","force_refresh":true}}'.encode()
    scene.start_app("forcer", rate=300, endpoints=[("POST", "/cgi-bin/stable_token")], body=body)


async def read_again(scene):
    await scene.apps.pop("forcer").stop()
    await scene.set_log_level("info")
    scene.notes["reading"].set()


CALM = [
    Fault("calm", "nothing is wrong, and nothing is said", Want(None), go_on=25),
]
FAULTS = [
    Fault(
        "no-files",
        "the sidecar may open no more files",
        Want("accept_errors", account="", app=("no reply: TimeoutError", "502 990502 error"), words=("files",)),
        cause=limit_files,
        end=enough_files,
    ),
    Fault(
        "log-stalled",
        "nobody reads the log any more",
        Want("log_dropped", account="", app=("200 0 local",), words=("log shipper|reader",), log=False, over="dropped"),
        setup=read_through_pipe,
        cause=stall,
        end=read_again,
        tell_within=60,
    ),
]
