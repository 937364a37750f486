"""Faults of the store in which replicas share tokens."""

import asyncio

from drill.fault import ASKS_IN_VAIN, NO_TOKEN, Fault, Want
from drill.faults.tokens import REFUSED
from drill.scene import APPID
from lib.processes import free_port

KEY = f"wechat-sidecar:{{wechat:{APPID}}}:token"
PASSWORD = "right-password"
AWAY = ("WechatStoreAway",)


async def command(port, *words):
    """A command of Redis; its reply, if that is one line or one text."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        encoded = word if isinstance(word, bytes) else word.encode()
        parts += [f"${len(encoded)}\r\n".encode(), encoded, b"\r\n"]
    writer.write(b"".join(parts))
    reply = (await reader.readline()).decode(errors="replace").strip()
    if reply.startswith("$"):
        reply = (await reader.readexactly(max(int(reply[1:]), 0))).decode(errors="replace")
    writer.close()
    if reply.startswith("-"):
        raise RuntimeError(f"Redis answers {words[0]} with {reply}")
    return reply


async def start_redis(scene, name, *more):
    port = scene.notes.setdefault(name, free_port())
    nothing_kept = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0", "--dir", scene.folder]
    redis = scene.start(name, ["redis-server", "--bind", "127.0.0.1", "--port", port, *nothing_kept, *more])
    scene.notes[f"{name} program"] = redis
    await scene.until_listening(port, redis)
    return port


def shared(scene, port):
    """Classic tokens are shared in the Redis at this port."""
    scene.flags += ["--token-api", "classic", "--store", f"redis://127.0.0.1:{port}"]


async def with_redis(scene):
    shared(scene, await start_redis(scene, "redis"))


async def redis_dies(scene):
    scene.notes["redis program"].kill()


async def redis_lives(scene):
    await start_redis(scene, "redis")


async def with_wrong_password(scene):
    shared(scene, await start_redis(scene, "redis", "--requirepass", PASSWORD))
    scene.flags += ["--store-password-file", str(scene.write("password", "wrong-password"))]


async def right_password(scene):
    scene.write("password", PASSWORD)


async def with_foreign_value(scene):
    """As Redisson writes with its default codec."""
    await with_redis(scene)
    await command(scene.notes["redis"], "SET", KEY, b"\x03\x01\x10another_program's")


async def foreign_value_is_gone(scene):
    await command(scene.notes["redis"], "DEL", KEY)


async def with_two(scene):
    """The name of the store leads to the first of two."""
    port = await scene.start_relay(await start_redis(scene, "redis"))
    await start_redis(scene, "replica", "--replicaof", "127.0.0.1", str(scene.notes["redis"]))

    async def is_replica():
        return "master_link_status:up" in await command(scene.notes["replica"], "INFO", "replication")

    if await scene.until(is_replica, 30) is None:
        raise RuntimeError("the second Redis does not become a replica of the first")
    shared(scene, port)


async def failover(scene):
    """The second one is the primary now, but the name still leads to the first. Then the token ends."""
    await command(scene.notes["replica"], "REPLICAOF", "NO", "ONE")
    await command(scene.notes["redis"], "REPLICAOF", "127.0.0.1", str(scene.notes["replica"]))
    await asyncio.sleep(1)
    await scene.control("rotate")


async def name_follows(scene):
    """New connections reach the new primary, and old ones stay where they are."""
    scene.relay_leads_to(scene.notes["replica"])


FAULTS = [
    Fault(
        "redis-dead",
        "the Redis of shared tokens dies",
        Want("store_away", words=("connect|refused",), blames=("AppSecret", "whitelist"), alerts=AWAY),
        setup=with_redis,
        cause=redis_dies,
        end=redis_lives,
        # The store is asked every half minute.
        tell_within=45,
    ),
    Fault(
        "redis-password",
        "the password of Redis is wrong",
        Want(
            "store_away",
            app=(NO_TOKEN, "200 0"),
            words=("password",),
            slowest=15,
            also=("token_request_failed",),
            alerts=AWAY,
        ),
        setup=with_wrong_password,
        end=right_password,
        at_start=True,
        tell_within=30,
        over_within=100,
    ),
    Fault(
        "redis-foreign-value",
        "another program's value stands under the token's key",
        Want(
            "store_value",
            app=(NO_TOKEN,),
            ready=False,
            words=("key|Redisson|codec",),
            blames=("AppSecret", "whitelist"),
            slowest=15,
            also=("token_request_failed",),
            alerts=(*AWAY, *ASKS_IN_VAIN),
        ),
        setup=with_foreign_value,
        end=foreign_value_is_gone,
        at_start=True,
        tell_within=30,
    ),
    Fault(
        "redis-demoted",
        "the primary is a replica now and takes no writes",
        Want(
            "store_away",
            app=(*REFUSED, NO_TOKEN, "200 0"),
            words=("READONLY|read-only|replica",),
            slowest=15,
            also=("token_request_failed", "token_refused"),
            alerts=AWAY,
        ),
        setup=with_two,
        cause=failover,
        end=name_follows,
        tell_within=45,
    ),
]
