"""Faults of one account among others, and of WeCom's accounts."""

from drill.app import ACCEPTED
from drill.fault import ASKS_IN_VAIN, NO_TOKEN, Fault, Want
from drill.faults.calls import wecom
from drill.faults.tokens import FAILED, no_token, new_secret, old_secret
from drill.scene import APPID, CORPID, SECRET

OTHER = "wxfedcba9876543210"


async def two_accounts(scene):
    """The second one's secret is wrong."""
    scene.app_options["other"] = {"headers": [f"X-Wechat-Appid: {OTHER}"]}
    other = scene.write("other-key", "0" * 32)
    scene.configure(
        f'[[accounts]]\nappid = "{APPID}"\nsecret_file = "{scene.secret}"\ndefault = true\n'
        f'[[accounts]]\nappid = "{OTHER}"\nsecret_file = "{other}"\n'
    )


async def both_known(scene):
    await scene.control("secret", appid=OTHER, secret=SECRET)


async def right_other_secret(scene):
    scene.write("other-key", SECRET)


async def only_the_other(scene, said):
    """The first account works, and nothing is said of it; the second one is unready if it is asked for."""
    outcomes = {sample.outcome for sample in scene.apps["app"].samples}
    found = [("app", f"the first account got {outcome}") for outcome in outcomes - set(ACCEPTED)]
    found += [(channel, "blames the first account") for channel in blaming(said)]
    reply = await scene.operator(f"/readyz?account={OTHER}")
    if reply is None or reply.status != 503:
        found.append(("readyz", f"says of the second account: {reply and reply.status}"))
    return found


def blaming(said):
    if any(problem["account"] == APPID for problem in said.problems or []):
        yield "accounts"
    if any(account == APPID for account, _ in said.open_kinds()):
        yield "metrics"
    if any(line["level"] == "WARN" and line.get("account") == APPID for line in said.log):
        yield "log"


FAULTS = [
    Fault(
        "wecom-secret",
        "the secret of a WeCom app is wrong",
        no_token("40001", "{folder}/app-key", account=CORPID, blames=("AppSecret", "whitelist")),
        setup=wecom,
        cause=new_secret,
        end=old_secret,
        at_start=True,
    ),
    Fault(
        "one-of-two",
        "one of two accounts has a wrong secret",
        Want(
            FAILED,
            app=(NO_TOKEN,),
            account=OTHER,
            words=("40125", "{folder}/other-key"),
            blames=("WECHAT_APPID", "{folder}/app-key"),
            alerts=ASKS_IN_VAIN,
        ),
        setup=two_accounts,
        before=both_known,
        end=right_other_secret,
        at_start=True,
        extra=only_the_other,
    ),
]
