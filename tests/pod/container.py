"""Runs one container: its own root, pids, user and capabilities, in its pod's network namespace.

    container.py SPEC STATUS     runs the container that the JSON file SPEC describes
    container.py SPEC PID        runs SPEC's command inside the container whose first process is PID

What runs ends with this program, and this program with its standard input, which the kubelet holds. There is no
seccomp profile; the rest is as a container runtime does it.
"""

import ctypes
import json
import os
import select
import signal
import stat
import sys
import time

from network import LIBC, checked, enter, path_of

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID = 0x20000, 0x4000000, 0x8000000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
LAST_CAPABILITY = 63

# What containerd and Docker leave a container.
USUAL = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
    "NET_BIND_SERVICE": 10, "NET_RAW": 13, "SYS_CHROOT": 18, "MKNOD": 27, "AUDIT_WRITE": 29, "SETFCAP": 31,
}  # fmt: skip


def mount(source, target, kind=None, flags=0, data=None):
    encoded = [text if text is None else text.encode() for text in (source, target, kind)]
    data = data if data is None else data.encode()
    checked(LIBC.mount(*encoded, ctypes.c_ulong(flags), data))


def bind(source, target, read_only):
    """Shows a file or a folder of the machine at another place."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        mount(None, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def make_root(spec):
    """A root that has the image and the volumes, and nothing else of the machine."""
    root = spec["root"]
    mount(None, "/", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", data="mode=755")
    for target, source in spec["image"].items():
        place = root + target
        # Debian's /lib is a link to usr/lib.
        if os.path.islink(source) and not os.path.isabs(os.readlink(source)):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.symlink(os.readlink(source), place)
        else:
            bind(source, place, read_only=True)
    os.makedirs(f"{root}/proc")
    mount("proc", f"{root}/proc", "proc")
    for device in ("null", "zero", "random", "urandom"):
        bind(f"/dev/{device}", f"{root}/dev/{device}", read_only=False)
    os.makedirs(f"{root}/tmp", exist_ok=True)
    os.chmod(f"{root}/tmp", stat.S_ISVTX | 0o777)
    for volume in spec["mounts"]:
        bind(volume["source"], root + volume["target"], volume["readOnly"])
    os.chdir(root)
    checked(LIBC.pivot_root(b".", b"."))
    checked(LIBC.umount2(b".", MNT_DETACH))
    os.chdir("/")
    if spec["readOnlyRoot"]:
        mount(None, "/", flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def become(spec):
    """Gives up what the security context takes away."""
    added, dropped = ({name.removeprefix("CAP_") for name in spec[key]} for key in ("addCaps", "dropCaps"))
    kept = set() if "ALL" in dropped else {USUAL[name] for name in USUAL.keys() - dropped}
    kept |= {USUAL[name] for name in added}
    for capability in range(LAST_CAPABILITY + 1):
        if capability not in kept:
            # Beyond the last one that the kernel knows it fails, as it may.
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups(spec["groups"])
    os.setresgid(spec["gid"], spec["gid"], spec["gid"])
    os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    # Only now, because a change of user takes it back.
    checked(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if spec["noNewPrivileges"]:
        checked(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def execute(spec):
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.environ.clear()
    os.execvpe(spec["command"][0], spec["command"], spec["env"])


def first_process(spec, status):
    if spec["root"]:
        make_root(spec)
        LIBC.sethostname(spec["hostname"].encode(), len(spec["hostname"]))
    os.write(status, b"ready\n")
    os.close(status)
    time.sleep(spec["delay"])
    become(spec)
    execute(spec)


def child(work, *arguments):
    """A child that does the work, or says why it could not."""
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)
        except BaseException as problem:
            print(f"cannot start {arguments[0]['command'][0]}: {problem!r}", file=sys.stderr, flush=True)
            os._exit(128)
    return pid


def wait_for(pid):
    """Ends as the child does, and ends it with the kubelet."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    # No thread does this, because a process whose children have pids of their own can have none.
    ended = os.pidfd_open(pid)
    while ended not in select.select([0, ended], [], [])[0]:
        if not os.read(0, 1024):
            os.kill(pid, signal.SIGKILL)
            break
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.exit(code if code >= 0 else 128 - code)


def main():
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    if spec.get("enter"):
        # The mount namespace is the last, because the paths of the others lie in the machine's.
        descriptors = [os.open(f"/proc/{sys.argv[2]}/ns/{kind}", os.O_RDONLY) for kind in ("net", "pid", "uts", "mnt")]
        for descriptor in descriptors:
            checked(LIBC.setns(descriptor, 0))
            os.close(descriptor)

        def inside_it(spec):
            become(spec)
            execute(spec)

        wait_for(child(inside_it, spec))
    status = int(sys.argv[2])
    enter(path_of(spec["network"]))
    if spec["root"]:
        checked(LIBC.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS))
    pid = child(first_process, spec, status)
    os.write(status, f"{pid}\n".encode())
    os.close(status)
    wait_for(pid)


if __name__ == "__main__":
    main()
