"""Faults of tokens: the secret, the quotas, other processes, and files with tokens."""

from drill import client
from drill.fault import ASKS_IN_VAIN, MISSING, NO_TOKEN, Fault, Want, turned
from drill.scene import APPID, NEW_SECRET, SECRET

FAILED = "token_request_failed"
REFUSED = ("200 40001", "200 40001 replayed", "200 40001 remembered")


def no_token(*words, blames=(), alerts=ASKS_IN_VAIN, **more):
    """What is said where there is no token from the start."""
    return Want(FAILED, app=(NO_TOKEN,), ready=False, words=words, blames=blames, alerts=alerts, **more)


async def new_secret(scene):
    scene.write("app-key", NEW_SECRET)


async def old_secret(scene):
    scene.write("app-key", SECRET)


async def reset_secret(scene):
    """In WeChat's console; this ends the token, too."""
    await scene.control("secret", appid=APPID, secret=NEW_SECRET)
    await scene.control("rotate")


async def classic(scene):
    """The classic token, of which a replaced one ends at once."""
    scene.flags += ["--token-api", "classic"]
    scene.fake_flags += ["--overlap", "0s"]


async def few_fetches(scene):
    await classic(scene)
    account = f'[[accounts]]\nappid = "{APPID}"\nsecret_file = "{scene.secret}"\n'
    scene.notes["config"] = account
    scene.configure(f"daily-fetches = 3\n{account}")


def kicked(seconds):
    """Another process asks for classic tokens, and ends those of the sidecar."""

    async def kick(scene):
        query = f"grant_type=client_credential&appid={APPID}&secret={SECRET}"
        action = lambda: client.ask(scene.wechat, "GET", f"/cgi-bin/token?{query}")
        scene.notes["kicker"] = scene.every(seconds, action)

    return kick


async def stop_kicks(scene):
    scene.notes["kicker"].cancel()


async def more_fetches(scene):
    await stop_kicks(scene)
    scene.configure(f"daily-fetches = 300\n{scene.notes['config']}")


async def from_a_file(scene):
    path = scene.folder / "token"
    scene.configure(f'[[accounts]]\nappid = "{APPID}"\ntoken.source = "file"\ntoken.file = "{path}"\n')


async def write_token(scene):
    """What keeps the file fresh writes the token that WeChat has now."""
    body = {"grant_type": "client_credential", "appid": APPID, "secret": SECRET}
    reply = await client.ask(scene.wechat, "POST", "/cgi-bin/stable_token", body)
    scene.write("token", reply.json()["access_token"])


async def remove_token(scene):
    (scene.folder / "token").unlink()


FAULTS = [
    Fault(
        "secret-wrong",
        "the AppSecret is wrong from the start",
        no_token("40125", "{folder}/app-key", blames=("whitelist",)),
        cause=new_secret,
        end=old_secret,
        at_start=True,
    ),
    Fault(
        "secret-reset",
        "somebody resets the AppSecret: token and secret are dead",
        Want(
            FAILED,
            app=(*REFUSED, NO_TOKEN),
            ready=False,
            words=("40125", "{folder}/app-key"),
            also=("token_refused",),
            alerts=("WechatTokenRefused", "WechatCallsNotReplayed", "WechatTokenRequestsFail"),
        ),
        cause=reset_secret,
        end=new_secret,
    ),
    turned(
        "secret-frozen",
        "the AppSecret is frozen: 40243 at the token",
        no_token("40243", "frozen", blames=("whitelist",)),
        {"token_errcode": 40243},
        {"token_errcode": None},
        at_start=True,
        # The second token request comes after a minute.
        over_within=110,
    ),
    turned(
        "ip-at-token",
        "the IP is not on the whitelist: 40164 at the token",
        no_token("40164", "114.221.21.30", "whitelist", alerts=(*ASKS_IN_VAIN, "WechatIpNotWhitelisted")),
        {"token_errcode": 40164},
        {"token_errcode": None},
        at_start=True,
    ),
    turned(
        "quota-of-tokens",
        "the quota of token requests is used up: 45009 at the token",
        # It asks again after a quarter of an hour.
        no_token("45009", "quota", alerts=(*MISSING, "WechatQuotaUsedUp")),
        {"token_errcode": 45009},
        {"token_errcode": None},
        at_start=True,
        long=True,
    ),
    turned(
        "busy-token",
        "WeChat answers -1 at the token",
        no_token("-1", "busy", blames=("secret", "whitelist")),
        {"token_errcode": -1},
        {"token_errcode": None},
        at_start=True,
    ),
    turned(
        "gateway-page-at-token",
        "WeChat's gateway answers token requests with a page and 502",
        no_token("502", blames=("secret", "whitelist")),
        {"token_status": 502},
        {"token_status": None},
        at_start=True,
    ),
    turned(
        "portal-at-token",
        "a captive portal answers token requests with a page and 200",
        no_token("HTML|JSON|no reply of WeChat", blames=("secret", "whitelist")),
        {"token_garbage": True},
        {"token_garbage": False},
        at_start=True,
    ),
    Fault(
        "token-kicked",
        "another process fetches classic tokens every 3 s",
        Want(
            "token_revoked",
            words=("another (process|service)",),
            also=("fetch_ceiling",),
            alerts=("WechatTokenRefusedOften", "WechatTokenRequestsNearLimit"),
            # The ceiling is reached after ten minutes.
            later_alerts=("WechatTokenRefused",),
        ),
        setup=classic,
        cause=kicked(3),
        end=stop_kicks,
    ),
    Fault(
        "fetch-ceiling",
        "the ceiling --daily-fetches is reached",
        Want(
            "fetch_ceiling",
            app=REFUSED,
            ready=False,
            words=("daily-fetches",),
            also=("token_refused", "token_revoked"),
            alerts=("WechatTokenRefused", "WechatTokenRequestsNearLimit"),
        ),
        setup=few_fetches,
        cause=kicked(1),
        end=more_fetches,
    ),
    Fault(
        "token-file-missing",
        "the file with the token (token.source = file) is missing",
        no_token("{folder}/token", blames=("secret", "whitelist")),
        setup=from_a_file,
        end=write_token,
        at_start=True,
    ),
    Fault(
        "token-file-removed",
        "the file with the token is removed later",
        Want(FAILED, words=("{folder}/token",), blames=("secret", "whitelist")),
        setup=from_a_file,
        before=write_token,
        cause=remove_token,
        end=write_token,
    ),
]
