from __future__ import annotations

from pathlib import Path
from urllib.parse import urljoin, urlparse
from urllib.request import url2pathname

import pytest
from helpers.pseudo_pages import TEN, Page, pseudo_file, true_labels, write_images

from distill.labeling.view import write_view


def _page(tmp_path: Path, pseudo, **options) -> Page:
    options = {"title": "boxes.json", "image_root": tmp_path / "images", **options}
    return Page(write_view(pseudo, tmp_path / "page.html", **options).page)


@pytest.fixture
def three(tmp_path):
    names = ["a.png", "b.png", "c.png"]
    write_images(tmp_path / "images", *names)
    return pseudo_file(names, (0, TEN, 0.9, 0), (2, TEN, 0.3, 1))


def _file_of(page: Path, source: str) -> Path:
    return Path(url2pathname(urlparse(urljoin(page.as_uri(), source)).path))


def test_the_page_refers_to_the_images_from_where_it_is(tmp_path):
    names = ["below/ä é.png", "100%.png", "a#b?c:d.png", "<b>&quot;.png"]
    write_images(tmp_path / "images", *names)
    options = {"title": "t", "image_root": tmp_path / "images"}
    path = write_view(pseudo_file(names), tmp_path / "pages" / "x" / "p.html", **options).page
    sources = [image["source"] for image in Page(path).images]
    assert [_file_of(path, x) for x in sources] == [tmp_path / "images" / x for x in names]
    assert not any(urlparse(x).scheme or x.startswith("/") for x in sources)


def test_the_page_loads_nothing_else(tmp_path, three):
    page = _page(tmp_path, three)
    assert not [x for _, x in page.elements if x.keys() & {"src", "href", "srcset", "action"}]
    assert not [tag for tag, _ in page.elements if tag in ("link", "img", "iframe", "base")]
    text = (tmp_path / "page.html").read_text()
    assert "url(" not in text and "@import" not in text and "://" not in text


def test_names_are_text_whatever_they_hold(tmp_path):
    evil = "</script><script>alert(1)</script><!--"
    name, quoted = "<b>x.png", '"><img src=x>{{ 7 * 7 }}'
    write_images(tmp_path / "images", name)
    pseudo = pseudo_file(
        [name], (0, TEN, 0.9, 0), classes=(evil, quoted), teachers=(evil,), note={evil: quoted}
    )
    page = _page(tmp_path, pseudo, title=evil)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not {"img", "b"} & {tag for tag, _ in page.elements}
    assert page.all("title")[0] == evil and page.all("h1") == [evil]
    assert page.all("option")[:5] == ["all", evil, quoted, "all", evil]
    assert page.data["classes"] == [evil, quoted] and page.data["teachers"] == [evil]
    assert page.images[0]["name"] == name
    assert f"note · {evil}" in page.all("dt") and quoted in page.all("dd")


def test_equal_arguments_make_equal_bytes(tmp_path, three):
    _page(tmp_path, three)
    first = (tmp_path / "page.html").read_bytes()
    _page(tmp_path, three)
    assert (tmp_path / "page.html").read_bytes() == first


def test_a_sample_is_drawn_by_its_seed_and_in_the_order_of_the_file(tmp_path):
    names = [f"{i:02}.png" for i in range(30)]
    write_images(tmp_path / "images", *names)

    def shown(**options) -> list[str]:
        return [x["name"] for x in _page(tmp_path, pseudo_file(names), **options).images]

    assert shown(num_images=5, seed=None) == names[:5]
    drawn = shown(num_images=5, seed=1)
    assert drawn == shown(num_images=5, seed=1) == sorted(drawn) != names[:5]
    assert drawn != shown(num_images=5, seed=2)
    assert set(drawn) < set(shown(num_images=9, seed=1))
    assert shown(num_images=99) == names


def test_images_without_a_file_are_counted_and_have_no_source(tmp_path, three):
    (tmp_path / "images" / "b.png").unlink()
    options = {"title": "t", "image_root": tmp_path / "images"}
    view = write_view(three, tmp_path / "page.html", **options)
    assert (view.images, view.missing, view.boxes, view.labels) == (3, 1, 2, 0)
    page = Page(view.page)
    assert [x["source"] for x in page.images] == ["images/a.png", None, "images/c.png"]
    assert "1 of them without a file" in " ".join(page.all("p"))


def test_the_header_names_the_folder_of_the_images(tmp_path, three):
    moved = pseudo_file(["a.png"], image_root=str(tmp_path / "images"))
    assert _page(tmp_path, moved, image_root=None).images[0]["source"] == "images/a.png"


def test_no_image_file_at_all_is_refused(tmp_path, three):
    with pytest.raises(
        FileNotFoundError, match=r"boxes.json none of the 3 .* a\.png: .*--image-root"
    ):
        _page(tmp_path, three, image_root=tmp_path / "elsewhere")
    assert not (tmp_path / "page.html").exists()


def test_a_file_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="boxes.json lists no images"):
        _page(tmp_path, pseudo_file([]))


def test_what_concerns_labels_is_there_only_with_them(tmp_path, three):
    labels = true_labels(["a.png"], (0, TEN, 0))
    without, with_labels = _page(tmp_path, three), _page(tmp_path, three, labels=labels)

    def ids(page: Page) -> set[str | None]:
        return {x.get("id") for _, x in page.elements}

    assert "labels" in ids(with_labels) and "labels" not in ids(without)
    assert "most unmatched" in with_labels.all("option")
    assert "most unmatched" not in without.all("option")


def test_classes_of_the_labels_alone_can_be_chosen_too(tmp_path, three):
    labels = true_labels(["a.png"], (0, TEN, 1), (0, TEN, 0), classes=("bee", "cow"))
    page = _page(tmp_path, three, labels=labels)
    assert page.data["classes"] == ["ant", "bee", "cow"]
    assert [row[5] for row in page.images[0]["labels"]] == [2, 1]


@pytest.mark.parametrize("threshold", [0.0, 0.35, 1.0])
def test_the_slider_starts_at_the_threshold(tmp_path, three, threshold):
    page = _page(tmp_path, three, threshold=threshold)
    (slider,) = (x for _, x in page.elements if x.get("id") == "threshold")
    assert slider["value"] == str(threshold)


def test_every_control_has_a_name(tmp_path, three):
    page = _page(tmp_path, three, labels=true_labels(["a.png"]))
    controls = [tag for tag, _ in page.elements if tag in ("input", "select")]
    assert len(controls) == len(page.all("label")) == 8


@pytest.mark.parametrize("embed", [False, True])
@pytest.mark.parametrize(
    "name", ["../secret.png", "{root}/secret.png", "link.png", "below/s.png", "a\0/b.png"]
)
def test_no_image_from_elsewhere_than_below_its_folder_is_shown(tmp_path, name, embed):
    write_images(tmp_path, "secret.png")
    write_images(tmp_path / "images", "a.png")
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "others").mkdir()
    write_images(tmp_path / "others", "s.png")
    (tmp_path / "images" / "below").symlink_to(tmp_path / "others", target_is_directory=True)
    with pytest.raises(ValueError, match="leads to .*, which is not below .*--image-root"):
        _page(tmp_path, pseudo_file(["a.png", name.format(root=tmp_path)]), embed=embed)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("embed", [False, True])
def test_a_file_that_is_no_image_is_not_shown(tmp_path, embed):
    write_images(tmp_path / "images", "a.png")
    (tmp_path / "images" / "passwd.png").write_text("root:x:0:0:root")
    (tmp_path / "images" / "x.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    page = _page(tmp_path, pseudo_file(["a.png", "passwd.png", "x.eps"]), embed=embed)
    assert [image["source"] is None for image in page.images] == [False, True, True]
    assert "cm9vd" not in (tmp_path / "page.html").read_text()


def test_names_that_are_no_unicode_or_end_lines_in_scripts_are_written(tmp_path):
    names = ["a\u2028b.png", "it's.png"]
    write_images(tmp_path / "images", *names)
    pseudo = pseudo_file(names, (0, TEN, 0.9, 0), classes=("\ud800", "\u2028';alert(1)//"))
    page = _page(tmp_path, pseudo)
    assert page.data["classes"][1] == "\u2028';alert(1)//"
    assert [image["name"] for image in page.images] == names


def test_images_are_found_by_the_names_that_exporters_give_them(tmp_path):
    write_images(tmp_path / "images", "a b.png", "c.png")
    page = _page(tmp_path, pseudo_file(["C:/mine/images/a%20b.png", "/gone/images/c.png"]))
    assert [x["source"] for x in page.images] == ["images/a%20b.png", "images/c.png"]
