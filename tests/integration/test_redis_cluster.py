"""The Redis end on a cluster of three masters: partitions, slots on the move, a master that is gone or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import redis
import redis.asyncio
from servers import Server, move_slot, owner_of

from penstock.sync.names import CLUSTER_PARTITIONS, Names, namespace_secret, slot_of, tags
from penstock.sync.redis import Call, Link, LinkError, Refused, Unknown, read_target
from penstock.sync.wire import (
    BUCKET,
    DUP,
    LOST,
    OK,
    Entry,
    Header,
    Reply,
    Rule,
    pack_entries,
    pack_header,
    unpack_reply,
)

INST = "00112233445566ff"
T = TypeVar("T")


@pytest.fixture
def names(masters: list[Server], request: pytest.FixtureRequest) -> Names:
    """A namespace for each test."""
    name = f"test-{abs(hash(request.node.name))}"
    return Names(name, namespace_secret(name, None), INST, CLUSTER_PARTITIONS)


def batch(names: Names, partition: int, seq: int, keys: int = 3) -> Call:
    """A batch of several keys of one partition, each with a debt of 1."""
    fps = [(index * CLUSTER_PARTITIONS + partition) << 48 | 12_345 for index in range(keys)]
    places = [names.state(partition, 0, False, fp) for fp in fps]
    header = pack_header(Header(seq, seq - 1, True, 50_000), [Rule(BUCKET, 1e7, 100.0, 100.0, 50.0)], keys)
    entries = pack_entries([Entry(0, debt=1)] * keys)
    return Call([*names.own(partition), *places], header, entries, INST)


def client_of(servers: list[Server]) -> Any:
    """What a user would give; it is not asked anything."""
    nodes = [redis.asyncio.cluster.ClusterNode(server.host, server.port) for server in servers]
    return redis.asyncio.RedisCluster(startup_nodes=nodes)


def with_link(given: Any, act: Callable[[Link], Awaitable[T]]) -> T:
    """Run a coroutine on a new link."""

    async def run() -> T:
        async with Link(read_target(given)) as link:
            return await act(link)

    return asyncio.run(run())


async def until_answered(link: Link, call: Call, within_s: float = 10.0) -> Reply:
    """The reply to a batch that is sent until it is answered."""
    loop = asyncio.get_running_loop()
    end, timeout_s = loop.time() + within_s, 0.05
    while True:
        try:
            return unpack_reply(await link.send(call, timeout_s))
        except LinkError:
            if loop.time() > end:
                raise
            timeout_s = min(1.0, 2 * timeout_s)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_every_partition_is_reached_at_once(masters: list[Server], names: Names, kind: str) -> None:
    async def act(link: Link) -> None:
        for seq in (1, 2, 3):
            calls = [link.send(batch(names, partition, seq), 2.0) for partition in range(CLUSTER_PARTITIONS)]
            replies = [unpack_reply(reply, 3) for reply in await asyncio.gather(*calls)]
            assert {reply.status for reply in replies} == {OK}
            assert {round(answer.a) for reply in replies for answer in reply.answers} == {100 - seq}
            assert {reply.members for reply in replies} == {1}

    if kind == "asyncio":
        with_link(client_of(masters), act)
    else:
        with redis.RedisCluster(host=masters[0].host, port=masters[0].port) as client:
            with_link(client, act)
    owners = [owner_of(masters, slot_of(tag)) for tag in tags(CLUSTER_PARTITIONS)]
    assert sorted({owners.count(i) for i in range(3)}) == [5, 6]


def test_a_node_given_as_a_plain_server_is_told(masters: list[Server], names: Names) -> None:
    call = batch(names, 0, 1)
    wrong = masters[(owner_of(masters, slot_of(tags(CLUSTER_PARTITIONS)[0])) + 1) % 3]
    with pytest.raises(Refused, match="a node of a cluster: give a RedisCluster client"):
        with_link(wrong.url, lambda link: link.send(call, 1.0))


def test_slots_that_move_meanwhile_lose_and_double_nothing(masters: list[Server], names: Names) -> None:
    partition, slot = 3, slot_of(tags(CLUSTER_PARTITIONS)[3])
    here = owner_of(masters, slot)
    there = (here + 1) % 3

    async def act(link: Link) -> list[Reply]:
        ends = []
        moving: asyncio.Task[None] | None = None
        for seq in range(1, 31):
            if seq in (5, 18):
                turn = (here, there) if seq == 5 else (there, here)
                moving = asyncio.create_task(asyncio.to_thread(moved, masters, slot, *turn))
            ends.append(await until_answered(link, batch(names, partition, seq)))
            if seq in (12, 25):
                assert moving is not None
                await moving
        return ends

    ends = with_link(client_of(masters), act)
    assert {reply.status for reply in ends} <= {OK, DUP}
    assert [round(reply.answers[0].a) for reply in ends] == list(range(99, 69, -1))


def moved(servers: list[Server], slot: int, source: int, target: int) -> None:
    """Move one slot with its keys."""
    with move_slot(servers, slot, source, target):
        pass


@pytest.mark.parametrize("how", ["hangs", "is gone"])
def test_a_master_that_is_away_takes_only_its_partitions_with_it(masters: list[Server], names: Names, how: str) -> None:
    victim = 1
    owners = [owner_of(masters, slot_of(tag)) for tag in tags(CLUSTER_PARTITIONS)]
    theirs = [partition for partition in range(CLUSTER_PARTITIONS) if owners[partition] == victim]
    others = [partition for partition in range(CLUSTER_PARTITIONS) if owners[partition] != victim]

    async def act(link: Link) -> None:
        await asyncio.gather(*(link.send(batch(names, partition, 1), 2.0) for partition in range(CLUSTER_PARTITIONS)))
        masters[victim].pause() if how == "hangs" else masters[victim].kill()

        async def goes_on(partition: int) -> None:
            for seq in range(2, 17):
                reply = unpack_reply(await link.send(batch(names, partition, seq), 1.0))
                assert reply.status == OK
                assert {round(answer.a) for answer in reply.answers} == {100 - seq}
                await asyncio.sleep(0.02)

        async def fails(partition: int) -> None:
            for _ in range(3):
                with pytest.raises(LinkError):
                    await link.send(batch(names, partition, 2), 0.1)

        try:
            await asyncio.gather(*map(goes_on, others), *map(fails, theirs))
        finally:
            masters[victim].resume() if how == "hangs" else masters[victim].restart()
        for partition in (*theirs, *others):
            seq = 17 if partition in others else 2
            reply = await until_answered(link, batch(names, partition, seq))
            forgotten = how == "is gone" and partition in theirs  # it has no disk in this test
            assert reply.status == LOST if forgotten else reply.status in (OK, DUP)

    with_link(client_of(masters), act)


def test_a_cluster_that_nobody_answers_for(tmp_path: Any) -> None:
    given = redis.asyncio.RedisCluster(host="127.0.0.1", port=1)
    names = Names("n", bytes(16), INST, CLUSTER_PARTITIONS)
    with pytest.raises(LinkError) as raised:
        with_link(given, lambda link: link.send(batch(names, 0, 1), 0.2))
    assert not isinstance(raised.value, Unknown)
    assert raised.value.where == "the cluster at 127.0.0.1:1"
