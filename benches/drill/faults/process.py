"""A calm run, and faults of the machine: no more files, a log that nobody reads, and an app that trusts another CA."""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import ssl

from drill.fault import Fault, Want
from drill.scene import APPID, SECRET
from lib.processes import free_port

HARD_LIMIT = 4096
CROWD = 60


async def impatient(scene):
    scene.app_options["app"] = {"patience": 5}


async def limit_files(scene):
    """Not one more file than now, and more connections than that. Then another app comes."""
    pid = scene.sidecar.pid
    now = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (now, HARD_LIMIT))
    opening = (asyncio.open_connection("127.0.0.1", scene.listen) for _ in range(CROWD))
    scene.notes["crowd"] = [writer for _, writer in await asyncio.gather(*opening)]
    scene.start_app("newcomer", headers=["Connection: close"], rate=2, patience=5)


async def enough_files(scene):
    await scene.apps.pop("newcomer").stop()
    for writer in scene.notes["crowd"]:
        writer.close()
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
    asked = {"grant_type": "client_credential", "appid": APPID, "secret": SECRET, "force_refresh": True}
    forced = {"endpoints": [("POST", "/cgi-bin/stable_token")], "body": json.dumps(asked).encode()}
    scene.start_app("forcer", rate=300, **forced)


async def read_again(scene):
    await scene.apps.pop("forcer").stop()
    await scene.set_log_level("info")
    scene.notes["reading"].set()


async def listen_for_https(scene):
    scene.notes["https"] = free_port()
    scene.flags += ["--tls-listen", f"127.0.0.1:{scene.notes['https']}"]


async def trust_nobody(scene):
    """An app that calls by https, and has not been told of the CA."""
    context = ssl.create_default_context()

    async def call():
        try:
            where = {"ssl": context, "server_hostname": "api.weixin.qq.com"}
            await asyncio.open_connection("127.0.0.1", scene.notes["https"], **where)
        except ssl.SSLError:
            return
        raise RuntimeError("the app trusts the sidecar")

    scene.notes["distrustful"] = scene.every(2, call)


async def no_more_of_it(scene):
    scene.notes["distrustful"].cancel()


# The connection of the app is not accepted, or none to WeChat can be opened.
LEFT_ALONE = ("no reply: TimeoutError", "502 990502 error", "503 990501 error")

CALM = [
    Fault("calm", "nothing is wrong, and nothing is said", Want(None, no_alert="nothing is wrong"), go_on=25),
]
FAULTS = [
    Fault(
        "no-files",
        "the sidecar may open no more files",
        Want(
            "accept_errors",
            account="",
            app=LEFT_ALONE,
            words=("files",),
            slowest=6,
            alerts=("WechatOpenFilesNearLimit",),
            # Connections to WeChat that were idle for long are closed, and no other can be opened.
            later_alerts=("WechatUnreachable", "WechatCallsFail"),
        ),
        setup=impatient,
        cause=limit_files,
        go_on=25,
        end=enough_files,
    ),
    Fault(
        "log-stalled",
        "nobody reads the log any more",
        Want(
            "log_dropped",
            account="",
            app=("200 0 local",),
            words=("log shipper",),
            log=False,
            over="dropped",
            alerts=("WechatLogLinesDropped",),
        ),
        setup=read_through_pipe,
        cause=stall,
        end=read_again,
        tell_within=60,
    ),
    Fault(
        "ca-untrusted",
        "an app that calls by https does not trust the sidecar's CA",
        Want("tls_handshake", account="", words=("not trust", "ca --for"), alerts=()),
        setup=listen_for_https,
        cause=trust_nobody,
        end=no_more_of_it,
    ),
]
