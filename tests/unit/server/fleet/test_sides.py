"""Who has spoken as an agent, and when that proves two of them alive (rule 19). Attacks and outages by name."""

from __future__ import annotations

import random

from msgspec.structs import replace

from ct_ops_server.fleet.sides import (
    MOST_SIDES,
    Proof,
    Side,
    SideLog,
    Sight,
    is_served,
    judge,
    likely_original,
    needs_history,
    quarantined,
    rivals_of,
    split,
)

MAC_A, MAC_B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
ORIGINAL = Side("192.0.2.1", "p-a", "o-1", "boot-a", "machine-a", "web-1", (MAC_A,), 1_700_000_000, "1.0", 5)
COPY = replace(ORIGINAL, address="192.0.2.2", process_id="p-b", boot_id="boot-b", macs=(MAC_B,))
EXISTING = Side("192.0.2.1", macs=(MAC_A,), booted_at_s=1_700_000_000)
EXISTING_COPY = Side("192.0.2.2", macs=(MAC_B,), booted_at_s=1_700_009_000)
SECOND_MS = 1_000


def tell(
    *sides: Side, every_s: float = 30, took_over: bool = True, interval_s: int | None = None, stored: int = 0
) -> list[Proof | None]:
    """Have these sides open streams one after the other; return what each opening proved."""
    log, proofs = SideLog(), []
    for number, side in enumerate(sides):
        now_ms = 1_000_000 + int(number * every_s * SECOND_MS)
        interval_ms = None if interval_s is None else interval_s * SECOND_MS
        judged = judge(log, Sight(side, now_ms, interval_ms, took_over and number > 0, stored))
        log = judged.log
        proofs.append(judged.proof)
    return proofs


def test_two_processes_that_take_the_stream_from_each_other_are_a_clone() -> None:
    """The original and the copy both come back: neither was gone."""
    assert [None, None, None, Proof.TWO_CAME_BACK] == tell(ORIGINAL, COPY, ORIGINAL, COPY)


def test_one_reconnect_is_never_a_clone() -> None:
    """The same process opens a stream as often as it likes, from wherever it is."""
    moved = replace(ORIGINAL, address="203.0.113.9")

    assert [None] * 8 == tell(*[ORIGINAL, moved] * 4, every_s=1)


def test_an_agent_that_systemd_restarts_twice_in_a_minute_is_no_clone() -> None:
    """Every start has a process id of its own, and none comes back."""
    restarted = [replace(ORIGINAL, process_id=f"p-{number}") for number in range(3)]

    assert [None] * 3 == tell(*restarted, every_s=20)


def test_an_agent_in_a_crash_loop_is_no_clone_however_long_it_lasts() -> None:
    """A thousand starts, five seconds apart."""
    starts = [replace(ORIGINAL, process_id=f"p-{number}") for number in range(1_000)]

    assert {None} == set(tell(*starts, every_s=5))


def test_a_live_migration_is_no_clone() -> None:
    """The same process goes on with another address."""
    assert [None, None, None] == tell(ORIGINAL, replace(ORIGINAL, address="192.0.2.99"), ORIGINAL)


def test_a_flapping_network_whose_old_streams_are_not_noticed_dead_is_no_clone() -> None:
    """An existing agent on two uplinks takes over from itself again and again."""
    elsewhere = replace(EXISTING, address="203.0.113.9", booted_at_s=EXISTING.booted_at_s + 2)

    assert {None} == set(tell(*[EXISTING, elsewhere] * 10, every_s=5))


def test_an_existing_host_with_two_uplinks_and_no_word_of_its_interfaces_is_no_clone() -> None:
    """An address alone proves nothing against anybody."""
    nameless = replace(EXISTING, macs=())

    assert {None} == set(tell(*[nameless, replace(nameless, address="203.0.113.9")] * 10, every_s=60))


def test_an_existing_host_that_two_nodes_see_boot_at_two_moments_is_no_clone() -> None:
    """Their clocks differ, not the host."""
    by_the_other = replace(EXISTING, booted_at_s=EXISTING.booted_at_s + 400)

    assert {None} == set(tell(*[EXISTING, by_the_other] * 10, every_s=60))


def test_a_vm_that_was_rolled_back_to_a_snapshot_of_its_disk_is_no_clone() -> None:
    """It boots again, with an outbox that is behind what the server has stored."""
    rolled_back = replace(ORIGINAL, process_id="p-later", boot_id="boot-later", acked_seq=2)

    assert [None, None] == tell(ORIGINAL, rolled_back, stored=40)


def test_a_vm_that_was_rolled_back_with_its_memory_is_no_clone() -> None:
    """The process of the snapshot comes back once; the one that it replaced never does."""
    restarted = replace(ORIGINAL, process_id="p-restarted")
    started_over = replace(ORIGINAL, outbox_id="o-2")

    assert {None} == set(tell(ORIGINAL, restarted, ORIGINAL, started_over, started_over, stored=40))


def test_a_vm_that_was_restored_onto_other_hardware_is_no_clone() -> None:
    """The old one does not come back, and that is what a copy would do."""
    restored = replace(COPY, acked_seq=1)

    assert [None, None] == tell(ORIGINAL, restored, every_s=86_400, stored=40)


def test_a_stolen_data_directory_that_is_used_while_the_host_sleeps_is_noticed_when_it_wakes() -> None:
    """The thief delivered as the agent; the host's own outbox knows nothing of it."""
    woken = replace(ORIGINAL, process_id="p-later", boot_id="boot-later")

    proofs = tell(ORIGINAL, COPY, woken, every_s=86_400, took_over=False, stored=40)

    assert [None, None, Proof.MACHINE_CAME_BACK] == proofs


def test_a_disk_that_is_moved_to_another_machine_and_back_is_no_clone() -> None:
    """The history moved with it: the outbox knows all that was delivered."""
    back = replace(ORIGINAL, process_id="p-later", boot_id="boot-later", acked_seq=40)

    assert [None, None, None] == tell(ORIGINAL, COPY, back, every_s=3_600, took_over=False, stored=40)


def test_a_vm_that_is_forked_with_its_memory_is_noticed_by_its_outboxes() -> None:
    """Both sides have one process id; where their histories fork, one of them starts an outbox of its own."""
    fork = replace(ORIGINAL, outbox_id="o-2")

    assert Proof.TWO_CAME_BACK == tell(ORIGINAL, fork, ORIGINAL, fork)[-1]


def test_three_alternating_take_overs_of_existing_agents_in_five_minutes_are_a_clone() -> None:
    """They say no process id: their interfaces and when they booted tell them apart."""
    proofs = tell(*[EXISTING, EXISTING_COPY] * 2, every_s=60)
    assert [None, None, None, Proof.TWO_CAME_BACK] == proofs


def test_existing_agents_that_alternate_slowly_or_in_peace_are_no_clone() -> None:
    """Two nodes of a cluster that hand one disk to each other end their streams before."""
    slowly = tell(*[EXISTING, EXISTING_COPY] * 4, every_s=301)
    in_peace = tell(*[EXISTING, EXISTING_COPY] * 4, every_s=30, took_over=False)

    assert {None} == {*slowly, *in_peace}


def test_agents_that_seldom_speak_have_longer() -> None:
    """With a heartbeat every ten minutes nobody notices in five that a stream was taken."""
    assert Proof.TWO_CAME_BACK == tell(ORIGINAL, COPY, ORIGINAL, COPY, every_s=600, interval_s=600)[-1]


def test_a_template_cloned_400_times_is_noticed_and_its_log_does_not_grow() -> None:
    """All boot at once and take the stream from one another; the first ones come back."""
    sides = [replace(COPY, process_id=f"p-{number}", boot_id=f"b-{number}") for number in range(400)]
    chance = random.Random(7)
    log, proof, now_ms, opened = SideLog(), None, 0, 0
    while proof is None and opened < 2_000:
        side = sides[opened] if opened < len(sides) else chance.choice(sides)
        judged = judge(log, Sight(side, now_ms, 30_000, took_over=True))
        log, proof, now_ms, opened = judged.log, judged.proof, now_ms + 80, opened + 1

    assert proof is Proof.TWO_CAME_BACK
    assert len(log.seen) == MOST_SIDES
    assert log.others >= 400 - MOST_SIDES


def test_a_side_that_reconnects_is_not_stored_each_time() -> None:
    """A server that starts again has its whole fleet reconnect: the logs say it all already."""
    log = judge(SideLog(), Sight(ORIGINAL, 1_000)).log

    assert not judge(log, Sight(ORIGINAL, 2_000)).is_news
    assert judge(log, Sight(ORIGINAL, 62_000)).is_news


def test_history_is_asked_for_only_when_a_replaced_machine_is_back() -> None:
    """So that opening a stream costs no further statement."""
    log = judge(judge(SideLog(), Sight(ORIGINAL, 1_000)).log, Sight(COPY, 2_000)).log

    assert needs_history(log, replace(ORIGINAL, process_id="p-later"))
    assert not needs_history(log, replace(COPY, process_id="p-later"))
    assert not needs_history(SideLog(), ORIGINAL)


def log_of(*sides: Side) -> SideLog:
    """Return the log of an agent whose streams these sides opened."""
    log = SideLog()
    for number, side in enumerate(sides):
        log = judge(log, Sight(side, 1_000_000 + number * SECOND_MS)).log
    return quarantined(log, Proof.TWO_CAME_BACK, 1_000_000)


def test_after_a_split_the_kept_host_is_known_by_the_first_sign_that_tells_it_from_its_copies() -> None:
    """Its boot, then its machine, then its address; the copy by none of them."""
    log = split(log_of(ORIGINAL, COPY), 0)
    restarted = replace(ORIGINAL, process_id="p-c")
    rebooted = replace(restarted, boot_id="boot-c", address="203.0.113.1")
    copy_rebooted = replace(COPY, process_id="p-d", boot_id="boot-d", address=ORIGINAL.address)

    assert [True, True, True] == [is_served(log, side) for side in (ORIGINAL, restarted, rebooted)]
    assert [False, False, False] == [is_served(log, side) for side in (COPY, copy_rebooted, None)]


def test_after_a_split_of_hosts_that_look_alike_the_address_decides() -> None:
    """A machine that was copied with its interfaces; from a third address nobody can tell, so it is not served."""
    alike = replace(COPY, macs=ORIGINAL.macs)
    log = split(log_of(ORIGINAL, alike), 0)
    rebooted = replace(ORIGINAL, process_id="p-c", boot_id="boot-c")
    elsewhere = replace(rebooted, address="203.0.113.1")

    assert [True, False] == [is_served(log, side) for side in (rebooted, elsewhere)]
    assert not is_served(log, replace(rebooted, address=alike.address))


def test_after_a_split_of_machines_that_were_forked_with_their_memory_the_address_decides() -> None:
    """Their boot is one, so it tells nothing: the kept host is served after a restart of its agent, and the fork is not."""
    fork = replace(ORIGINAL, outbox_id="o-2", address="192.0.2.2")
    log = split(log_of(ORIGINAL, fork), 0)
    restarted = replace(ORIGINAL, process_id="p-c")
    fork_restarted = replace(fork, process_id="p-d")

    assert [True, False] == [is_served(log, side) for side in (restarted, fork_restarted)]


def test_attack_a_thief_who_claims_to_be_the_very_host_is_neither_the_original_nor_served() -> None:
    """Boot, machine, interfaces and outbox can be claimed by whoever has read them; the address cannot."""
    thief = replace(ORIGINAL, process_id="p-x", address="203.0.113.66")
    log = log_of(ORIGINAL, thief, ORIGINAL, thief)
    place = likely_original(log)
    assert place is not None
    after = split(log, place)
    again = replace(thief, process_id="p-y", address="203.0.113.67")

    assert ORIGINAL == after.kept
    assert [True, False, False] == [is_served(after, side) for side in (ORIGINAL, thief, again)]
    assert is_served(after, replace(ORIGINAL, process_id="p-restarted"))


def test_a_come_back_of_a_day_that_never_was_proves_nothing() -> None:
    """The database's clock was years ahead for an hour; a rollback long after it is put right is alone."""
    log, year_ms = SideLog(), 365 * 86_400 * SECOND_MS
    restarted = replace(ORIGINAL, process_id="p-restarted")
    for number, side in enumerate((ORIGINAL, restarted, ORIGINAL)):
        log = judge(log, Sight(side, 5 * year_ms + number * SECOND_MS)).log

    assert judge(log, Sight(restarted, year_ms)).proof is None
    assert Proof.TWO_CAME_BACK == judge(log, Sight(restarted, 5 * year_ms - SECOND_MS)).proof


def test_a_kept_process_that_starts_its_outbox_over_is_no_rival_of_itself() -> None:
    """Where histories fork, one process has two outboxes, one after the other."""
    started_over = replace(ORIGINAL, outbox_id="o-2")
    log = split(log_of(ORIGINAL, COPY, started_over), 0)

    assert all(is_served(log, side) for side in (ORIGINAL, started_over, replace(ORIGINAL, outbox_id="o-3")))
    assert not is_served(log, COPY)


def test_of_a_process_that_was_forked_with_its_memory_the_outbox_tells_who_is_kept() -> None:
    """Everything else is the same on both."""
    fork = replace(ORIGINAL, outbox_id="o-2")
    log = split(log_of(ORIGINAL, fork), 0)

    assert [True, False] == [is_served(log, side) for side in (ORIGINAL, fork)]


def test_the_original_is_the_living_side_whose_host_was_there_first() -> None:
    """Not a process of last week, which could never be served again; nor the copy that came back first."""
    last_week = replace(ORIGINAL, process_id="p-0", boot_id="boot-0")
    log = SideLog()
    for number, side in enumerate((last_week, COPY, ORIGINAL, COPY, ORIGINAL)):
        judged = judge(log, Sight(side, 1_000_000 + number * SECOND_MS))
        log = judged.log if judged.proof is None else quarantined(judged.log, judged.proof, 1_004_000)
    place = likely_original(log)

    assert place is not None
    assert ORIGINAL == log.seen[place].side
    assert (COPY,) == rivals_of(log, place)


def test_a_host_that_was_restarted_while_in_quarantine_is_no_rival_of_itself() -> None:
    """Neither its agent nor its host: the process that runs now keeps the agent, and so does the next one."""
    for restarted in (
        replace(ORIGINAL, process_id="p-now"),
        replace(ORIGINAL, process_id="p-now", boot_id="boot-now"),
    ):
        alike = replace(COPY, macs=())
        log = log_of(replace(ORIGINAL, macs=()), alike, replace(ORIGINAL, macs=()), alike)
        now = replace(restarted, macs=())
        log = judge(log, Sight(now, 2_000_000)).log
        place = likely_original(log)
        assert place is not None
        after = split(log, place)
        later = replace(now, process_id="p-later", boot_id="boot-later")

        assert now == after.kept
        assert (alike,) == after.rivals
        assert [True, True, False] == [is_served(after, side) for side in (now, later, alike)]


def test_attack_copies_behind_one_address_are_rivals_all_the_same() -> None:
    """They are seen by turns, so they are two processes, whatever they say that they run on."""
    original, copy = replace(ORIGINAL, macs=()), replace(COPY, macs=(), address=ORIGINAL.address)
    log = split(log_of(original, copy, original, copy), 0)

    assert (copy,) == log.rivals
    assert [True, False] == [is_served(log, side) for side in (original, copy)]
