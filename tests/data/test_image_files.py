import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from pplemd.data import all_images, image_files, images
from pplemd.errors import DataError


def _png(seed=0, size=(6, 5), mode="RGB", fmt="PNG", level=None):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels)).astype(np.uint8)
    if level is not None:
        pixels[:] = level
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=fmt)
    return buffer.getvalue()


def _classes(prefix=""):
    return {f"{prefix}{name}/{i}.png": _png(i, level=40 * c) for c, name in enumerate("abc") for i in range(4 + c)}


@pytest.fixture(params=["folder", "zip"])
def write(request, tmp_path):
    def save(content):
        if request.param == "zip":
            with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in content.items():
                    archive.writestr(name, data)
            return tmp_path / "set.zip"
        for name, data in content.items():
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / name).write_bytes(data)
        (tmp_path / "set").mkdir(exist_ok=True)
        return tmp_path / "set"

    return save


def test_plain_images_in_order_of_names(write):
    contents = {f"{i}.png": _png(i) for i in range(8)} | {"notes.txt": b"hello", ".hidden.png": b"junk"}
    found = images(write(contents))
    assert (found.shape, found.classes, found.train.label) == ((5, 6, 3), None, None)
    assert (len(found.train.x), len(found.test.x)) == (6, 2)
    pixels = [np.asarray(Image.open(io.BytesIO(_png(i)))) for i in range(8)]
    expected = {bytes(image) for image in pixels}
    back = np.round((np.concatenate([found.train.x, found.test.x]) + 1.0) * 127.5).astype(np.uint8)
    assert {bytes(image) for image in back} == expected


@pytest.mark.parametrize("prefix", ["", "top/deep/"])
def test_sub_folders_name_the_classes(write, prefix):
    found = images(write(_classes(prefix) | {f"{prefix}__MACOSX/a/0.png": b"junk"}))
    assert found.classes == 3
    for split in (found.train, found.test):
        np.testing.assert_allclose((split.x[:, 0, 0, 0] + 1.0) * 127.5 / 40.0, split.label, atol=1e-5)
    assert np.bincount(found.train.label).tolist() == [3, 4, 4]


def test_one_sub_folder_is_no_class(write):
    assert images(write({f"only/{i}.png": _png(i) for i in range(4)})).classes is None


def test_grey_stays_grey_and_mixed_becomes_colour(write):
    grey = {f"{i}.png": _png(i, mode="L") for i in range(4)}
    assert images(write(grey)).shape == (5, 6, 1)
    assert images(write(grey | {"z.png": _png(9, mode="RGBA")})).shape == (5, 6, 3)


def test_size_crops_the_centre_and_resizes(write):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 255  # the centre square is white, what is cropped black
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, format="PNG")
    found = images(write({"a.png": buffer.getvalue(), "b.jpg": _png(1, (9, 9), "L", "JPEG", level=255)}), size=4)
    assert found.shape == (4, 4, 1)
    np.testing.assert_allclose(np.concatenate([found.train.x, found.test.x]), 1.0, atol=0.02)


BAD_CONTENT = {
    "nothing": ({}, "no images"),
    "no images": ({"notes.txt": b"hello"}, "no images"),
    "sizes": ({"a.png": _png(), "b.png": _png(size=(7, 5))}, "b.png.*pass size="),
    "corrupt": ({"a.png": _png(), "b.png": b"not an image"}, "found b.png unreadable"),
    "truncated": ({"a.png": _png(), "b.png": _png(size=(40, 40))[:900]}, "found b.png unreadable"),
    "truncated jpg": ({"b.jpg": _png(size=(40, 40), fmt="JPEG")[:700]}, "found b.jpg unreadable"),
    "other format": ({"a.png": _png(), "b.png": _png(fmt="GIF")}, "found b.png unreadable"),
    "loose images": (_classes() | {"loose.png": _png()}, "both beside and inside"),
    "train and test": ({f"{s}/{i}.png": _png() for s in ("train", "test") for i in range(3)}, "pass the train folder"),
    "lone class": ({"a/0.png": _png(), "a/1.png": _png(), "b/0.png": _png()}, "of class 1"),
}


@pytest.mark.parametrize(("content", "message"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_refuses_content(write, content, message):
    with pytest.raises(DataError, match=message):
        images(write(content))


def test_sixteen_bits_are_refused(write):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(buffer, format="PNG")
    with pytest.raises(DataError, match="more than 8 bits a channel in a.png.*/ 257"):  # and no cast, which wraps
        images(write({"a.png": buffer.getvalue(), "b.png": buffer.getvalue()}))


@pytest.mark.parametrize(("cap", "value"), [("MAX_FILE_BYTES", 100), ("MAX_PIXELS", 20), ("MAX_TOTAL_BYTES", 100)])
def test_caps_hold(write, monkeypatch, cap, value):
    path = write({f"{i}.png": _png(i) for i in range(4)})
    assert len(images(path).train.x) == 3
    monkeypatch.setattr(image_files, cap, value)
    with pytest.raises(DataError, match=r"expected (at most|fewer)"):
        images(path)


@pytest.mark.parametrize("pixels", [100, 60])  # above twice and above once Pillow's own limit: its error, its warning
def test_decompression_bombs_are_refused(write, monkeypatch, pixels):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(DataError, match="found bomb.png unreadable.*Decompression"):
        images(write({"bomb.png": _png(size=(pixels // 10, 10))}))


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "C:\\out.png"])
def test_a_zip_stays_inside_itself(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for member in ("a.png", "b.png", name):
            archive.writestr(member, _png())
    with pytest.raises(DataError, match="paths inside the zip"):
        images(tmp_path / "set.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_damaged_zips(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", _png(size=(30, 30)))
        archive.writestr("b.png", _png(size=(30, 30)))
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"\0" * 40 + whole[240:])
    with pytest.raises(DataError, match="found a.png unreadable"):
        images(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="neither a folder nor a whole zip"):
        images(path)
    path.write_bytes(whole.replace(b"PK\x01\x02", b"PK\x01\x03"))
    with pytest.raises(DataError, match="damaged"):
        images(path)


def test_missing_path_and_size(tmp_path):
    with pytest.raises(DataError, match="check the path"):
        images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="at least 1 pixel"):
        images(tmp_path, size=0)


def _in(fmt, **options):
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 6), 30, np.uint8)).save(buffer, format=fmt, **options)
    return buffer.getvalue()


def test_every_kind_is_read_or_told(write, caplog):
    kinds = {"a.webp": _in("WEBP", lossless=True), "b.PNG": _in("PNG"), "c.bmp": _in("BMP"), "d.jfif": _in("JPEG")}
    found = images(write(kinds))
    np.testing.assert_allclose(np.concatenate([found.train.x, found.test.x]), 30 / 127.5 - 1, atol=1e-6)
    assert not caplog.records
    images(write(kinds | {"e.gif": _in("GIF"), "f.tif": _in("TIFF"), "g.tif": _in("TIFF"), "notes.txt": b"hello"}))
    assert "4 images are read; left aside: 1 .gif, 2 .tif" in caplog.text
    assert ".txt" not in caplog.text


def test_a_folder_of_another_kind_says_which(write):
    with pytest.raises(DataError, match="no images that are read, but 2 .gif"):
        images(write({"a.gif": _in("GIF"), "b.gif": _in("GIF")}))


def test_animations_are_refused(write):
    frames = [Image.fromarray(np.full((5, 6), 80 * i, np.uint8)) for i in range(2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="several pictures in a.webp"):
        images(write({"a.webp": buffer.getvalue(), "b.png": _in("PNG")}))


def test_all_images_of_a_folder_a_zip_or_an_npz(write, tmp_path):
    contents = {f"{folder}/{i}.png": _png(i) for folder in ("train", "val", "00000") for i in range(3)}
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))) for _, data in sorted(contents.items())])
    found = all_images(write(contents))  # whatever its folders mean
    np.testing.assert_array_equal(np.rint((found + 1.0) * 127.5), pixels)
    np.savez(tmp_path / "some.npz", x=pixels)
    np.testing.assert_array_equal(all_images(tmp_path / "some.npz"), found)
