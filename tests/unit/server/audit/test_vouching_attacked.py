"""Whatever somebody without a key does to a folder, nothing that he wrote is vouched for."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import START, Entry, Link, chained
from ct_ops_server.audit.heads import Head, SignedHead, key_name, sign_head
from ct_ops_server.audit.keys import announcement, unvouched
from ct_ops_server.audit.lines import Anchor, Record, line_of
from ct_ops_server.audit.reading import HEAD_FILE, file_name
from ct_ops_server.audit.vouching import vouched_chain
from unit.server.audit.audit_world import NOW_MS, entries

OURS, EVIL = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
OF = "installation-1"
Lines = list[Record]


def head(link: Link, key: Ed25519PrivateKey, name: str = "") -> SignedHead:
    return sign_head(Head(link, NOW_MS, OF, name or key_name(key.public_key())), key.sign)


def genuine(chance: random.Random) -> tuple[list[Entry], Lines]:
    """Return a chain, and a file of it with a head here and there."""
    chain = entries(chance.randint(1, 12))
    lines: Lines = [Anchor(START, NOW_MS, OF)]
    for entry in chain:
        lines.append(entry)
        if chance.random() < 0.3:
            lines.append(head(entry.link, OURS))
    return chain, lines


def forged_after(chance: random.Random, link: Link) -> Lines:
    """Return entries that follow a link by the book, and heads of the attacker's key, of its own name or of ours."""
    made = chance.choices(
        [
            Decision(Action.AGENT_APPROVED, "eve", agent="his"),
            announcement(EVIL.public_key()),
            Decision(Action.DATABASE_RESTORED, "eve", details=unvouched(1, chance.randint(0, 9))),
        ],
        k=chance.randint(1, 5),
    )
    written: Lines = list(chained(made, link, at_ms=NOW_MS + chance.randint(0, 9)))
    last = written[-1]
    assert isinstance(last, Entry)
    name = chance.choice(["", key_name(OURS.public_key())])
    return [*written, head(last.link, EVIL, name)] if chance.random() < 0.7 else written


def append(chance: random.Random, lines: Lines, chain: list[Entry]) -> Lines:
    return lines + forged_after(chance, chain[-1].link)


def branch(chance: random.Random, lines: Lines, chain: list[Entry]) -> Lines:
    link = chance.choice([START, *(entry.link for entry in chain)])
    made: Lines = [Anchor(link, NOW_MS, OF), *forged_after(chance, link)]
    return made + lines if chance.random() < 0.5 else lines + made


def shuffle(chance: random.Random, lines: Lines, chain: list[Entry]) -> Lines:
    first, second = sorted(chance.choices(range(len(lines)), k=2))
    lines = list(lines)
    lines[first], lines[second] = lines[second], lines[first]
    return lines


def take_out(chance: random.Random, lines: Lines, chain: list[Entry]) -> Lines:
    place = chance.randrange(len(lines))
    return lines[:place] + lines[place + 1 :]


def move_a_head(chance: random.Random, lines: Lines, chain: list[Entry]) -> Lines:
    heads = [line for line in lines if isinstance(line, SignedHead)]
    return [*lines, chance.choice(heads)] if heads else lines


ATTACKS: list[Callable[[random.Random, Lines, list[Entry]], Lines]] = [
    append,
    branch,
    shuffle,
    take_out,
    move_a_head,
]


@pytest.mark.parametrize("seed", range(300))
def test_attack_nothing_that_was_written_without_the_key_is_vouched_for(tmp_path: Path, seed: int) -> None:
    """By several of them, one after the other; and what is left of the true chain is believed as far as it was signed."""
    chance = random.Random(seed)
    chain, lines = genuine(chance)
    signed = max((line.head.link.seq for line in lines if isinstance(line, SignedHead)), default=0)
    for attack in chance.choices(ATTACKS, k=chance.randint(1, 4)):
        lines = attack(chance, lines, chain) if lines else lines
    split = chance.randint(0, len(lines))
    for number, part in enumerate((lines[:split], lines[split:]), 1):
        (tmp_path / file_name(number)).write_bytes(b"".join(map(line_of, part)))
    if chance.random() < 0.3:
        (tmp_path / HEAD_FILE).write_bytes(line_of(head(chain[-1].link, EVIL)))

    found = vouched_chain(tmp_path, START, keys=[OURS.public_key()], installation=OF)
    believed = [entry for entry in found.chain if found.vouches_for(entry)]

    assert believed == chain[: len(believed)]
    assert len(believed) <= signed


@pytest.mark.parametrize("seed", range(50))
def test_attack_what_is_only_added_takes_nothing_of_what_was_signed(tmp_path: Path, seed: int) -> None:
    """Neither a longer branch, nor a foreign head, nor a genuine one elsewhere."""
    chance = random.Random(seed)
    chain, lines = genuine(chance)
    signed = max((line.head.link.seq for line in lines if isinstance(line, SignedHead)), default=0)
    for attack in chance.choices([append, branch, move_a_head], k=3):
        lines = attack(chance, lines, chain)
    (tmp_path / file_name(1)).write_bytes(b"".join(map(line_of, lines)))

    found = vouched_chain(tmp_path, START, keys=[OURS.public_key()], installation=OF)

    assert chain[:signed] == [entry for entry in found.chain if found.vouches_for(entry)]
