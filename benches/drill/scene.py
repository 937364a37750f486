"""The scene of one fault: a fake WeChat, a sidecar in front of it, apps, and their files."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from drill import client
from drill.app import ACCEPTED, App
from lib.processes import RUN, Program, free_port

SIDECAR, FAKE = os.environ.get("SIDECAR", ""), os.environ.get("FAKE_WECHAT", "")
# Those that the fake knows.
APPID, CORPID = "wx0123456789abcdef", "ww0123456789abcdef"
SECRET = "0123456789abcdef0123456789abcdef"
# One that it does not know unless it is told.
NEW_SECRET = "fedcba9876543210fedcba9876543210"


class Scene:
    """Everything that one fault needs. What its setup changes here takes effect when the programs start."""

    def __init__(self, name):
        self.name = name
        self.folder = RUN / "drill" / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.listen, self.admin, self.wechat = free_port(), free_port(), free_port()
        self.upstream = f"http://127.0.0.1:{self.wechat}"
        self.flags, self.fake_flags = [], []
        self.secret = self.write("app-key", SECRET)
        self.env = {"WECHAT_APPID": APPID, "WECHAT_SECRET_FILE": str(self.secret)}
        # How the apps call that are there from the start.
        self.app_options = {"app": {}}
        self.fake = self.sidecar = None
        self.relay = self.relay_state = None
        self.apps, self.tasks, self.programs = {}, [], []
        self.keeps_pipe = False
        self.notes = {}

    def write(self, name, text):
        """A file of the scene, put in place at once."""
        path = self.folder / name
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.chmod(0o600)
        new.rename(path)
        return path

    def configure(self, text):
        """The accounts stand in a file instead of the environment."""
        path = self.write("config.toml", text)
        self.env = {}
        self.flags = [*self.flags, "--config", str(path)] if "--config" not in self.flags else self.flags
        return path

    # The programs.

    def start(self, name, command, **more):
        program = Program(f"drill-{self.name}-{name}", command, **more)
        self.programs.append(program)
        return program

    async def start_fake(self):
        listen = f"127.0.0.1:{self.wechat}"
        self.fake = self.start("wechat", [FAKE, "fake", "--listen", listen, *self.fake_flags])
        await self.until_listening(self.wechat, self.fake)

    def arguments(self):
        ports = ["--listen", f"127.0.0.1:{self.listen}", "--admin", f"127.0.0.1:{self.admin}"]
        return [*ports, "--upstream", self.upstream, "--log-format", "json", *self.flags]

    async def start_sidecar(self):
        output = subprocess.PIPE if self.keeps_pipe else None
        self.sidecar = self.start("sidecar", [SIDECAR, *self.arguments()], env=self.env, output=output)
        await self.until_listening(self.admin, self.sidecar)
        await self.until_listening(self.listen, self.sidecar)

    async def check(self):
        """The exit code of `wechat-sidecar check` with the same configuration, and what it says."""
        process = await asyncio.create_subprocess_exec(
            SIDECAR,
            "check",
            *map(str, self.arguments()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self.env},
        )
        try:
            async with asyncio.timeout(60):
                said, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return None, "it did not end within 60 s"
        return process.returncode, said.decode(errors="replace").strip()

    async def until_listening(self, port, program, patience=30):
        end = time.monotonic() + patience
        while time.monotonic() < end and program.alive():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"{program.name} does not listen:\n{program.tail()}")

    async def start_relay(self, target, certificate=None):
        """The port of a relay to another port. `certificate` is the paths of chain and key."""
        self.relay_leads_to(target, certificate)
        port = free_port()
        self.relay = self.start("relay", [sys.executable, Path(__file__).parent / "relay.py", port, self.relay_state])
        await self.until_listening(port, self.relay)
        return port

    def relay_leads_to(self, target, certificate=None):
        """New connections of the relay do; old ones stay where they are."""
        state = {"target": target, "certificate": certificate and list(map(str, certificate))}
        self.relay_state = self.write("relay", json.dumps(state))

    # Apps, and what else goes on.

    def start_apps(self):
        for name, options in self.app_options.items():
            self.start_app(name, **options)

    def start_app(self, name, **options):
        self.apps[name] = App(self.listen, **options).start()

    def every(self, seconds, action):
        """Does something again and again until the scene ends, or the task that this returns is cancelled."""

        async def again():
            while True:
                with contextlib.suppress(OSError, EOFError):
                    await action()
                await asyncio.sleep(seconds)

        return self.go_on(again())

    def go_on(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.append(task)
        return task

    def samples(self, since, until=float("inf")):
        return [sample for app in self.apps.values() for sample in app.since(since, until)]

    # What is asked of the fake and of the sidecar.

    async def control(self, what, **body):
        reply = await client.ask(self.wechat, "POST", f"/_fake/{what}", body)
        if reply.status != 200:
            raise RuntimeError(f"the fake answers {reply.text()}")

    async def operator(self, path):
        """A reply of the admin port, or None if there is none in time."""
        try:
            return await client.ask(self.admin, "GET", path, patience=5)
        except (OSError, EOFError):
            return None

    async def set_log_level(self, level):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
        writer.write(client.request("PUT", "/log-level", ["Connection: close"], level.encode()))
        reply = await client.read_reply(reader)
        writer.close()
        if reply.status != 200:
            raise RuntimeError(f"the log level is not set: {reply.text()}")

    def log(self):
        """The lines of the log, each as a dict."""
        lines = []
        for line in self.sidecar.log.read_text(errors="replace").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                lines.append({"level": "ERROR", "message": line})
        return lines

    async def problems(self):
        """The list of problems on /accounts, or None where there is no such list."""
        reply = await self.operator("/accounts")
        body = reply and reply.json()
        return body.get("problems") if isinstance(body, dict) else None

    async def is_calm(self):
        """Whether the sidecar is ready, has no problem, and the calls of the last two seconds were accepted."""
        ready = await self.operator("/readyz")
        if not ready or ready.status != 200 or await self.problems():
            return False
        latest = self.samples(time.monotonic() - 2)
        return bool(latest) and all(sample.outcome in ACCEPTED for sample in latest)

    async def until(self, condition, patience):
        """Seconds until the condition is true, or None if that takes too long."""
        began = time.monotonic()
        while time.monotonic() - began < patience:
            if await condition():
                return time.monotonic() - began
            await asyncio.sleep(1)
        return None

    async def end(self):
        for app in self.apps.values():
            await app.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for program in self.programs:
            program.kill()
