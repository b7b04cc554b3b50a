"""What an engine would do with algorithms, blocks, caches and GPUs."""

from __future__ import annotations

import pytest

from conf.engines.verdict import Contents, generation_of, loaded_by, verdict, verdicts


def mix(*algorithms: str) -> Contents:
    return Contents(algorithms=algorithms, mixed=True)


@pytest.mark.parametrize(
    ("device", "generation"),
    [
        ("H100", "hopper"),
        ("H100 80GB SXM", "hopper"),
        ("NVIDIA A100-SXM4-80GB", "ampere"),
        ("NVIDIA GeForce RTX 4090", "ada"),
        ("RTX 6000 Ada Generation", "ada"),
        ("l40s", "ada"),
        ("GB200 NVL72", "blackwell"),
        ("blackwell", "blackwell"),
        ("cpu", "cpu"),
    ],
)
def test_a_gpu_s_name_gives_its_generation(device: str, generation: str) -> None:
    assert generation_of(device) == generation


@pytest.mark.parametrize("device", ["V100", "H10", "100", "GPU", ""])
def test_an_unknown_gpu_is_refused_with_the_known_ones(device: str) -> None:
    with pytest.raises(ValueError, match=f"serve.device is {device}, which is not known; use cpu, ampere.*H100"):
        generation_of(device)


def test_an_unquantized_model_loads_everywhere() -> None:
    assert all(each.loads and not each.notes for each in verdicts(Contents()).values())


def test_an_algorithm_of_nobody_s_table_is_not_said_to_load() -> None:
    judged = verdicts(Contents(algorithms=("MXFP8",), kv="int8"))
    assert not any(each.loads for each in judged.values())
    assert judged["vllm"].why == (
        "is not known to load it (MXFP8)",
        "is not known to load it (key-value cache int8)",
    )


@pytest.mark.parametrize(
    ("contents", "loads"),
    [
        (mix("FP8", "NVFP4"), ("vllm", "tensorrt_llm", "sglang")),
        (mix("FP8", "FP8_PER_CHANNEL_PER_TOKEN"), ("vllm", "tensorrt_llm")),
        (mix("FP8_PER_CHANNEL_PER_TOKEN", "NVFP4"), ("vllm", "tensorrt_llm")),
        (mix("FP8", "W4A8_NVFP4_FP8"), ("tensorrt_llm",)),
        (mix("FP8", "fp8_pb_wo"), ("vllm", "tensorrt_llm")),
        (mix("FP8", "fp8_pb_wo", "NVFP4"), ("vllm", "tensorrt_llm", "sglang")),
        (Contents(algorithms=("fp8_pb_wo",), blocks={"fp8_pb_wo": (128,)}), ("vllm", "tensorrt_llm")),
        (Contents(algorithms=("fp8_pb_wo",), blocks={"fp8_pb_wo": (64,)}), ()),
        (Contents(algorithms=("fp8_pb_wo",), blocks={"fp8_pb_wo": (64, 128)}), ()),
        (Contents(algorithms=("W4A16_AWQ",), blocks={"W4A16_AWQ": (64,)}), ("tensorrt_llm",)),
        (Contents(algorithms=("W4A16_AWQ",), blocks={"W4A16_AWQ": (32,)}), ()),
        (Contents(algorithms=("FP8",), kv="nvfp4_affine"), ("sglang",)),
    ],
)
def test_who_loads_what(contents: Contents, loads: tuple[str, ...]) -> None:
    judged = verdicts(contents)
    assert tuple(engine for engine, each in judged.items() if each.loads) == loads
    assert all(each.why for engine, each in judged.items() if engine not in loads)
    assert ("no engine" in loaded_by(judged)) == (loads == ())


def test_a_block_is_told_only_where_the_algorithm_loads() -> None:
    contents = Contents(algorithms=("fp8_pb_wo",), blocks={"fp8_pb_wo": (16,)})
    assert verdict("vllm", contents).why == ("reads fp8_pb_wo in blocks of 128 only, not 16",)
    assert verdict("sglang", contents).why == ("refuses the algorithm (fp8_pb_wo)",)


def test_a_cache_that_is_left_alone_is_marked() -> None:
    contents = Contents(algorithms=("FP8",), kv="nvfp4")
    assert [each.plain_cache for each in verdicts(contents).values()] == [False, False, True]
    assert not verdict("sglang", Contents(algorithms=("FP8",))).plain_cache


@pytest.mark.parametrize(
    ("generation", "loads", "words"),
    [("hopper", True, "(W4A16)"), ("blackwell", True, None), ("cpu", False, "has no kernel"), (None, True, "ada, hop")],
)
def test_a_generation_changes_nvfp4_in_vllm(generation: str | None, loads: bool, words: str | None) -> None:
    judged = verdict("vllm", Contents(algorithms=("NVFP4",)), generation)  # type: ignore[arg-type]
    said = " ".join((*judged.why, *judged.notes))
    assert judged.loads == loads
    assert words in said if words else not said


def test_only_what_ran_is_called_run() -> None:
    def known(engine: str, *algorithms: str, **more: object) -> str:
        return verdict(engine, Contents(algorithms=algorithms), **more).known  # type: ignore[arg-type]

    assert known("vllm", "FP8") == "run"
    assert known("vllm", "FP8", generation="cpu") == "run"
    assert known("vllm", "FP8", generation="hopper") == "read", "no GPU ran anything"
    assert known("tensorrt_llm", "FP8") == "read"
    assert known("vllm") == "read"


def test_a_sentence_names_who_loads_and_what_the_others_do() -> None:
    sentence = loaded_by(verdicts(mix("FP8_PER_CHANNEL_PER_TOKEN", "NVFP4"), "blackwell"))
    assert sentence.startswith("loads in vLLM 0.32 (read), TensorRT-LLM main of 2026-11 (read); SGLang loads such")
    assert "vLLM is the first version known to load it" in sentence


def test_a_family_that_engines_may_compute_otherwise_is_told() -> None:
    """Whatever its format; what nobody ran with it is called read."""
    plain, capped = (verdicts(Contents(algorithms=("FP8",), family=family)) for family in ("llama", "gemma2"))
    assert (plain["vllm"].known, capped["vllm"].known) == ("run", "read")
    assert not any("Gemma" in note for each in plain.values() for note in each.notes)
    for engine, words in (("vllm", "was not run with"), ("tensorrt_llm", "pull request"), ("sglang", "every other")):
        judged = capped[engine]  # type: ignore[index]
        assert judged.loads
        assert any(words in note and note.endswith("(gemma2)") for note in judged.notes)
    assert any("Gemma 2" in note for note in verdicts(Contents(family="gemma2"))["sglang"].notes), "unquantized, too"
