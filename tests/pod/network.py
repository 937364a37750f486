"""A node, its pod, WeChat and the rest of the internet, each in a network namespace; nothing leaves them."""

import atexit
import ctypes
import itertools
import os
import subprocess
import sys
import threading

LIBC = ctypes.CDLL(None, use_errno=True)

# All of them from the ranges that are set apart for documentation.
POD_IP = "192.0.2.10"
DNS_IP = "198.51.100.53"
WECHAT_IP = "198.51.100.110"
# WeChat's second host, for disasters; nobody listens there.
WECHAT_2_IP = "198.51.100.111"
ADDRESSES = {"api.weixin.qq.com": WECHAT_IP, "api2.weixin.qq.com": WECHAT_2_IP}

_count = itertools.count(1)


def checked(result):
    """The result of a call of libc, or its error as an exception."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def enter(path):
    """Moves this thread, and what it starts, into the namespace of this file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        checked(LIBC.setns(descriptor, 0))
    finally:
        os.close(descriptor)


def path_of(namespace):
    return f"/run/netns/{namespace}"


def inside(namespace, work, *arguments):
    """What `work` returns or raises in a network namespace: a thread can be in another one than its process."""
    outcome = []

    def thread():
        try:
            enter(path_of(namespace))
            outcome.append((work(*arguments), None))
        except Exception as problem:  # it is raised again below
            outcome.append((None, problem))

    worker = threading.Thread(target=thread, daemon=True)
    worker.start()
    worker.join()
    result, problem = outcome[0]
    if problem:
        raise problem
    return result


class Janitor:
    """A process that outlives this one, however it ends, and takes away what is left of it."""

    CODE = """
import shutil, subprocess, sys
left = [line.split(maxsplit=1) for line in sys.stdin]
for kind, name in left:
    if kind == "namespace":
        subprocess.run(["ip", "netns", "delete", name.strip()], stderr=subprocess.DEVNULL)
    else:
        shutil.rmtree(name.strip(), ignore_errors=True)
"""

    def __init__(self):
        # A session of its own, so that Ctrl-C is not for it; it reads until this process is gone.
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self.lock = threading.Lock()
        atexit.register(self.finish)

    def remember(self, kind, name):
        with self.lock:
            self.process.stdin.write(f"{kind} {name}\n")
            self.process.stdin.flush()

    def finish(self):
        self.process.stdin.close()
        self.process.wait()


class Network:
    """Four namespaces, with the node as the router between the others."""

    def __init__(self, janitor):
        self.name = f"pod-test-{os.getpid()}-{next(_count)}"
        self.names = [f"{self.name}-{place}" for place in ("node", "pod", "internet", "wechat")]
        self.node, self.pod, self.internet, self.wechat = self.names
        for name in self.names:
            janitor.remember("namespace", name)
            self._ip("netns", "add", name)
            self._ip("-n", name, "link", "set", "lo", "up")
        self._join(self.pod, "192.0.2.1/24", f"{POD_IP}/24", "192.0.2.1", "pod")
        self._join(self.internet, "203.0.113.1/30", "203.0.113.2/30", "203.0.113.1", "internet")
        self._join(self.wechat, "203.0.113.5/30", "203.0.113.6/30", "203.0.113.5", "wechat")
        # The internet has WeChat's address, too, with nobody behind it: that is how WeChat can refuse.
        for address in (DNS_IP, WECHAT_IP, WECHAT_2_IP):
            self._ip("-n", self.internet, "address", "add", f"{address}/32", "dev", "lo")
        self._ip("-n", self.wechat, "address", "add", f"{WECHAT_IP}/32", "dev", "lo")
        self._ip("-n", self.node, "route", "add", "default", "via", "203.0.113.2")
        self.sysctl(self.node, "net.ipv4.ip_forward", "1")

    def _join(self, other, here, there, gateway, link):
        """A wire between the node and another namespace."""
        self._ip("-n", self.node, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", other)
        for name, device, address in ((self.node, link, here), (other, "eth0", there)):
            self._ip("-n", name, "address", "add", address, "dev", device)
            self._ip("-n", name, "link", "set", device, "up")
        self._ip("-n", other, "route", "add", "default", "via", gateway)

    def _ip(self, *arguments):
        done = subprocess.run(["ip", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    def sysctl(self, namespace, name, value):
        """Sets a kernel setting of this namespace alone."""

        def write():
            with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
                file.write(value)

        inside(namespace, write)

    def wechat_answers(self):
        self._ip("-n", self.node, "route", "replace", WECHAT_IP, "via", "203.0.113.6")

    def wechat_refuses(self):
        """Its address is there, and nothing listens."""
        self._ip("-n", self.node, "route", "replace", WECHAT_IP, "via", "203.0.113.2")

    def wechat_is_swallowed(self):
        """Packets to it are dropped, and so are those to its second host."""
        for address in (WECHAT_IP, WECHAT_2_IP):
            self._ip("-n", self.node, "route", "replace", "blackhole", address)

    def internet_is_swallowed(self):
        """The same for all there is, DNS included."""
        self._ip("-n", self.node, "route", "replace", "blackhole", WECHAT_IP)
        self._ip("-n", self.node, "route", "replace", "blackhole", "default")

    def internet_is_back(self):
        self._ip("-n", self.node, "route", "replace", "default", "via", "203.0.113.2")

    def remove(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
