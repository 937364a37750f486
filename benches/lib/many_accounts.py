"""A sidecar with many accounts in one file, its WeChat, and apps that call for random accounts."""

import http.client
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import time
from pathlib import Path

from .peers import sidecar_binary
from .processes import RUN, Program, free_port, listens, wait_until

PATH = "/cgi-bin/message/custom/send"
# The kinds of files: secrets in the file itself, in a file each, and tokens in a file each.
INLINE, SECRET_FILES, TOKEN_FILES = "inline", "secret files", "token files"
RELOADED = re.compile(rb"the configuration was read again")


def appid(at):
    return f"wx{at:016x}"


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body and json.dumps(body))
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    if reply.status != 200:
        raise RuntimeError(f"{path} answers {reply.status}: {text[:200]}")
    return text


class ManyWechats:
    """The fake of `many_wechats.py`."""

    def __init__(self, delay=0.0):
        self.port = free_port()
        script = Path(__file__).with_name("many_wechats.py")
        self.program = Program("many-wechats", [sys.executable, script, self.port, delay])
        wait_until(lambda: listens(self.port), "the fake listens", self.program)

    def expire(self, appids):
        ask(self.port, "POST", "/_fake/expire", appids)

    def stats(self):
        return json.loads(ask(self.port, "GET", "/_fake/stats"))

    def stop(self):
        self.program.stop()


class ManyAccounts:
    """The sidecar with `number` accounts. `started` is when its process began."""

    def __init__(self, number, wechat, kind=INLINE, under=(), workers=2):
        self.number, self.kind = number, kind
        self.port, self.admin = free_port(), free_port()
        self.folder = RUN / f"accounts-{kind.replace(' ', '-')}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "accounts.toml"
        self.changed = {}
        self.left_out = set()
        if kind != INLINE:
            self.write_files()
        self.write()
        command = [*under, sidecar_binary(), "--config", self.file, "--workers", workers]
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}"]
        command += ["--upstream", f"http://127.0.0.1:{wechat.port}"]
        self.started = time.monotonic()
        self.program = Program("accounts", command)
        self.threads = MostThreads(self.program)

    def write_files(self):
        for at in range(self.number):
            path = self.folder / f"{at}"
            if self.kind == TOKEN_FILES:
                path.write_text(f"{appid(at)}-0-" + "0123456789" * 12)
            else:
                path.write_text(f"{at:032x}")
            path.chmod(0o600)

    def write(self):
        """Writes the file and moves it into place."""
        lines = []
        for at in range(self.number):
            if at in self.left_out:
                continue
            lines.append(f'[[accounts]]\nappid = "{appid(at)}"')
            match self.kind:
                case "inline":
                    lines.append(f'secret = "{at:032x}"')
                case "secret files":
                    lines.append(f'secret_file = "{self.folder / str(at)}"')
                case _:
                    lines.append(f'token.source = "file"\ntoken.file = "{self.folder / str(at)}"')
            if at in self.changed:
                lines.append(f"daily_fetches = {self.changed[at]}")
        new = self.file.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.chmod(0o600)
        new.rename(self.file)

    def first_call(self, at, patience=60):
        """Seconds from the start of the process to the first answered call of this account; None if there is none."""
        end = self.started + patience
        while time.monotonic() < end:
            try:
                app = App(self.port)
                if app.call(at)[1]:
                    return time.monotonic() - self.started
            except (OSError, http.client.HTTPException):
                pass
            if not self.program.alive():
                raise RuntimeError(f"the sidecar ended:\n{self.program.tail()}")
            time.sleep(0.01)
        return None

    def wait_for_tokens(self, patience=120):
        """Calls each account until all have answered."""
        end = time.monotonic() + patience
        missing, app = list(range(self.number)), App(self.port)
        while missing:
            missing = [at for at in missing if not app.call(at)[1]]
            if time.monotonic() > end:
                raise RuntimeError(f"{len(missing)} accounts do not answer:\n{self.program.tail()}")

    def reload(self, patience=60):
        """Has it read its file again; when that began, and when the log said that it was done."""
        size = self.program.log.stat().st_size
        before = time.monotonic()
        self.write()
        begin = time.monotonic()
        self.program.process.send_signal(signal.SIGHUP)
        with open(self.program.log, "rb") as log:
            log.seek(size)
            seen = b""
            while not RELOADED.search(seen):
                if time.monotonic() > begin + patience:
                    raise RuntimeError("the file was not read again in time")
                time.sleep(0.001)
                seen += log.read()
        return begin, time.monotonic(), begin - before

    def stop(self):
        self.threads.end()
        self.program.stop()


class MostThreads(threading.Thread):
    """The most threads that a program ever had."""

    def __init__(self, program):
        super().__init__(daemon=True)
        self.program, self.most, self.ended = program, 0, False
        self.start()

    def run(self):
        while not self.ended and self.program.alive():
            try:
                self.most = max(self.most, len(os.listdir(f"/proc/{self.program.pid}/task")))
            except OSError:
                return
            time.sleep(0.02)

    def end(self):
        self.ended = True
        self.join()


class App:
    """A connection on which calls follow one another."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.connect()
        self.count = 0

    def call(self, at):
        """How long a call of this account takes, whether it went well, and the reply. A reply for another account, or
        for another call, is an error."""
        self.count += 1
        mark = f"{os.getpid()}-{id(self)}-{self.count}"
        begin = time.monotonic()
        self.connection.request("POST", PATH, json.dumps({"for": mark}), {"X-Wechat-Appid": appid(at)})
        reply = self.connection.getresponse()
        body = reply.read()
        took = time.monotonic() - begin
        if reply.status != 200 or not body.startswith(b'{"errcode": 0'):
            return took, False, body
        seen = json.loads(body)
        if (seen["appid"], seen["for"]) != (appid(at), mark):
            raise WrongReply(f"the call of {appid(at)} got {body[:300]}")
        return took, True, body


class WrongReply(Exception):
    """A call was answered with what belongs to another."""


class Probe:
    """A process that asks all the time, and tells when and for how long it waited: for calls, or at the admin port."""

    def __init__(self, port, number=None):
        self.ours, its = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=probe, args=(its, port, number), daemon=True)
        self.process.start()
        self.ours.recv()

    def end(self):
        """All waits as (begin, seconds)."""
        self.ours.send(None)
        waits = self.ours.recv()
        self.process.join()
        return waits


def probe(pipe, port, number):
    chance, waits = random.Random(1), []
    apps = [App(port) for _ in range(4 if number else 1)]
    pipe.send(None)
    while not pipe.poll():
        app = apps[len(waits) % len(apps)]
        begin = time.monotonic()
        if number is None:
            try:
                app.connection.request("GET", "/livez")
                app.connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                # It closes a connection that is idle for long, as one is while it is stuck.
                apps[len(waits) % len(apps)] = App(port)
        else:
            app.call(chance.randrange(number))
        waits.append((begin, time.monotonic() - begin))
        # So that the machine has time for the rest.
        time.sleep(0.0005)
    pipe.send(waits)


def longest(waits, begin, end):
    """The longest wait that overlaps this time."""
    return max((took for at, took in waits if at + took >= begin and at <= end), default=0.0)
