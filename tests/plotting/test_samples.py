import numpy as np
import pytest
from PIL import Image

from pplemd.errors import DataError
from pplemd.plotting.samples import draw, image_grid, save_png
from pplemd.plotting.scatters import scatter


def _images(count=5, shape=(8, 8, 1)):
    return np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)


def test_grid_places_and_enlarges_every_image():
    x = np.linspace(-1, 1, 6 * 2 * 3).reshape(6, 2, 3, 1).astype(np.float32)
    picture = np.asarray(image_grid(x, columns=3, scale=4))
    assert picture.shape == (2 * (2 * 4 + 1) + 1, 3 * (3 * 4 + 1) + 1)
    for index in range(6):
        top, left = 1 + (index // 3) * 9, 1 + (index % 3) * 13
        shown = picture[top : top + 8, left : left + 12]
        expected = np.round((x[index, :, :, 0] + 1) * 127.5).repeat(4, 0).repeat(4, 1)
        np.testing.assert_array_equal(shown, expected)
    assert (picture[0] == 128).all()


def test_grid_makes_digits_visible_and_keeps_colour():
    assert image_grid(_images(1)).size == (64 + 4, 64 + 4)
    assert image_grid(_images(9)).mode == "L"
    colour = np.full((2, 70, 70, 3), -1.0, np.float32)
    colour[..., 2] = 1.0
    picture = image_grid(colour)
    assert (picture.mode, picture.size) == ("RGB", (2 * 71 + 1, 72))
    assert picture.getpixel((20, 20)) == (0, 0, 255)


def test_grid_survives_nan_and_excess():
    x = np.zeros((1, 2, 2, 1), np.float32)
    x[0, :, :, 0] = [[np.nan, 5.0], [-np.inf, np.inf]]
    shown = np.asarray(image_grid(x, scale=1))[1:3, 1:3]
    assert shown.tolist() == [[128, 255], [0, 255]]
    assert image_grid(np.zeros((3000, 2, 2, 1), np.float32), scale=1).size == (32 * 3 + 1, 32 * 3 + 1)


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (3, 8, 8, 0), (3, 8, 8, 2)])
def test_grid_refuses(shape):
    with pytest.raises(DataError, match="h, w"):
        image_grid(np.zeros(shape, np.float32))
    with pytest.raises(DataError, match="at least 1"):
        image_grid(_images(), columns=0)


def _orange(picture):
    """Pixels of the samples' colour."""
    r, g, b = np.moveaxis(np.asarray(picture).astype(int), -1, 0)
    return (r > 190) & (g < 170) & (b < 130)


@pytest.mark.parametrize(("width", "panels"), [(1, 1), (2, 1), (3, 1), (4, 2), (50, 3)])
def test_scatter_of_each_width(width, panels):
    rng = np.random.default_rng(0)
    picture = scatter(rng.standard_normal((300, width)), rng.standard_normal((200, width)))
    assert (picture.mode, picture.size) == ("RGB", (500 * panels, 500))
    for panel in range(panels):
        assert _orange(picture)[60:, 500 * panel : 500 * (panel + 1)].sum() > 100


def test_scatter_shows_where_the_samples_are():
    rng = np.random.default_rng(0)
    reference = rng.uniform(-1, 1, (500, 2))
    left = _orange(scatter(np.array([[-0.8, 0.8]]).repeat(50, 0), reference))[60:]
    right = _orange(scatter(np.array([[0.8, -0.8]]).repeat(50, 0), reference))[60:]
    (top, x_left), (bottom, x_right) = (np.argwhere(found).mean(axis=0) for found in (left, right))
    assert x_left < 250 < x_right
    assert top < bottom


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("reference", [None, np.zeros((3, 1))])
def test_scatter_survives_nan_and_degenerate_samples(width, reference):
    reference = None if reference is None else reference.repeat(width, 1)
    x = np.random.default_rng(0).standard_normal((40, width))
    clean = scatter(x, reference)
    x[::2] = np.nan
    assert np.asarray(scatter(x, reference)).tobytes() != np.asarray(clean).tobytes()
    for samples in (np.full((4, width), np.inf), np.ones((4, width)), np.zeros((0, width))):
        assert scatter(samples, reference).size == (500, 500)


def test_scatter_refuses():
    with pytest.raises(DataError, match="one d"):
        scatter(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(DataError, match="expected"):
        scatter(np.zeros(4))


def test_draw_picks_by_shape():
    x = _images(4, (64,))
    grid = image_grid(x.reshape(4, 8, 8, 1))
    for shape in ((8, 8, 1), (8, 8)):
        assert draw(x, shape).tobytes() == grid.tobytes()
    assert draw(_images(4, (4, 4, 3)), (4, 4, 3)).mode == "RGB"
    points = _images(30, (2,))
    assert draw(points, (2,), points).tobytes() == scatter(points, points).tobytes()
    assert draw(_images(4, (4, 4, 2)), (4, 4, 2)).size[0] == 1500
    assert draw(_images(30, ()), ()).size == (500, 500)
    with pytest.raises(DataError, match="expected"):
        draw(x, (8, 8, 3))


def test_save_is_whole_or_nothing(tmp_path):
    picture = image_grid(_images())
    path = tmp_path / "deep" / "picture.png"
    save_png(path, picture)
    assert Image.open(path).tobytes() == picture.tobytes()
    before = path.read_bytes()

    class Broken:
        def save(self, file, format):
            file.write(b"half")
            raise OSError("no space left on device")

    broken = Image.new("L", (4, 4))
    broken.save = Broken().save
    with pytest.raises(DataError, match="no space left"):
        save_png(path, broken)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["picture.png"]
    with pytest.raises(DataError, match="not writable"):
        save_png(path / "below" / "a.png", picture)
