"""What a fault is: how it is caused and ended, and what each channel has to say of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from drill.scene import APPID, Scene

Step = Callable[[Scene], Awaitable[None]]
# What an app gets while the sidecar has no token.
NO_TOKEN = "503 990503 error"
# It fires for every problem that goes on for ten minutes.
ANY_PROBLEM = "WechatProblem"
# What fires while an account has no token, and while the sidecar asks for one again and again.
MISSING = ("WechatTokenMissing", "WechatCallsFail")
ASKS_IN_VAIN = (*MISSING, "WechatTokenRequestsFail")


@dataclass(frozen=True)
class Want:
    """What has to be said."""

    # The kind of the problem; None if there is nothing to say.
    kind: str | None
    # What the app gets beside accepted calls: status, errcode, marks. At least one of them comes.
    app: tuple = ()
    # Whether /readyz answers 200.
    ready: bool = True
    # The account that is named; "" for the whole process.
    account: str = APPID
    # Regular expressions: log, /accounts and check contain all of `words`, and none of `blames`. In both, {folder} is
    # that of the scene.
    words: tuple = ()
    blames: tuple = ()
    # Kinds that may be open as well.
    also: tuple = ()
    # The longest that a call may take, in seconds.
    slowest: float = 3.0
    # Whether somebody reads the log.
    log: bool = True
    # What a line says in the end, if it is not a line of this kind: a regular expression.
    over: str = ""
    # Whether the admin port has to answer.
    admin: bool = True
    # What check exits with.
    check: int = 1
    # All alerts that fire within twenty minutes, beside ANY_PROBLEM, which fires for every kind.
    alerts: tuple = ()
    # Those that may fire when the fault really lasts so long, since it has become another one then.
    later_alerts: tuple = ()
    # Why none has to fire, if none has.
    no_alert: str = ""

    def __post_init__(self):
        if bool(self.all_alerts()) == bool(self.no_alert):
            raise ValueError(f"either alerts have to fire for {self.kind}, or there is a reason why not")

    def all_alerts(self):
        return {*self.alerts, ANY_PROBLEM} if self.kind else set(self.alerts)


async def all_said(_scene, _said):
    """No extra findings."""
    return []


async def nothing(_scene):
    """No step."""


@dataclass(frozen=True)
class Fault:
    """A fault.

    `setup` comes before all programs start, and `before` when the fake runs. `cause` comes before the sidecar starts
    (`at_start`) or when calls go well, and `end` when all was said. `extra` looks for what only this fault has. It
    gets the scene and what was said, and returns pairs of a channel and a sentence about what is false.
    """

    name: str
    text: str
    want: Want
    setup: Step = nothing
    before: Step = nothing
    cause: Step | None = None
    end: Step | None = None
    at_start: bool = False
    extra: Callable = all_said
    # How long it may take until the problem is told, how long it goes on then, and how long its end may take.
    tell_within: float = 20
    go_on: float = 12
    over_within: float = 85
    # Its end takes longer than anybody waits for: only with --long.
    long: bool = False
    # Why it is not ended.
    endless: str = ""


def knobs(**changes):
    """A step that turns knobs of the fake."""

    async def turn(scene):
        await scene.control("change", **changes)

    return turn


def turned(name, text, want, on, off, **more):
    """A fault of knobs: on, and off again."""
    return Fault(name, text, want, cause=knobs(**on), end=knobs(**off), **more)
