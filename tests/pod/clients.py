"""A pod of clients that have https://api.weixin.qq.com in their code: a container for each."""

import glob
import os
import subprocess

from process import Image

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = "/clients"
# Debian's settings of Java, PHP and OpenSSL, and the links by which its programs are called.
SETTINGS = ("/etc/alternatives", "/etc/ssl", "/etc/php", "/etc/ca-certificates", "/usr/share/ca-certificates")


def commands(python):
    """What each container runs."""
    return {
        "python": [python, f"{CLIENTS}/client.py"],
        "curl": [python, f"{CLIENTS}/command.py", "curl", "--silent", "--show-error", "--fail"],
        "wget": [python, f"{CLIENTS}/command.py", "wget", "--quiet", "--tries=1", "--output-document=-"],
        "node": ["node", f"{CLIENTS}/client.mjs"],
        "go": ["/built/client"],
        "java": ["java", "-Xmx64m", "-cp", "/built", "Client"],
        "php": ["php", f"{CLIENTS}/client.php"],
        "ruby": ["ruby", f"{CLIENTS}/client.rb"],
        "perl": ["perl", f"{CLIENTS}/client.pl"],
    }


def build(folder):
    """Compiles those that have to be."""
    os.makedirs(folder)
    sources = f"{HERE}/clients"
    for command in (
        ["go", "build", "-o", f"{folder}/client", f"{sources}/client.go"],
        ["javac", "-d", folder, f"{sources}/Client.java"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def image(app, built):
    """The app's, with all clients and what Debian's programs want of /etc."""
    exists = [path for path in (*SETTINGS, *glob.glob("/etc/java-*"), "/bin") if os.path.exists(path)]
    files = app.files | {path: path for path in exists} | {CLIENTS: f"{HERE}/clients", "/built": built}
    return Image(files, ["none"], environment=app.environment)


def container(name, command):
    """As its owner writes it, who knows of no sidecar."""
    context = {
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    return {"name": name, "image": "clients:1", "command": command, "securityContext": context}


def containers(python):
    return [container(name, command) for name, command in commands(python).items()]


def once():
    """An init container that makes one call."""
    url = "https://api.weixin.qq.com/cgi-bin/user/get?access_token=any-text"
    return container("once", ["curl", "--silent", "--show-error", "--fail", url])
