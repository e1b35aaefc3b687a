"""The head of a GGUF file: what is read from it, what a stamp changes, what a damaged file is told by.

The files are written, and read again, by llama.cpp's own `gguf` package.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunemill.errors import ModelError
from tunemill.exporting import gguf

Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Write a GGUF of two tensors, 3 × 5 in 32 bits and 2 × 32 in 8, and a vocabulary of four tokens."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    def write(alignment: int | None = None, template: bool = True) -> Path:
        path = tmp_path / "tiny.gguf"
        writer = GGUFWriter(path, "llama")
        if alignment is not None:
            writer.add_custom_alignment(alignment)
        writer.add_name("oak")
        if template:
            writer.add_chat_template("{{ messages[0]['content'] }}ä")
        writer.add_token_list(["a", "b", "<end>", "<turn>"])
        writer.add_eos_token_id(3)
        writer.add_eot_token_id(2)
        writer.add_float32("llama.rope.freq_base", 0.5)
        writer.add_array("tunemill_is_not_ours", [1.5, 2.5])
        writer.add_tensor("first", np.arange(15, dtype=np.float32).reshape(3, 5))
        eight = quantize(np.arange(64, dtype=np.float32).reshape(2, 32), GGMLQuantizationType.Q8_0)
        writer.add_tensor("second", eight, raw_dtype=GGMLQuantizationType.Q8_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read pairs and tensors with llama.cpp's package."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    pairs = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return pairs, {str(tensor.name): tensor.data.tobytes() for tensor in reader.tensors}


def test_the_head_holds_what_llama_cpps_package_wrote(written: Write) -> None:
    found = gguf.head(written())
    assert found.version == 3
    assert found.pairs["general.name"].value == "oak"
    assert found.pairs["llama.rope.freq_base"].value == 0.5
    assert [(tensor.name, tensor.shape, tensor.elements) for tensor in found.tensors] == [
        ("first", (5, 3), 15),
        ("second", (32, 2), 64),
    ]


def test_tensors_are_counted_by_type(written: Write) -> None:
    assert gguf.types(written()) == {"F32": 1, "Q8_0": 1}


def test_bits_a_weight_are_those_of_the_tensors_bytes(written: Write) -> None:
    assert gguf.bits_per_weight(written()) == 8 * (15 * 4 + 2 * 34) / 79


def test_template_and_end_tokens_are_those_of_the_file(written: Write) -> None:
    path = written()
    assert gguf.template(path) == "{{ messages[0]['content'] }}ä"
    assert gguf.end_tokens(path) == {3: "<turn>", 2: "<end>"}


def test_a_file_without_a_template_says_that_it_has_none(written: Write) -> None:
    with pytest.raises(ModelError, match=r"tiny\.gguf has no chat template"):
        gguf.template(written(template=False))


def test_a_file_without_tensors_is_not_whole(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "bare.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"bare\.gguf is not whole"):
        gguf.head(tmp_path / "bare.gguf")


@pytest.mark.parametrize("alignment", [None, 8, 64, 256])
def test_a_stamp_adds_facts_and_changes_nothing_else(written: Write, tmp_path: Path, alignment: int | None) -> None:
    source, out = written(alignment), tmp_path / "stamped.gguf"
    gguf.stamp(source, out, {"run": "7", "words": "größer 大"})
    pairs, tensors = read(source)
    stamped_pairs, stamped_tensors = read(out)
    assert stamped_pairs == {**pairs, "tunemill.run": "7", "tunemill.words": "größer 大"}
    assert stamped_tensors == tensors
    assert gguf.tensor_digest(out) == gguf.tensor_digest(source)
    assert gguf.head(out).start % (alignment or 32) == 0
    assert gguf.facts(out) == {"run": "7", "words": "größer 大"}


def test_a_second_stamp_takes_the_place_of_the_first(written: Write, tmp_path: Path) -> None:
    once, twice, straight = tmp_path / "once.gguf", tmp_path / "twice.gguf", tmp_path / "straight.gguf"
    gguf.stamp(written(), once, {"run": "7", "verdict": "PROMOTE"})
    gguf.stamp(once, twice, {"run": "8"})
    gguf.stamp(written(), straight, {"run": "8"})
    assert gguf.facts(twice) == {"run": "8"}
    assert twice.read_bytes() == straight.read_bytes()


def test_the_order_in_which_facts_are_given_does_not_change_the_bytes(written: Write, tmp_path: Path) -> None:
    gguf.stamp(written(), tmp_path / "one.gguf", {"a": "1", "b": "2"})
    gguf.stamp(written(), tmp_path / "other.gguf", {"b": "2", "a": "1"})
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "other.gguf").read_bytes()


def test_a_stamp_can_name_the_model(written: Write, tmp_path: Path) -> None:
    gguf.stamp(written(), tmp_path / "named.gguf", {}, name="support desk")
    assert read(tmp_path / "named.gguf")[0]["general.name"] == "support desk"
    assert gguf.facts(tmp_path / "named.gguf") == {}


def test_a_file_can_be_stamped_in_its_own_place(written: Write) -> None:
    path = written()
    before = gguf.tensor_digest(path)
    gguf.stamp(path, path, {"run": "7"})
    assert (gguf.facts(path), gguf.tensor_digest(path)) == ({"run": "7"}, before)


def test_a_flipped_bit_in_a_tensor_changes_the_digest(written: Write) -> None:
    path = written()
    before = gguf.tensor_digest(path)
    data = bytearray(path.read_bytes())
    data[gguf.head(path).start + 17] ^= 1
    path.write_bytes(data)
    assert gguf.tensor_digest(path) != before


def test_a_file_that_lacks_its_last_tensor_byte_says_how_many_bytes_it_needs(written: Write) -> None:
    path = written()
    start = gguf.head(path).start
    needed = start + 64 + 2 * 34
    path.write_bytes(path.read_bytes()[: needed - 1])
    with pytest.raises(ModelError, match=rf"has {needed - 1:,} bytes, and its tensors need {needed:,}; make it again"):
        gguf.head(path)


def test_a_file_cut_anywhere_in_its_head_is_told_from_a_whole_one(written: Write) -> None:
    path = written()
    data = path.read_bytes()
    for length in range(1, gguf.head(path).start):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            gguf.head(path)


def test_another_file_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04 a zip")
    with pytest.raises(ModelError, match="is no GGUF file"):
        gguf.head(tmp_path / "model.gguf")
