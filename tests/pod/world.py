"""What a scenario stands on: networks, DNS, a fake WeChat, a Secret and a ConfigMap, and a kubelet."""

import http.client
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass

from dns import Dns
from files import Objects
from kubelet import Pod
from network import WECHAT_IP, Network, inside
from process import Image, Process

HERE = os.path.dirname(os.path.abspath(__file__))
# What the fake knows.
APPID, SECRET = "wx0123456789abcdef", "0123456789abcdef0123456789abcdef"
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


@dataclass
class Tools:
    """The programs under test."""

    sidecar: str
    python: str

    @property
    def sdk(self):
        """The folder in which tests/run installs what apps need; `python` is in a virtual environment there."""
        return os.path.dirname(os.path.dirname(os.path.dirname(self.python)))


def manifests(ca):
    """The objects that an operator makes for the sidecar, which is to trust the certificate in the file `ca`."""
    secret = {"appid": APPID, "secret": SECRET}
    with open(ca, encoding="ascii") as file:
        config = {"wechat-sidecar.toml": 'upstream-ca = "/etc/wechat-sidecar/ca.pem"\n', "ca.pem": file.read()}
    account = f'[[accounts]]\nappid = "{APPID}"\nsecret_file = "/run/secrets/wechat-sidecar/secret"\n'
    accounts = config | {"wechat-sidecar.toml": config["wechat-sidecar.toml"] + account}
    return [
        {"kind": "Secret", "metadata": {"name": "wechat-sidecar"}, "stringData": secret},
        {"kind": "ConfigMap", "metadata": {"name": "wechat-sidecar"}, "data": config},
        {"kind": "ConfigMap", "metadata": {"name": "wechat-accounts"}, "data": accounts},
    ]


def images(tools):
    """The sidecar's has no shell, as the real one; the app's has Python and wechatpy."""
    exists = [path for path in LIBRARIES if os.path.exists(path)]
    question = "import sys; print(sys.prefix, sys.base_prefix)"
    prefixes = subprocess.run([tools.python, "-c", question], capture_output=True, text=True, check=True).stdout.split()
    python = {path for path in prefixes if not path.startswith("/usr")} | {"/usr"}
    python |= {path for path in ("/lib", "/lib64", "/etc/ld.so.cache") if os.path.exists(path)}
    sidecar = {path: path for path in exists} | {"/usr/local/bin/wechat-sidecar": tools.sidecar}
    return {
        "wechat-sidecar:0.1.0": Image(sidecar, ["/usr/local/bin/wechat-sidecar"], user=65532),
        "shop:1": Image(
            {path: path for path in sorted(python)} | {"/app/app.py": f"{HERE}/app.py"},
            [tools.python, "/app/app.py"],
            environment={"PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"},
        ),
    }


def written(path):
    """Whether a certificate stands there, and all of it."""
    if not os.path.exists(path):
        return False
    with open(path, encoding="ascii") as file:
        return file.read().endswith("-----\n")


def until(so, within, what):
    """Waits until this is so, where nothing tells when to look."""
    ends = time.monotonic() + within
    while not so():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.05)


class World:
    """All of it; `close` ends what runs, and the janitor does where that is not called."""

    def __init__(self, tools, janitor):
        self.tools = tools
        self.folder = tempfile.mkdtemp(prefix="pod-test-")
        janitor.remember("folder", self.folder)
        self.network = Network(janitor)
        self.dns = Dns(self.network.internet)
        self.pods = []
        tls = f"{self.folder}/tls"
        os.makedirs(tls)
        nothing = {"root": None, "uid": 0, "gid": 0, "groups": [], "addCaps": [], "dropCaps": [], "env": {}}
        command = [tools.sidecar, "fake", "--listen", f"{WECHAT_IP}:443", "--unsafe-listen", "--tls", tls]
        spec = nothing | {"network": self.network.wechat, "noNewPrivileges": True, "delay": 0, "command": command}
        self.fake = Process(spec, self.folder, "fake", f"{self.folder}/fake.log")
        self.ca = f"{tls}/ca.pem"
        until(lambda: written(self.ca), 20, "the fake WeChat listens")
        self.images = images(tools)
        self.network.wechat_answers()

    def wechat(self, method, path, body=None):
        """A call of the fake's own, from where it lives."""

        def ask():
            trust = ssl.create_default_context(cafile=self.ca)
            # The name is in its certificate; there is no DNS for this process.
            trust.check_hostname = False
            connection = http.client.HTTPSConnection(WECHAT_IP, context=trust, timeout=30)
            connection.request(method, f"/_fake/{path}", body and json.dumps(body))
            reply = connection.getresponse()
            text = reply.read()
            connection.close()
            assert reply.status == 200, text
            return json.loads(text)

        return inside(self.network.wechat, ask)

    def stats(self):
        return self.wechat("GET", "stats")

    def inject(self, manifest):
        """The manifest as `wechat-sidecar inject` makes it."""
        command = [self.tools.sidecar, "inject", "-f", "-"]
        done = subprocess.run(command, input=json.dumps(manifest), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run(self, manifest, scale=1):
        """Starts the pod of an injected manifest."""
        if manifest["kind"] != "Pod":
            # As its controller does it.
            name = manifest["metadata"]["name"] + "-x7k2p"
            template = manifest["spec"]["template"]
            manifest = {"kind": "Pod", **template, "metadata": {**template.get("metadata", {}), "name": name}}
        folder = f"{self.folder}/pod-{len(self.pods)}"
        os.makedirs(folder)
        pod = Pod(manifest, self.images, Objects(manifests(self.ca)), self.network, folder, scale)
        self.pods.append(pod)
        pod.start()
        return pod

    def close(self):
        for pod in self.pods:
            pod.destroy()
        self.fake.kill()
        self.fake.wait()
        self.dns.close()
        self.network.remove()
        shutil.rmtree(self.folder, ignore_errors=True)
