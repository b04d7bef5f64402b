import pytest

from tlkeras.data.open import open_dataset as open_list
from tlkeras.errors import DataError


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "p").mkdir()
    for name in ("1.jpg", "2.jpg", "3, three.jpg"):
        (tmp_path / "p" / name).write_bytes(b"x")
    return tmp_path


EXPECTED = [("p/1.jpg", "cat", "train"), ("p/2.jpg", "dog", "validation"), ("p/3, three.jpg", "cat", "")]


def rows(folder, images):
    return [
        (path.removeprefix(f"{folder}/"), images.class_names[label], split)
        for path, label, split in zip(images.paths, images.labels, images.splits.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    "text",
    [
        'path,label,split\np/1.jpg,cat,train\np/2.jpg,dog,VAL\n"p/3, three.jpg",cat,\n',
        "p/1.jpg;cat;training\np/2.jpg;dog;valid\np/3, three.jpg;cat;\n",
        "Filename\tCategory\tSubset\r\np/1.jpg\tcat\tTrain\r\n\r\np/2.jpg\tdog\tdev\r\np/3, three.jpg\tcat\t\r\n",
        '\ufeff"label","id","image","set"\ncat,7,p/1.jpg,train\ndog,8,p/2.jpg,validation\ncat,9,"p/3, three.jpg",\n',
        "set;class;file\ntrain; cat ;p/1.jpg\nval;dog;p/2.jpg\n;cat;p/3, three.jpg",
    ],
)
def test_lists_as_people_write_them(photos, text):
    (photos / "list.csv").write_text(text, encoding="utf-8", newline="")
    assert rows(photos, open_list(photos / "list.csv")) == EXPECTED


def test_absolute_paths_and_missing_files_are_listed(photos):
    path = photos / "p" / "1.jpg"
    (photos / "list.csv").write_text(f"path,label\n{path},cat\ngone.jpg,dog\n")
    images = open_list(photos / "list.csv")
    assert images.paths == (str(path), str(photos / "gone.jpg"))
    assert images.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path,label\np/1.jpg,cat\np/2.jpg\n", "line 3 .* it has 1 of 2 columns"),
        ("path,label\np/1.jpg,cat\n,dog\n", "line 3 .* its path is empty"),
        ("path,label\np/1.jpg,\n", "line 2 .* its label is empty"),
        ("path,label,split\np/1.jpg,cat,holdout\n", "line 2 .* its split is 'holdout'"),
        ('path,label\np/1.jpg,cat\n"p/2.jpg,dog\n', "line 3 .* unexpected end"),
        ("path,label\np/1.jpg,cat\np/2.jpg,cat\n", "at least two classes; received only 'cat'"),
        ("gone.jpg,cat\np/1.jpg,dog\n", "names its columns.*gone.jpg,cat"),
        ("just a text\n", "names its columns"),
        ("", "empty"),
        ("\n \n", "empty"),
    ],
)
def test_wrong_lists_name_the_line(photos, text, problem):
    (photos / "list.csv").write_text(text)
    with pytest.raises(DataError, match=problem):
        open_list(photos / "list.csv")


def test_an_excel_unicode_file_is_read_where_its_mark_tells_it(photos):
    (photos / "list.csv").write_text("path,label\np/1.jpg,cat\np/2.jpg,dog\n", encoding="utf-16")
    assert open_list(photos / "list.csv").class_names == ("cat", "dog")
    (photos / "list.csv").write_bytes("path,label\np/1.jpg,cat\n".encode("utf-16")[2:])
    with pytest.raises(DataError, match="Save it as CSV UTF-8"):
        open_list(photos / "list.csv")
    with pytest.raises(DataError, match="no such list"):
        open_list(photos / "none.csv")
