"""One question about what tells the thing apart: how tolerantly replies are read, and that they are kept."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visa.sampling.answer_cache import AnswerCache
from visa.steerseg.attributes import (
    Attributes,
    AttributeSettings,
    attribute_question,
    find_attributes,
    grounding_question,
    read_reply,
)

CAT = ("gray and white", "on the left", "small")
CAT_JSON = '{"attributes": ["gray and white", "on the left", "small"], "reason": "It is the only cat."}'
ASKED = AttributeSettings(ask=True, max_new_tokens=128, at_most=3, ask_for_object=True)


@pytest.mark.parametrize(
    "reply",
    [
        CAT_JSON,
        f"```json\n{CAT_JSON}\n```",
        f"```\n{CAT_JSON}\n```\nI hope this helps!",
        f"```json\n{CAT_JSON}",  # the fence never closed
        f"Sure, here it is: {CAT_JSON} The cat is {{small}}.",
        f"{{thinking}} {CAT_JSON}",
        CAT_JSON.replace('"', "'"),
        CAT_JSON.replace('"small"]', '"small",]'),
        CAT_JSON.replace('"attributes"', '"Attributes"'),
        CAT_JSON.replace("small", " small. "),
        CAT_JSON.replace('"on the left"', '"on the left", "on the left"'),
        CAT_JSON.replace('"small"', '"small", 7, null, ["x"]'),
        CAT_JSON.replace(
            '["gray and white", "on the left", "small"]', '"gray and white, on the left, small"'
        ),
        CAT_JSON.replace(
            '["gray and white", "on the left", "small"]',
            '{"colour": "gray and white", "position": "on the left", "size": "small"}',
        ),
        '{"attributes": ["gray and white", "on the left", "small"], "reason": "It is the on',  # cut off
        "{'attributes': ['gray and white', 'on the left', 'small'], 'reason': 'It's the cat'}",
        "attributes: [gray and white, on the left, small]",
        "**Attributes** = (“gray and white”, “on the left”, “small”)".replace("**", ""),
    ],
)
def test_a_reply_in_all_shapes_gives_the_same_attributes(reply):
    assert read_reply(reply).phrases == CAT


def test_the_reason_is_kept():
    assert read_reply(CAT_JSON).reason == "It is the only cat."
    assert read_reply('{"attributes": ["red"], "reason": ["a", "b"]}') == Attributes(("red",), "")


@pytest.mark.parametrize(
    ("reply", "phrases"),
    [
        ('{"attributes": ["灰白色", "在左边", "小"], "reason": "唯一的猫"}', ("灰白色", "在左边", "小")),
        ('{"attributes": "灰白色、在左边，小"}', ("灰白色", "在左边", "小")),
        ('{"attributes": ["серый", "слева"], "reason": "…"}', ("серый", "слева")),
        ('{"attributes": ["\\u7070\\u767d"]}', ("灰白",)),
        ('{"attributes": ["قطة رمادية"]}', ("قطة رمادية",)),
        ("“attributes”：[“灰白色”，“在左边”]", ("灰白色", "在左边")),
    ],
)
def test_attributes_in_another_language_are_attributes(reply, phrases):
    assert read_reply(reply).phrases == phrases
    question = grounding_question("the cat", read_reply(reply))
    assert "; ".join(phrases) in question


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "The cat on the left.",
        "{",
        "{}",
        "[]",
        "null",
        '{"attributes": []}',
        '{"attributes": ["...", "...", "..."], "reason": "..."}',  # the template, sent back
        '{"attributes": 3}',
        '{"attributes": [[7]]}',
        '{"colour": "red"}',
        '{"attributes": ["' + "a very long story " * 20 + '"]}',
        "{" * 5000,
        "\x00\ud800",
    ],
)
def test_a_reply_without_attributes_gives_none(reply):
    assert read_reply(reply).phrases == ()


@given(st.text(max_size=300))
def test_no_reply_breaks_the_reading(reply):
    for text in (reply, f'{{"attributes": [{reply}', f"attributes: [{reply}]"):
        read = read_reply(text)
        assert len(read.phrases) <= 3
        assert all(phrase and "\n" not in phrase for phrase in read.phrases)


@given(
    st.lists(
        st.text(st.characters(categories=["L"]), min_size=1, max_size=20), min_size=1, max_size=3, unique=True
    )
)
def test_written_attributes_are_read_again(phrases):
    for ascii_only in (True, False):
        reply = json.dumps({"attributes": phrases, "reason": "so"}, ensure_ascii=ascii_only)
        assert read_reply(reply) == Attributes(tuple(phrases), "so")


def test_at_most_so_many_are_used():
    assert read_reply(CAT_JSON, at_most=2).phrases == CAT[:2]


def test_what_the_model_is_asked():
    asked = attribute_question('the {cat} "Tom"')
    assert 'the {cat} "Tom"' in asked
    assert '{"attributes": [' in asked
    plain = grounding_question("the cat?", Attributes())
    assert plain.startswith("the cat?\n")
    assert "ttributes" not in plain
    steered = grounding_question("the cat?", Attributes(CAT, "never shown"))
    assert "Attributes: gray and white; on the left; small." in steered
    assert "never shown" not in steered
    bare = Attributes(CAT)
    assert grounding_question("the cat?", Attributes(), ask_for_object=False) == "the cat?"
    assert grounding_question("the cat?", bare, ask_for_object=False).endswith("on the left; small.")


class Model:
    """Replies with the same words and counts how often it is asked."""

    def __init__(self, reply: str):
        self.reply, self.asked = reply, []

    def __call__(self, question: str) -> str:
        self.asked.append(question)
        return self.reply


def test_the_model_is_asked_once_and_the_reply_kept_as_json(tmp_path):
    model, cache = Model(CAT_JSON), AnswerCache(tmp_path / "attributes")
    where = {"cache": cache, "video": "hash", "model": "tiny"}
    first = find_attributes(model, "the cat", ASKED, **where)
    assert first.phrases == CAT
    again = find_attributes(Model("never"), "the cat", ASKED, **where)
    assert again == first
    assert len(model.asked) == 1
    (file,) = (tmp_path / "attributes").iterdir()
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["question"] == "the cat"
    assert kept["answers"] == [CAT_JSON]

    other = Model('{"attributes": ["other"]}')
    for changed in ({"video": "other"}, {"model": "other"}):
        assert find_attributes(other, "the cat", ASKED, **where | changed).phrases == ("other",)
    assert find_attributes(other, "the dog", ASKED, **where).phrases == ("other",)
    assert len(other.asked) == 3


def test_a_reply_in_another_language_is_kept_as_it_is(tmp_path):
    reply = '{"attributes": ["灰白色"], "reason": "猫"}'
    where = {"cache": AnswerCache(tmp_path), "video": "hash", "model": "tiny"}
    assert find_attributes(Model(reply), "那只猫", ASKED, **where).phrases == ("灰白色",)
    assert find_attributes(Model(""), "那只猫", ASKED, **where).phrases == ("灰白色",)


def test_a_damaged_file_is_asked_for_again(tmp_path):
    where = {"cache": AnswerCache(tmp_path), "video": "hash", "model": "tiny"}
    find_attributes(Model(CAT_JSON), "the cat", ASKED, **where)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:40])
    assert find_attributes(Model(CAT_JSON), "the cat", ASKED, **where).phrases == CAT


def test_no_json_is_logged_and_nothing_is_lost(tmp_path, caplog):
    where = {"cache": AnswerCache(tmp_path), "video": "hash", "model": "tiny"}
    with caplog.at_level(logging.WARNING):
        assert find_attributes(Model("It is a cat."), "the cat", ASKED, **where) == Attributes()
    assert len(caplog.records) == 1
    assert "It is a cat." in caplog.text


def test_not_asked_where_the_preset_does_not_want_it(tmp_path):
    model = Model(CAT_JSON)
    silent = AttributeSettings(ask=False, max_new_tokens=1, at_most=1, ask_for_object=True)
    found = find_attributes(model, "the cat", silent, cache=AnswerCache(tmp_path), video="h", model="m")
    assert found == Attributes()
    assert not model.asked
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"at_most": 0}])
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AttributeSettings(
            **{"ask": True, "max_new_tokens": 128, "at_most": 3, "ask_for_object": True} | wrong
        )
