"""Faults that calls meet: WeChat's errors, slow replies, pages of gateways, an endpoint and a caller."""

from drill.app import ACCEPTED, ENDPOINTS
from drill.fault import Fault, Want, turned
from drill.scene import CORPID

IP = "114.221.21.30"
HOPELESS = "/cgi-bin/customservice/getkflist"
DIFFERENT = HOPELESS + "?at={number}"
PAGES = ("WechatGatewayErrors", "WechatCallsFail")


def answered(name, errcode, kind, alert, text, *words):
    """All calls are answered with an errcode."""
    want = Want(kind, app=(f"200 {errcode}",), words=words, alerts=(alert,))
    return turned(name, text, want, {"errcode": errcode}, {"errcode": None})


async def wecom(scene):
    scene.fake_flags += ["--wecom"]
    account = f'[[accounts]]\nkind = "wecom"\ncorpid = "{CORPID}"\nsecret_file = "{scene.secret}"\n'
    scene.configure(f'{account}upstream = "{scene.upstream}"\n')


async def seldom(scene):
    scene.app_options["app"] = {"rate": 2}


def with_hopeless(path):
    async def setup(scene):
        scene.app_options["app"] = {"endpoints": (*ENDPOINTS[:3], ("GET", path))}

    return setup


async def bad_caller(scene):
    scene.start_app("bad caller", headers=["X-Wechat-Appid: wx00000000000000ff"])


async def bad_caller_stops(scene):
    await scene.apps.pop("bad caller").stop()


async def good_one_is_well(scene, _said):
    outcomes = {sample.outcome for sample in scene.apps["app"].samples}
    return [("app", f"the good app got {outcome}") for outcome in outcomes - set(ACCEPTED)]


async def others_are_well(scene, said):
    hopeless = len([sample for sample in said.samples if sample.outcome not in ACCEPTED])
    too_many = hopeless > len(said.samples) * 0.3
    return [("app", f"{hopeless} of {len(said.samples)} calls fail")] if too_many else []


async def histogram_tells(_scene, said):
    [(_, total)], [(_, count)] = (said.metric(f"wechat_sidecar_upstream_seconds_{part}") for part in ("sum", "count"))
    slow = count and total / count > 1
    return [] if slow else [("metrics", f"wechat_sidecar_upstream_seconds tells of {total} s in {count} calls")]


def hopeless(name, text, path, at_start=True):
    """Calls to one endpoint are refused whatever the token. Nobody is unready."""
    refused = ("200 40001", "200 40001 replayed", "200 40001 remembered")
    return turned(
        name,
        text,
        Want(
            "endpoint_refused",
            app=refused,
            words=(HOPELESS,),
            blames=("another service",),
            alerts=("WechatEndpointRefusesTokens",),
        ),
        {"refuse_always": [HOPELESS]},
        {"refuse_always": []},
        setup=with_hopeless(path),
        extra=others_are_well,
        at_start=at_start,
        # The endpoint is tried again now and then.
        over_within=150,
    )


FAULTS = [
    answered(
        "ip-on-calls",
        40164,
        "ip_rejected",
        "WechatIpNotWhitelisted",
        "calls are rejected for the IP: 40164",
        *("40164", IP, "whitelist"),
    ),
    answered(
        "ip-on-calls-61004",
        61004,
        "ip_rejected",
        "WechatPermissionOrIp",
        "calls are rejected for the IP: 61004",
        *("61004", IP),
    ),
    answered(
        "quota-of-calls",
        45009,
        "calls_quota",
        "WechatQuotaUsedUp",
        "the day's quota of calls is used up",
        *("45009", "quota"),
    ),
    answered(
        "quota-of-a-minute",
        45011,
        "calls_quota",
        "WechatQuotaUsedUp",
        "the minute's quota of calls is used up",
        *("45011", "minute"),
    ),
    answered("busy", -1, "busy", "WechatBusy", "WeChat answers -1 to calls", "busy", "WeChat's"),
    turned(
        "slow-5s",
        "replies take 5 s, which is slow but not wrong",
        Want(None, slowest=6, alerts=("WechatSlow",)),
        {"reply_delay_ms": 5000},
        {"reply_delay_ms": 0},
        extra=histogram_tells,
    ),
    turned(
        "slow-40s",
        "replies take 40 s, which is longer than --upstream-timeout",
        Want(
            "timeout",
            app=("504 990504 error",),
            slowest=33,
            words=("upstream-timeout",),
            alerts=("WechatCallsFail", "WechatSlow"),
        ),
        {"reply_delay_ms": 40000},
        {"reply_delay_ms": 0},
        setup=seldom,
        tell_within=45,
        # Calls of the last moment wait for half a minute.
        over_within=115,
    ),
    turned(
        "gateway-page",
        "WeChat's gateway answers calls with a page and 502",
        Want("upstream_error", app=("502 page",), words=("502",), alerts=PAGES),
        {"page": True, "status": 502},
        {"page": False, "status": None},
    ),
    turned(
        "portal-on-calls",
        "a captive portal answers calls with a page and 200",
        Want("upstream_error", app=("200 page",), words=("HTML|page",), alerts=PAGES),
        {"page": True},
        {"page": False},
    ),
    turned(
        "wecom-ip",
        "the IP is none of WeCom's trusted ones: 60020 on calls",
        Want(
            "ip_rejected",
            app=("200 60020",),
            account=CORPID,
            words=("60020", "203.0.113.7"),
            alerts=("WechatPermissionOrIp",),
        ),
        {"wecom_unlisted_ip": "203.0.113.7"},
        {"wecom_unlisted_ip": None},
        setup=wecom,
    ),
    hopeless("hopeless-endpoint", "one endpoint always refuses every token, for different calls", DIFFERENT),
    hopeless("hopeless-call", "one endpoint always refuses every token, for one and the same call", HOPELESS),
    hopeless("endpoint-lost", "an endpoint that worked refuses every token from now on", DIFFERENT, at_start=False),
    Fault(
        "bad-caller",
        "one app calls for an account that is not there; nobody is unready",
        Want("calls_rejected", app=("404 990404 error",), account="", words=("no such account",)),
        cause=bad_caller,
        end=bad_caller_stops,
        extra=good_one_is_well,
    ),
]
