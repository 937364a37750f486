"""Injected pods run as a kubelet runs them, while tokens end, WeChat is away, and everything is told to stop.

    python3 tests/pod/run_pod.py --sidecar PATH --python VENV_PYTHON [scenario…]
    python3 tests/pod/run_pod.py --check     says why this machine cannot run pods, if it cannot

needs root, for network namespaces, and iproute2; where it cannot have them, it says so and exits with 77. VENV_PYTHON
is the Python that tests/run makes: it has wechatpy and aiohttp, and Node's packages are beside it.
"""

import argparse
import os
import shutil
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

# Nothing is to be left in the source tree.
sys.dont_write_bytecode = True

import scenarios
from network import Janitor, Network
from world import Tools, World


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("sidecar", "python"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--check", action="store_true", help="whether this machine can run pods")
    parser.add_argument("scenario", nargs="*", help="one of: " + ", ".join(scenarios.ALL))
    given = parser.parse_args()
    unknown = set(given.scenario) - set(scenarios.ALL)
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    if not given.check and not (given.sidecar and given.python):
        parser.error("--sidecar and --python are needed")
    return given


def obstacle(janitor):
    """Why this machine cannot run pods, or None."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if not shutil.which("ip"):
        return "there is no ip: it is in the package iproute2"
    # Root of a container may not be allowed to.
    try:
        Network(janitor).remove()
    except OSError as problem:
        return str(problem)
    return None


def run(name, tools, janitor):
    """Whether the scenario passed, and what is to be said about it."""
    scenario = scenarios.ALL[name]
    started = time.monotonic()
    world = None
    try:
        world = World(tools, janitor)
        said = scenario(world)
        sentence = scenario.__doc__.splitlines()[0].rstrip(".")
        return True, f"ok: {sentence} ({said}; {time.monotonic() - started:.1f} s)"
    except Exception:  # a failed assertion or anything else
        stories = "\n".join(pod.story() for pod in world.pods) if world else ""
        return False, f"FAILED: {name}\n{stories}\n{traceback.format_exc()}"
    finally:
        if world:
            world.close()


def main():
    given = arguments()
    # At once, as for SIGTERM; the janitor and the containers' runners notice.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    janitor = Janitor()
    problem = obstacle(janitor)
    if problem:
        print(f"this machine cannot run pods: {problem}")
        sys.exit(77)
    if given.check:
        return
    tools = Tools(*(os.path.abspath(path) for path in (given.sidecar, given.python)))
    names = given.scenario or list(scenarios.ALL)
    passed = 0
    # They mostly wait, so that two cores carry several.
    with ThreadPoolExecutor(max_workers=4) as pool:
        for well, text in pool.map(lambda name: run(name, tools, janitor), names):
            print(text, flush=True)
            passed += well
    failed = len(names) - passed
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
