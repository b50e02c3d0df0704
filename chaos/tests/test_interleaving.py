"""An interleaving is found wherever there is one, and nowhere else: by hand, and against a search of all of them."""

from __future__ import annotations

import random
from functools import cache

import pytest

from chaos.referee import interleaving
from chaos.referee.interleaving import Interleaving, Taken


def made(*words: str) -> Interleaving:
    """A letter is a character, a source the number of its word."""
    found = Interleaving()
    for source, word in enumerate(words):
        for offset, letter in enumerate(word):
            found.expect(source, offset, ord(letter))
    return found


def take(found: Interleaving, text: str) -> list[Taken | None]:
    return [found.take(ord(letter)) for letter in text]


def faults(found: Interleaving, text: str) -> str:
    """A sign a message: `.` in order, `<` too late, `?` not due; then what is missing."""
    signs = ["?" if one is None else "." if one.behind is None else "<" for one in take(found, text)]
    missing = found.outstanding(lambda source, offset: True)
    return "".join(signs) + "".join(sorted(chr(one.letter) for one in missing))


@pytest.mark.parametrize(
    ("words", "text", "due"),
    [
        (("abc",), "abc", "..."),
        (("abc",), "ab", "..c"),
        (("abc",), "acb", "..<"),
        (("abc",), "ac", "..b"),
        (("abc",), "abbc", "..?."),
        (("abc",), "abzc", "..?."),
        (("aab",), "aba", "..<"),
        (("abc", "xyz"), "axbycz", "......"),
        (("abc", "xyz"), "axcybz", "....<."),
        # Equal copies: the first found may be that of either source.
        (("xay", "uav"), "uaxvay", "......"),
        (("xay", "uav"), "uaxayv", "......"),
        (("xay", "uav"), "xuyaav", "....<."),
        (("xay", "uav"), "xayuav", "......"),
        (("xay", "uav"), "axuayv", ".<...."),
        (("ay", "av"), "aayv", "...."),
        (("ay", "av"), "ayva", "...<"),
        (("ay", "av"), "ayav", "...."),
        (("ay", "av"), "yaav", "..<."),
        (("ab", "ba"), "abba", "...."),
        (("ab", "ba"), "abab", "...."),
        (("ab", "ba"), "aabb", "...<"),
        (("a", "a"), "aaa", "..?"),
        (("a", "a"), "a", ".a"),
        (("aaa", "aaa", "b"), "aabaaa", "......a"),
        ((), "a", "?"),
    ],
)
def test_by_hand(words: tuple[str, ...], text: str, due: str) -> None:
    assert faults(made(*words), text) == due


def test_whose_a_message_was_is_told_where_only_one_may_have_sent_it() -> None:
    assert take(made("xay", "uav"), "xauayv") == [
        Taken(0, 0),
        Taken(0, 1),
        Taken(1, 0),
        Taken(1, 1),
        Taken(0, 2),
        Taken(1, 2),
    ]
    assert [one.source for one in take(made("xay", "uav"), "xuaayv")] == [0, 1, None, None, 0, 1]
    assert take(made("abc"), "acb")[2] == Taken(0, 1, behind=2)


def test_what_is_missing_is_that_of_the_way_by_which_least_is_due() -> None:
    found = made("a", "a")
    assert take(found, "a") == [Taken()]
    assert [len(found.outstanding(lambda source, offset: source == only)) for only in (0, 1)] == [0, 0]
    assert len(found.outstanding(lambda source, offset: True)) == 1


def test_more_may_be_due_at_any_time() -> None:
    found = made("xa", "a")
    assert take(found, "xa") == [Taken(0, 0), Taken()]
    found.expect(0, 2, ord("y"))
    found.expect(1, 1, ord("v"))
    assert faults(found, "vay") == "..."
    found = made("xa", "a")
    take(found, "xa")
    found.expect(0, 2, ord("y"))
    found.expect(1, 1, ord("v"))
    assert faults(found, "yva") == "..<"


def is_shuffle(words: tuple[str, ...], text: str) -> bool:
    @cache
    def search(places: tuple[int, ...]) -> bool:
        done = sum(places)
        if done == len(text):
            return True
        return any(
            place < len(word)
            and word[place] == text[done]
            and search((*places[:at], place + 1, *places[at + 1 :]))
            for at, (place, word) in enumerate(zip(places, words, strict=True))
        )

    return search((0,) * len(words))


def shuffled(chance: random.Random, words: tuple[str, ...]) -> str:
    left, text = [list(word) for word in words], ""
    while any(left):
        text += chance.choice([word for word in left if word]).pop(0)
    return text


def words_of(chance: random.Random, letters: str) -> tuple[str, ...]:
    return tuple("".join(chance.choices(letters, k=chance.randrange(6))) for _ in range(chance.randint(1, 4)))


@pytest.mark.parametrize("letters", ["ab", "abc", "abcdefgh"])
def test_a_search_of_all_ways_agrees(letters: str) -> None:
    chance, seen = random.Random(letters), {True: 0, False: 0}
    for _ in range(1_500):
        words = words_of(chance, letters)
        text = list(shuffled(chance, words))
        if len(text) > 1 and chance.random() < 0.7:
            one, other = chance.sample(range(len(text)), 2)
            text[one], text[other] = text[other], text[one]
        due = is_shuffle(words, "".join(text))
        seen[due] += 1
        found = faults(made(*words), "".join(text))
        assert (set(found) <= {"."}) is due, (words, text, found)
        assert "?" not in found and len(found) == len(text), (words, text, found)
    assert min(seen.values()) > 200


def test_what_is_lost_or_comes_again_is_named_so(letters: str = "abcd") -> None:
    """Nothing is out of order, so nothing may be called so where one alone is lost from a single source's end, or comes again."""
    chance = random.Random(1)
    for _ in range(1_000):
        words = words_of(chance, letters)
        text = shuffled(chance, words)
        if not text:
            continue
        assert faults(made(*words), text[:-1]) == "." * (len(text) - 1) + text[-1]
        assert faults(made(*words), text + text[-1]) == "." * len(text) + "?"
        assert faults(made(*words), text + "z") == "." * len(text) + "?"


@pytest.mark.parametrize("most", [1, 2, 4])
def test_beyond_the_limit_a_letter_is_counted_and_nothing_right_is_blamed(monkeypatch, most: int) -> None:
    monkeypatch.setattr(interleaving, "MOST_WAYS", most)
    chance, let_go = random.Random(most), 0
    for _ in range(1_500):
        words = words_of(chance, "abcd")
        text, found = shuffled(chance, words), made(*words)
        assert faults(found, text) == "." * len(text), (words, text)
        let_go += bool(found.loose)
        lost = chance.randrange(len(text)) if text else None
        if lost is not None:
            assert text[lost] in faults(made(*words), text[:lost] + text[lost + 1 :])
            assert "?" in faults(made(*words), text + text[lost])
    assert let_go > 50


def test_a_thousand_alike_take_no_time_and_the_others_keep_their_order() -> None:
    words = ("x" + "a" * 400 + "yz", "a" * 400 + "u", "a" * 400)
    assert faults(made(*words), "x" + "a" * 1_200 + "yuz") == "." * 1_204
    assert faults(made(*words), "x" + "a" * 1_200 + "zuy") == "." * 1_203 + "<"
    assert faults(made(*words), "x" + "a" * 1_199 + "yuz") == "." * 1_203 + "a"
