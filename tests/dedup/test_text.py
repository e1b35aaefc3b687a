from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.dedup.text import conversation_text, normalise, normalise_all, prompt_text
from tunemill.rows import Message, Row, make_row

TURNS = [
    Message("system", "Be brief."),
    Message("user", "Where is it?"),
    Message("tool", "{}"),
    Message("assistant", "There."),
    Message("user", "Thanks"),
]


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_and_other_text_are_normalised_alike(text: str) -> None:
    # A letter from outside ASCII in front takes the slower way; what follows must come out the same.
    rest = normalise(f"é a {text}")
    assert rest == f"é {normalise(f'a {text}')}"


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.text() | st.text(st.characters(max_codepoint=127))))
def test_many_texts_are_normalised_as_one_by_one(texts: list[str]) -> None:
    assert normalise_all(texts) == [normalise(text) for text in texts]


def test_case_punctuation_and_white_space_do_not_count() -> None:
    assert normalise("  Where's\tmy CARD?!\n") == normalise("where s my card") == "where s my card"


def test_full_width_letters_ligatures_and_raised_digits_equal_plain_ones() -> None:
    assert normalise("\uff21\uff22 \ufb01ne ²") == "ab fine 2"


def test_the_vowel_signs_of_hindi_count() -> None:
    assert normalise("की") != normalise("का")


def test_an_emoji_beside_words_does_not_count() -> None:
    assert normalise("thanks ❤️") == normalise("thanks") == "thanks"


def test_two_emoji_alone_are_not_equal() -> None:
    assert normalise("👍") != normalise("👎")
    assert normalise("?") != normalise("!")


def test_the_system_turn_is_no_part_of_the_conversation() -> None:
    assert conversation_text(make_row(TURNS, "a" * 64, 1)) == "Where is it?\n{}\nThere.\nThanks"


def test_the_prompt_is_what_the_user_said() -> None:
    assert prompt_text(make_row(TURNS, "a" * 64, 1)) == "Where is it?\nThanks"


def calling(arguments: str) -> Row:
    call = Message("assistant", "", f'[{{"id":"call00001","name":"sum","arguments":{arguments}}}]')
    return make_row([TURNS[1], call], "a" * 64, 1)


def test_two_rows_that_differ_in_the_sign_of_an_argument_are_not_the_same_text() -> None:
    texts = [normalise(conversation_text(calling(f'{{"by":{number}}}'))) for number in (5, -5)]
    assert texts[0] != texts[1]
    assert texts[0].startswith("where is it name sum arguments by 5 ")
