"""Faults of the way to WeChat: nobody listens, names, and certificates."""

import signal

from drill.certificates import certificate, certificates
from drill.fault import ASKS_IN_VAIN, Fault, Want
from drill.faults.tokens import no_token

NAME = "wechat.drill.invalid"
UNREACHABLE = "502 990502 error"
# A call that was under way when its connection ended.
BROKEN = "502 990500 error"
NOBODY_ELSE = ("secret", "whitelist")
NO_WAY = ("WechatUnreachable", "WechatCallsFail")


async def take_down(scene):
    scene.fake.kill()


async def bring_up(scene):
    await scene.start_fake()


async def unknown_name(scene):
    scene.flags += ["--connect-timeout", "3s"]
    scene.upstream = f"https://{NAME}"


def over_tls(name):
    """Between the sidecar and WeChat stands a relay that speaks TLS with this certificate."""

    async def setup(scene):
        port = await scene.start_relay(scene.wechat, certificate(name))
        scene.upstream = f"https://127.0.0.1:{port}"
        scene.flags += ["--upstream-ca", str(certificates() / "ca.pem")]

    return setup


def presented(name):
    async def present(scene):
        scene.relay_leads_to(scene.wechat, certificate(name))
        scene.relay.process.send_signal(signal.SIGHUP)

    return present


async def trusted(scene):
    """The sidecar trusts a file of the scene's own."""
    await over_tls("good")(scene)
    scene.flags[-1] = str(scene.write("ca.pem", (certificates() / "ca.pem").read_text()))


async def break_trusted(scene):
    scene.write("ca.pem", "not a certificate\n")


async def mend_trusted(scene):
    scene.write("ca.pem", (certificates() / "ca.pem").read_text())


FAULTS = [
    Fault(
        "down-at-start",
        "WeChat is down when the sidecar starts",
        no_token("refused", blames=("AppSecret", "whitelist"), alerts=(*ASKS_IN_VAIN, *NO_WAY)),
        cause=take_down,
        end=bring_up,
        at_start=True,
    ),
    Fault(
        "down-later",
        "WeChat goes down while all is well",
        Want(
            "unreachable",
            app=(UNREACHABLE, BROKEN),
            words=("refused",),
            blames=NOBODY_ELSE,
            also=("reply_broken",),
            alerts=NO_WAY,
        ),
        cause=take_down,
        end=bring_up,
    ),
    Fault(
        "dns",
        "the name of the upstream does not resolve",
        no_token(NAME, "DNS|resolve|name", blames=("AppSecret", "whitelist")),
        setup=unknown_name,
        at_start=True,
        tell_within=40,
        endless="no name server of its own",
    ),
    Fault(
        "tls-untrusted",
        "the certificate of the upstream is self-signed",
        no_token(
            *("TLS|certificate", "issuer|self-signed|trust"),
            blames=("AppSecret", "whitelist"),
            alerts=(*ASKS_IN_VAIN, *NO_WAY),
        ),
        setup=over_tls("self-signed"),
        end=presented("good"),
        at_start=True,
    ),
    Fault(
        "tls-wrong-name",
        "the certificate of the upstream is for another name",
        no_token(
            *("TLS|certificate", "is for .*, and not for"),
            blames=("AppSecret", "whitelist"),
            alerts=(*ASKS_IN_VAIN, *NO_WAY),
        ),
        setup=over_tls("other-name"),
        end=presented("good"),
        at_start=True,
    ),
    Fault(
        "tls-expired",
        "the certificate of the upstream expires while all is well",
        Want(
            "unreachable",
            app=(UNREACHABLE, BROKEN),
            words=("TLS|certificate", "expired"),
            blames=NOBODY_ELSE,
            also=("reply_broken",),
            alerts=NO_WAY,
        ),
        setup=over_tls("good"),
        cause=presented("expired"),
        end=presented("good"),
    ),
    Fault(
        "ca-file-broken",
        "the file of trusted certificates is overwritten with something else",
        Want(
            "file_unusable",
            account="",
            words=("{folder}/ca.pem|--upstream-ca", "holds no certificate"),
            blames=NOBODY_ELSE,
            # No sidecar would start with it.
            check=64,
        ),
        setup=trusted,
        cause=break_trusted,
        end=mend_trusted,
    ),
]
