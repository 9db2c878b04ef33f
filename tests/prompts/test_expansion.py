"""Entries expand to one prompt for each row and combination, with seeds for each take."""

from typing import Any

from tests.prompts.fixtures import Load, ProblemsOf, Write, seeds


def test_prompts_of_a_table_are_sent_unchanged(write: Write, load: Load) -> None:
    texts = ["{a} {{b}} \"c\" 'd'", "}", "{", "{Prompt}", "{Prompt.__class__}", "%s $x {0}", "\\n"]
    write("t.tsv", "Prompt\tCategory\n" + "".join(f"{text}\tx\n" for text in texts))
    prompt_set = load('prompts: {p: {prompt: "{Prompt}", table: t.tsv}}\n')
    assert [request.input["prompt"] for request in prompt_set.requests()] == texts


def test_rows_without_a_key_are_numbered(write: Write, load: Load) -> None:
    write("t.csv", "name\na\nb\n")
    prompt_set = load('prompts: {p: {prompt: "{name}", table: t.csv}}\n')
    assert prompt_set.partition_keys() == ("p-row-000001", "p-row-000002")


def test_a_key_names_the_row(write: Write, load: Load) -> None:
    write("sub/t.csv", "sku,name\nAB-1,a\n红,b\n")
    keys = load('prompts: {p: {prompt: "{name}", table: sub/t.csv, key: sku}}\n').partition_keys()
    assert keys[0] == "p-ab-1"
    assert keys[1] == "p-hong-0eb7ee7e"


def test_a_table_with_a_matrix_gives_the_product(write: Write, load: Load) -> None:
    write("t.csv", "sku,name\na,cat\nb,dog\n")
    prompt_set = load(
        'prompts: {p: {prompt: "{name} in {light}", table: t.csv, key: sku,\n'
        "               matrix: {light: [sun, rain]}}}\n"
    )
    assert prompt_set.partition_keys() == ("p-a-sun", "p-a-rain", "p-b-sun", "p-b-rain")


def test_columns_may_give_other_inputs_than_the_prompt(write: Write, load: Load) -> None:
    write("t.csv", "name,ratio,n\ncat,16:9,2\ndog,1:1,1\n")
    prompt_set = load(
        'prompts: {p: {prompt: "{name}", aspect_ratio: "{ratio}", num_outputs: "{n}",\n'
        "               table: t.csv}}\n"
    )
    assert [(r.width, r.outputs) for r in prompt_set.requests()] == [(1344, 2), (1024, 1)]


def test_a_bad_value_in_a_column_names_row_and_field(
    write: Write, load: Load, problems: Any
) -> None:
    write("t.csv", "name,n\ncat,2\ndog,9\nowl,x\n")
    found = problems('prompts: {p: {prompt: "{name}", num_outputs: "{n}", table: t.csv}}\n')
    assert [(problem.line, problem.key) for problem in found] == [
        (3, "prompts.p.num_outputs"),
        (4, "prompts.p.num_outputs"),
    ]
    assert found[0].message == "9 is not allowed (1 to 4) (row 2)"


def test_a_table_without_rows_gives_no_prompts(write: Write, load: Load) -> None:
    write("t.csv", "name\n")
    assert list(load('prompts: {p: {prompt: "{name}", table: t.csv}}\n').requests()) == []


def test_long_names_of_rows_end_in_their_hash(write: Write, load: Load) -> None:
    write("t.csv", "k\n" + "a" * 200 + "\n" + "a" * 199 + "\n")
    first, second = load('prompts: {p: {prompt: "{k}", table: t.csv, key: k}}\n').partition_keys()
    assert first != second
    assert max(len(first), len(second)) <= 120


def test_a_seed_of_its_own_counts_up_with_the_takes(load: Load) -> None:
    prompt_set = load("prompts: {a: {prompt: b, seed: 7, takes: 3}}\n")
    assert seeds(list(prompt_set.requests())) == [7, 8, 9]


def test_without_a_seed_none_is_sent(load: Load) -> None:
    (request,) = load("prompts: {a: {prompt: b, seed: none}}\n").requests()
    assert request.input == {"prompt": "b"}
    assert request.seed is None


def test_the_default_seed_may_be_none_or_a_number(load: Load) -> None:
    text = "prompts: {a: b, c: {prompt: d, seed: 3}}\n"
    assert seeds(list(load("defaults: {seed: none}\n" + text).requests())) == [None, 3]
    assert seeds(list(load("defaults: {seed: 9}\n" + text).requests())) == [9, 3]


def test_none_takes_back_a_default(load: Load) -> None:
    plain, with_lora = load(
        "defaults: {hf_lora: a/b}\nprompts: {a: {prompt: c, hf_lora: none}, d: e}\n"
    ).requests()
    assert "hf_lora" not in plain.input
    assert with_lora.input["hf_lora"] == "a/b"


def test_placeholders_in_defaults_are_filled_in_for_every_prompt(load: Load) -> None:
    prompt_set = load(
        'defaults: {aspect_ratio: "{ratio}"}\n'
        'prompts: {a: {prompt: "b {ratio}", matrix: {ratio: [1:1, 16:9]}}}\n'
    )
    assert prompt_set.partition_keys() == ("a-1-1", "a-16-9")
    assert [request.width for request in prompt_set.requests()] == [1024, 1344]


def test_a_bad_matrix_value_is_reported_with_the_combination(problems: ProblemsOf) -> None:
    (problem,) = problems(
        'prompts:\n  a:\n    prompt: b\n    num_outputs: "{n}"\n    matrix: {n: [1, 5]}\n'
    )
    assert (problem.line, problem.key) == (5, "prompts.a.num_outputs")
    assert problem.message == "5 is not allowed (1 to 4) (with n: 5)"
