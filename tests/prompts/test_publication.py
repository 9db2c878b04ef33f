"""Tests of flux_pipeline.prompts.publication."""

from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import PromptSet, load_prompt_set, load_prompt_sets
from flux_pipeline.prompts.publication import (
    Choice,
    Publication,
    find_path_mistake,
    picture_values,
)
from flux_pipeline.variant import VariantSpec

_HEAD = "model: lucataco/flux-schnell-lora\n"
_PROMPTS = "prompts: {castle: a castle, owl: an owl}\n"
_VARIANTS = "  variants: {web: {width: 800}}\n"


def _load(folder: Path, text: str, prompts: str = _PROMPTS) -> PromptSet:
    path = folder / "book.yaml"
    path.write_text(f"{_HEAD}{prompts}{text}", encoding="utf-8")
    return load_prompt_set(path)


def _mistakes(folder: Path, text: str, prompts: str = _PROMPTS) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, prompts)
    assert all(problem.line for problem in caught.value.problems)
    return {problem.key: problem.message for problem in caught.value.problems}


def _published(prompt_set: PromptSet) -> Publication:
    assert prompt_set.publish is not None
    return prompt_set.publish


def test_a_set_publishes_nothing_and_chooses_all_until_it_says_so(tmp_path: Path) -> None:
    loaded = _load(tmp_path, "")
    assert (loaded.choice, loaded.publish) == (Choice(), None)


def test_every_key_is_read(tmp_path: Path) -> None:
    published = _published(
        _load(
            tmp_path,
            "choose: best\nundecided: first\npublish:\n"
            "  to: s3://shop-site/pictures\n"
            '  name: "{set}/{name}-{variant}.{format}"\n'
            '  alt: "{name}, studio light"\n'
            "  prune: true\n  index: all.json\n  feed: rss\n  url: https://cdn.example.com/p/\n"
            '  cache_control: "public, max-age=3600"\n  acl: public-read\n'
            "  storage_class: STANDARD_IA\n"
            "  variants:\n"
            "    hero@2x: {width: 1600, format: jpg, quality: 82, background: '#ffffff'}\n"
            "    thumb: {width: 320, height: 320, fit: cover, format: avif, focus: [0.5, 0.2],"
            " sharpen: false, enlarge: true, colors: keep}\n",
        )
    )
    hero = VariantSpec(name="hero@2x", width=1600, format="jpg", quality=82, background="#ffffff")
    thumb = VariantSpec(
        name="thumb",
        width=320,
        height=320,
        fit="cover",
        format="avif",
        focus=(0.5, 0.2),
        sharpen=0.0,
        enlarge=True,
        colors="keep",
    )
    assert published == Publication(
        to="s3://shop-site/pictures",
        name="{set}/{name}-{variant}.{format}",
        alt="{name}, studio light",
        variants=(hero, thumb),
        prune=True,
        index="all",
        feed="rss",
        url="https://cdn.example.com/p",
        cache_control="public, max-age=3600",
        acl="public-read",
        storage_class="STANDARD_IA",
    )


def test_an_edit_of_the_publication_makes_no_image_anew(tmp_path: Path) -> None:
    before = _load(tmp_path, "").data_versions(["castle"])
    text = f"choose: first\npublish:\n  to: file:./public\n{_VARIANTS}"
    assert _load(tmp_path, text).data_versions(["castle"]) == before


def test_mistakes_of_a_publication_are_told_all_at_once_with_their_lines(tmp_path: Path) -> None:
    found = _mistakes(
        tmp_path,
        "choose: no\nundecided: off\npublish:\n  to: ftp://x\n  prune: on\n  feed: no\n"
        "  name: '{sku}.{format}'\n  alt: '{variant} {'\n  acl: public\n  url: shop.example\n"
        "  variants:\n"
        "    hero: {width: 320px, height: 99999, format: gif, quality: 0, sizes: 3}\n"
        "    Hero: 16:9\n"
        "    a/b: {fit: cover, width: 3, sharpen: 9}\n"
        "    c: {focus: topp, background: white, colors: rgb}\n",
    )
    assert {key.removeprefix("publish.") for key in found} == {
        *("choose", "undecided", "to", "prune", "feed", "name", "alt", "acl", "url"),
        *(f"variants.hero.{key}" for key in ("width", "height", "format", "quality", "sizes")),
        *("variants.Hero", "variants.a/b", "variants.a/b.sharpen"),
        "variants.c.colors",
    }
    assert found["choose"].startswith("must be all, first, best or a file such as picks/")
    assert (
        found["publish.variants.hero.width"]
        == '"320px" is not allowed (a whole number, 1 to 16383)'
    )


def test_a_variants_options_must_fit_each_other(tmp_path: Path) -> None:
    found = _mistakes(
        tmp_path,
        "publish:\n  variants:\n    a: {fit: cover, width: 3}\n    b: {focus: topp}\n"
        "    c: {format: png, quality: 3}\n    d: {background: #fff\n}\n",
    )
    assert [key.removeprefix("publish.variants.") for key in sorted(found)] == [
        *("a.fit", "b.focus", "c.quality", "d.background")
    ]


def test_a_full_width_colon_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="full-width colon"):
        _load(tmp_path, "publish:\n  to\N{FULLWIDTH COLON} file:./x\n  prune: true\n")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../{name}.{format}", "must stay below publish.to"),
        ("/srv/{name}.{format}", "is absolute"),
        ("a/../../{name}.{format}", "must stay below publish.to"),
        ("a\\\\{name}.{format}", "no file can be called everywhere"),
        ("a\\x01{name}.{format}", "control character"),
        ("con/{name}.{format}", "a device on Windows"),
        ("a//{name}.{format}", "without a name"),
        (".hidden/{name}.{format}", "hidden"),
        ("{name}/", "without a name"),
        ("{name}.", "a dot behind it"),
        ("{name}.jpg", "is webp: write .{format}"),
        ("picture.{format}", "put {name} into it"),
        ("{name}-{date}.{format}", "unknown placeholder {date}"),
    ],
)
def test_a_name_that_surely_goes_wrong_is_refused(tmp_path: Path, name: str, why: str) -> None:
    found = _mistakes(tmp_path, f'publish:\n  name: "{name}"\n{_VARIANTS}')
    assert why in found["publish.name"]


def test_names_that_surely_collide_are_refused(tmp_path: Path) -> None:
    both = "  variants: {a: {}, b: {format: avif}, c: {}}\n"
    found = _mistakes(tmp_path, f'publish:\n  name: "{{name}}.{{format}}"\n{both}')
    assert "the variants a and c would be the same file" in found["publish.name"]
    takes = "prompts: {castle: {prompt: a castle, takes: 4, num_outputs: 2}}\n"
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, f"publish:\n{_VARIANTS}", takes)
    messages = [problem.message for problem in caught.value.problems]
    assert ["put {output} into it" in messages[0], "put {take} into it" in messages[1]] == [
        True
    ] * 2
    assert _published(_load(tmp_path, f"choose: first\npublish:\n{_VARIANTS}", takes))


def test_days_must_not_overwrite_each_other(tmp_path: Path) -> None:
    days = "partitions: {by: day, start: 2026-01-01}\n"
    found = _mistakes(tmp_path, f"{days}publish:\n{_VARIANTS}")
    assert found["publish.name"] == "every day would overwrite the day before: put {date} into it"
    name = '  name: "{date}/{name}-{variant}.{format}"\n'
    loaded = _load(tmp_path, f"{days}publish:\n{name}{_VARIANTS}")
    [castle, _] = loaded.described("2026-01-05")
    own = picture_values(
        castle[0], 1, variant=_published(loaded).variants[0], day=castle[0].source.partition
    )
    assert _published(loaded).file_path(own, castle[1]) == "2026-01-05/castle-web.webp"


def test_settings_of_a_bucket_are_refused_for_a_folder(tmp_path: Path) -> None:
    found = _mistakes(tmp_path, f"publish:\n  to: file:./x\n  acl: private\n{_VARIANTS}")
    assert found == {"publish.acl": "is for s3://, and publish.to is a folder"}


def test_two_sets_must_not_write_one_index(tmp_path: Path) -> None:
    def write(name: str, more: str) -> None:
        text = f"{_HEAD}{_PROMPTS}publish:\n{more}{_VARIANTS}"
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")

    write("a", "  to: file:./public\n")
    write("b", "  to: file:public/\n")
    with pytest.raises(ConfigError, match=r"b.yaml:4: publish.to: a is published there too"):
        load_prompt_sets(tmp_path)
    write("b", "  to: file:public/\n  index: b.json\n")
    assert len(load_prompt_sets(tmp_path)) == 2


_TABLE = "prompts: {item: {prompt: 'photo of {name}', table: items.csv, key: sku}}\n"


def test_names_and_alt_texts_use_every_column_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "sku,name,title,unused\na1,红/包,Bag: big,x\nb2,Shoe,,x\n", encoding="utf-8"
    )
    loaded = _load(
        tmp_path,
        f"publish:\n  name: '{{title}}/{{name}}.{{format}}'\n  alt: '{{name}}, {{title}}'\n"
        f"{_VARIANTS}",
        _TABLE,
    )
    published = _published(loaded)
    (first, values), (second, others) = loaded.described()
    assert values == {"sku": "a1", "name": "红/包", "title": "Bag: big"}
    own = picture_values(first, 1, variant=published.variants[0])
    assert published.file_path(own, values) == "Bag- big/item-a1.webp"
    assert published.alt_text(picture_values(first, 1), values) == "红/包, Bag: big"
    with pytest.raises(ValueError, match="blank: title"):
        published.file_path(picture_values(second, 1, variant=published.variants[0]), others)


def test_without_a_template_the_alt_text_is_the_prompt(tmp_path: Path) -> None:
    loaded = _load(tmp_path, f"publish:\n{_VARIANTS}")
    [(castle, values), _] = loaded.described()
    assert _published(loaded).alt_text(picture_values(castle, 1), values) == "a castle"


def test_columns_that_only_names_use_may_be_blank_and_change_no_request(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("sku,name,title\na1,Bag,\n", encoding="utf-8")
    plain = [*_load(tmp_path, "", _TABLE).requests()]
    loaded = _load(tmp_path, f"publish:\n  alt: '{{title}}'\n{_VARIANTS}", _TABLE)
    assert [each.request_sha256 for each in loaded.requests()] == [
        each.request_sha256 for each in plain
    ]


def test_the_file_of_picks_may_be_missing_but_not_unreadable(tmp_path: Path) -> None:
    loaded = _load(tmp_path, "choose: picks/book.csv\nundecided: first\n")
    assert loaded.choice == Choice(kind="file", path=tmp_path / "picks/book.csv", undecided="first")
    (tmp_path / "picks").mkdir()
    (tmp_path / "picks/book.csv").write_bytes("prompt\n红".encode("utf-16"))
    assert "is UTF-16" in _mistakes(tmp_path, "choose: picks/book.csv\n")["choose"]
    assert "leaves the folder" in _mistakes(tmp_path, "choose: ../book.csv\n")["choose"]


@pytest.mark.parametrize("path", ["a/b-c.webp", "红包/大 图.webp", "console.webp", "a@2x.webp"])
def test_paths_of_any_language_are_files(path: str) -> None:
    assert find_path_mistake(path) == ""


@pytest.mark.parametrize("path", ["aux", "x/COM1.webp", "a" * 241, "/".join(["a" * 200] * 5)])
def test_paths_that_some_file_system_refuses_are_told(path: str) -> None:
    assert find_path_mistake(path)
