import io

import numpy as np
import pytest
from PIL import Image

from tests.pictures import encode, photo
from tlkeras.data import duplicates
from tlkeras.data.duplicates import NEAR_BITS, informative, joined, near_pairs
from tlkeras.data.verdicts import dhash
from tlkeras.images.decode import decode


def bits_apart(a: bytes, b: bytes) -> int:
    return int(np.bitwise_count(np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8)).sum())


def hash_of(data: bytes) -> bytes:
    return dhash(decode(data).pixels)


@pytest.mark.parametrize("seed", range(4))
def test_copies_are_near_and_other_pictures_far(seed):
    picture = photo(300, 220, seed)
    original = hash_of(encode(picture, "JPEG", quality=92))
    again = Image.open(io.BytesIO(encode(picture, "JPEG", quality=92)))
    assert bits_apart(original, hash_of(encode(again, "JPEG", quality=60))) <= NEAR_BITS
    assert bits_apart(original, hash_of(encode(again.resize((270, 198)), "PNG"))) <= NEAR_BITS
    assert bits_apart(original, hash_of(encode(photo(300, 220, seed + 50), "JPEG"))) > 3 * NEAR_BITS


def test_bits_say_where_it_gets_brighter():
    ramp = np.repeat(np.tile(np.arange(0, 255, 5, dtype=np.uint8), (51, 1))[..., None], 3, axis=2)
    assert dhash(ramp) == b"\xff" * 32
    assert dhash(ramp[:, ::-1].copy()) == bytes(32)


def crowd(n: int, seed: int = 0) -> np.ndarray:
    """Random hashes, some of them copies of others with up to 20 bits turned."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (n, 256), dtype=np.uint8)
    for copy in range(0, n // 2, 3):
        bits[n - 1 - copy] = bits[copy]
        turned = random.choice(256, random.integers(0, 21), replace=False)
        bits[n - 1 - copy, turned] ^= 1
    return np.packbits(bits, axis=1)


def brute_force(hashes: np.ndarray) -> set[tuple[int, int]]:
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2, dtype=int)
    good = informative(hashes)
    i, j = np.nonzero((distances <= NEAR_BITS) & good[:, None] & good[None])
    return {(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if a < b}


@pytest.mark.parametrize("all_pairs", [False, True])
def test_exactly_the_near_pairs_are_found(monkeypatch, all_pairs):
    if all_pairs:
        # Bands that tell nothing apart.
        monkeypatch.setattr(duplicates, "_bands", lambda hashes, count: [np.zeros(len(hashes), int)] * count)
        monkeypatch.setattr(duplicates, "_BLOCK", 1000)
    hashes = crowd(300)
    hashes[7] = hashes[8] = 0
    found = {pair for i, j in near_pairs(hashes) for pair in zip(i.tolist(), j.tolist(), strict=True)}
    assert found == brute_force(hashes)
    assert 20 < len(found) < 60


def test_plain_pictures_match_nothing():
    plain = np.zeros((50, 32), np.uint8)
    plain[::2, 0] = 0x41
    assert not informative(plain).any()
    assert list(near_pairs(plain)) == []
    assert list(near_pairs(crowd(1))) == []


def test_a_film_of_thousands_of_frames_is_one_group():
    film = np.repeat(crowd(2)[:1], 3000, axis=0)
    assert joined(3000, near_pairs(film)).max() == 0


def test_groups_follow_chains_and_are_numbered_by_first_appearance():
    pairs = [(np.array([4]), np.array([5])), (np.array([1, 2]), np.array([2, 5]))]
    assert joined(7, iter(pairs)).tolist() == [0, 1, 1, 2, 1, 1, 3]
    assert joined(0, iter(())).tolist() == []
