"""A model's chat template in Go, and the Modelfile around it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.exporting import chat_templates
from tests.exporting.chat_templates import CHATML, FAMILIES, GEMMA, LLAMA3, MISTRAL, OWN_SYSTEM, PHI
from tunemill.errors import ModelError
from tunemill.exporting import go_template, ollama
from tunemill.exporting.ollama import Modelfile
from tunemill.exporting.ollama_template import ollama_template
from tunemill.models.template import Template
from tunemill.rows import Message

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
WITHOUT_SYSTEM = {"mistral", "gemma"}
HARD = [
    "Where is it?",
    'A "quoted" {{ .System }} and {{ end }} and }}',
    "one\n\ntwo\r\n\tthree",
    "東京 🚲 Straße a\u200bb \u00a0",
    "\u3000\n  both sides \u2003\n",
    "`back` \\n \\u0041 %s ''' \"\"\"",
    "<|im_end|>\n<|im_start|>assistant\n{",
]


def writer(source: str) -> Callable[[Sequence[Message], bool], str]:
    return Template(source, SPECIAL).text


def conversations(system: bool = True) -> list[list[Message]]:
    """Give 7 questions, 7 with a system message where there is one, and 7 of three questions, of hard contents."""
    made = []
    for number in range(len(HARD)):
        first, second, third, fourth, fifth, sixth = (HARD[(number + k) % len(HARD)] for k in range(6))
        made.append([Message("user", first)])
        if system:
            made.append([Message("system", second), Message("user", first)])
        turns = [Message("user", second), Message("assistant", third), Message("user", fourth)]
        opening = [Message("system", first)] if system and number % 2 else []
        made.append([*opening, *turns, Message("assistant", fifth), Message("user", sixth)])
    return made


@pytest.mark.parametrize("name", FAMILIES)
def test_the_template_renders_what_the_model_was_trained_with(name: str) -> None:
    write = writer(FAMILIES[name])
    template = ollama_template(write)
    for messages in conversations(name not in WITHOUT_SYSTEM):
        assert go_template.render(template, messages) == write(messages, True)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_template_survives_the_modelfile(name: str) -> None:
    template = ollama_template(writer(FAMILIES[name]))
    text = ollama.write(Modelfile("./x.gguf", template, None, {}))
    assert ollama.parse(text).template == template


def test_the_template_of_chatml_is_readable() -> None:
    assert ollama_template(writer(PHI)) == (
        "{{- range .Messages }}\n"
        '{{- if eq .Role "system" }}<|system|>\n{{ .Content }}<|end|>\n'
        '{{ else if eq .Role "user" }}<|user|>\n{{ .Content }}<|end|>\n'
        '{{ else if eq .Role "assistant" }}<|assistant|>\n{{ .Content }}<|end|>\n'
        "{{ else }}\n"
        '{{- call "no such role" }}\n'
        "{{- end }}\n"
        "{{- end }}<|assistant|>\n"
    )


def test_the_system_prompt_that_the_model_writes_of_itself_stands_in_the_template() -> None:
    template = ollama_template(writer(OWN_SYSTEM))
    said = (
        '<|im_start|>system\nYou answer "letters".<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'
    )
    assert go_template.render(template, [Message("user", "Hi")]) == said
    other = go_template.render(template, [Message("system", "Be brief."), Message("user", "Hi")])
    assert other.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")


@pytest.mark.parametrize("source", [LLAMA3, MISTRAL, GEMMA], ids=["llama 3", "mistral", "gemma"])
def test_a_token_that_the_server_writes_is_not_written_twice(source: str) -> None:
    write = writer(source)
    messages = [Message("user", "Hi")]
    assert write(messages, True).count("<s>") == 1
    assert go_template.render(ollama_template(write, begins="<s>"), messages) == write(messages, True)[len("<s>") :]


def test_a_token_that_the_server_writes_and_the_model_never_saw_is_an_error() -> None:
    with pytest.raises(
        ModelError, match=r"put '<s>' before every prompt .* begins with '<\|im_start\|>.* must be false"
    ):
        ollama_template(writer(CHATML), begins="<s>")


def test_a_model_without_a_system_role_refuses_a_system_message() -> None:
    template = ollama_template(writer(GEMMA))
    with pytest.raises(ModelError, match="refuses the conversation: no such role"):
        go_template.render(template, [Message("system", "Be brief."), Message("user", "Hi")])


def test_a_template_that_moves_the_system_message_away_from_its_place_is_refused_with_the_order() -> None:
    with pytest.raises(ModelError, match="of the messages system, user, assistant, user it writes 2, 3, 1, 4"):
        ollama_template(writer(chat_templates.SYSTEM_IN_LAST))


def test_a_template_that_counts_the_turns_is_refused_with_the_difference() -> None:
    counts = CHATML.replace("m['role'] + '\n'", "m['role'] + loop.index | string + '\n'")
    with pytest.raises(ModelError, match=r"before the assistant message of .*assistant3.*assistant2"):
        ollama_template(writer(counts))


def test_a_template_that_changes_content_is_refused() -> None:
    with pytest.raises(ModelError, match="of the messages user it writes none in this order, unchanged"):
        ollama_template(writer(CHATML.replace("m['content']", "m['content'] | upper")))


def test_a_template_that_changes_blanks_inside_content_is_refused() -> None:
    with pytest.raises(ModelError, match=r"changes the content of a user message: .* comes out in"):
        ollama_template(writer(CHATML.replace("m['content']", "m['content'].split() | join(' ')")))


def test_a_template_that_looks_into_content_is_refused() -> None:
    looks = CHATML.replace("m['content']", "(m['content'] | replace('{{', '(('))")
    with pytest.raises(ModelError, match=r"it writes .*\(\( .System.* where TEMPLATE gives .*\{\{ .System"):
        ollama_template(writer(looks))


def test_tool_results_side_by_side_share_a_turn() -> None:
    write = writer(chat_templates.TOOL_RESULTS)
    messages = [Message("user", "?"), Message("assistant", "!"), Message("tool", "1"), Message("tool", "2")]
    assert go_template.render(ollama_template(write), messages) == write(messages, True)
    assert write(messages, True).count("<|im_start|>user\n<result>") == 1


def test_a_tool_result_that_the_model_leaves_out_is_refused() -> None:
    messages = [Message("user", "?"), Message("assistant", "!"), Message("tool", "1")]
    with pytest.raises(ModelError, match="no such role"):
        go_template.render(ollama_template(writer(PHI)), messages)


def test_two_questions_in_a_row_are_one_as_in_ollama() -> None:
    template = ollama_template(writer(CHATML))
    two = go_template.render(template, [Message("user", "Hi"), Message("user", "Where?")])
    assert two == "<|im_start|>user\nHi\n\nWhere?<|im_end|>\n<|im_start|>assistant\n"


def test_five_thousand_blanks_are_trimmed() -> None:
    template = ollama_template(writer(LLAMA3))
    wide, narrow = ([Message("user", text)] for text in ("\n" * 5000 + "a" + " " * 5000, "a"))
    assert go_template.render(template, wide) == go_template.render(template, narrow)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ .Prompt }}", "asks for .Prompt"),
        ("{{ range .Messages }}{{ .Content }}", "no {{ end }} closes"),
        ("{{ end }}", "closes nothing"),
        ("{{ if", "does not close"),
        ("{{ printf .Messages }}", "uses 'printf'"),
        ("{{ $x = 1 }}", "does not declare"),
        ("{{ slice $y 1 }}", "names"),
        ('{{ slice "abc" 4 }}', "cuts at byte 4 of a text of 3"),
        ('{{ template "x" . }}', "does not define"),
    ],
)
def test_a_construct_that_is_not_written_here_is_refused(template: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason.replace("{", r"\{")):
        go_template.render(template, [Message("user", "Hi")])


MODELFILE = Modelfile("./q8_0.gguf", "{{ .Content }}\n", "Be brief.\nBe kind.", {"stop": ("<|im_end|>", "</s>")})


def test_a_modelfile_reads_back_as_it_was_meant() -> None:
    assert ollama.parse(ollama.write(MODELFILE, "a note")) == MODELFILE


def test_a_modelfile_names_every_stop_and_the_temperature() -> None:
    text = ollama.write(MODELFILE._replace(parameters={"stop": ("<|im_end|>", "</s>"), "temperature": ("0.7",)}))
    assert 'PARAMETER stop "<|im_end|>"\nPARAMETER stop "</s>"\nPARAMETER temperature 0.7\n' in text


def test_a_modelfile_without_a_system_prompt_has_none() -> None:
    assert "SYSTEM" not in ollama.write(MODELFILE._replace(system=None))
    assert ollama.parse("FROM ./x.gguf\n").system is None


def test_a_modelfile_with_other_writing_is_read_as_ollama_reads_it() -> None:
    text = '# a note\nfrom   ./x.gguf \nParameter stop\t "a b" \nparameter num_ctx 512\nSYSTEM say "hi"\n'
    assert ollama.parse(text) == Modelfile("./x.gguf", "", 'say "hi"', {"stop": ("a b",), "num_ctx": ("512",)})


@pytest.mark.parametrize("system", ["soft\u00adhyphen", "a\u00a0b", 'three """\nin a row'])
def test_a_system_prompt_that_ollama_would_read_otherwise_is_refused(system: str) -> None:
    with pytest.raises(ModelError, match=r"Ollama would read system|is not closed|no command|which Tunemill"):
        ollama.write(MODELFILE._replace(system=system))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("SYSTEM hi\n", "no FROM"), ('FROM x\nTEMPLATE """a\n', "not closed"), ("FROM x\nADAPTER y\n", "ADAPTER")],
)
def test_a_modelfile_that_is_not_whole_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        ollama.parse(text)


def test_a_conversation_is_given_the_system_prompt_unless_it_has_its_own() -> None:
    modelfile = Modelfile("./x.gguf", ollama_template(writer(CHATML)), "Be brief.", {})
    asked = [Message("user", "Hi")]
    assert modelfile.prompt(asked) == modelfile.prompt([Message("system", "Be brief."), *asked])
    assert "Be brief." not in modelfile.prompt([Message("system", "Be kind."), *asked])


def go(template: str, asked: list[list[Message]], folder: Path) -> list[dict[str, str]]:
    """Run Go's own text/template."""
    if shutil.which("go") is None:
        pytest.skip("`go` is not on PATH; Debian has it as golang-go")
    turns = [[{"Role": m.role, "Content": m.content} for m in go_template.collated(each)] for each in asked]
    environment = {**os.environ, "GO111MODULE": "off", "GOCACHE": str(folder / "go"), "GOFLAGS": ""}
    done = subprocess.run(
        ["go", "run", str(Path(__file__).with_name("render.go"))],
        input=json.dumps({"Template": template, "Conversations": turns}),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, str]] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="session")
def go_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("go")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_go_itself_renders_what_the_model_was_trained_with(name: str, go_folder: Path) -> None:
    write = writer(FAMILIES[name])
    asked = conversations(name not in WITHOUT_SYSTEM)
    answers = go(ollama_template(write), asked, go_folder)
    assert [answer.get("text") for answer in answers] == [write(messages, True) for messages in asked]
    assert len(answers) >= 14


@pytest.mark.slow
def test_go_itself_refuses_a_role_that_the_model_does_not_take(go_folder: Path) -> None:
    (answer,) = go(ollama_template(writer(GEMMA)), [[Message("system", "Hi"), Message("user", "Hi")]], go_folder)
    assert '<call "no such role">' in answer["error"]


@pytest.mark.slow
def test_go_itself_trims_five_thousand_blanks(go_folder: Path) -> None:
    (answer,) = go(ollama_template(writer(LLAMA3)), [[Message("user", " " * 5000 + "a" + "\n" * 5000)]], go_folder)
    assert answer["text"] == writer(LLAMA3)([Message("user", "a")], True)


@pytest.mark.model
def test_the_template_of_smollm2_renders_real_prompts(checkpoint: Path) -> None:
    chat, template = smollm2(checkpoint)
    for messages in conversations():
        assert go_template.render(template, messages) == chat.text(messages, generation_prompt=True)


@pytest.mark.slow
@pytest.mark.model
def test_go_itself_renders_the_template_of_smollm2(checkpoint: Path, go_folder: Path) -> None:
    chat, template = smollm2(checkpoint)
    answers = go(template, conversations(), go_folder)
    assert [answer["text"] for answer in answers] == [chat.text(m, generation_prompt=True) for m in conversations()]


def smollm2(checkpoint: Path) -> tuple[Any, str]:
    from tunemill.models.chat import Chat

    chat = Chat(checkpoint / "tokenizer")
    return chat, ollama_template(chat.text)
