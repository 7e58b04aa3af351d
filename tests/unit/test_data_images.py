import io
import struct
import zipfile
import zlib

import pytest
from PIL import Image

from recbole_hellm.data import images
from recbole_hellm.data.images import BrokenImage, ImageFolder, ImageZip, decode, image_stem, match_items, open_source
from recbole_hellm.errors import DataError


def photo(colour="red", size=(20, 10), kind="JPEG", **more):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, kind, **more)
    return stream.getvalue()


def png_that_claims(width, height):
    """A PNG of a few bytes whose header promises any size."""

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"\0" * 9)) + part(b"IEND", b"")


@pytest.fixture(params=["folder", "zip"])
def pack(request, tmp_path):
    """Put files into a folder or a zip archive and open it."""

    def put(files):
        if request.param == "folder":
            for name, data in files.items():
                path = tmp_path / "photos" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return open_source(tmp_path / "photos")
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return open_source(tmp_path / "photos.zip")

    return put


def test_a_picture_is_found_by_item_path_file_name_or_start(pack):
    names = ["7.jpg", "a/8.PNG", "9_front.webp", "sub/shoe.jpg", "a b.jpg", "5.png", "5.jpg", "notes.txt", ".7.jpg",
             "1_2.jpg", "%C3%A4%2F1.jpg"]  # fmt: skip
    source = pack({name: photo() for name in names})
    assert sorted(source.names()) == sorted(set(names) - {"notes.txt", ".7.jpg"})
    given = {"10": "sub/shoe.jpg", "11": "http://x.org/y/shoe.jpg?size=1", "12": "gone.jpg"}
    found = match_items(source, ["7", "8", "9", "10", "11", "12", "a%20b", "5", "1", "1_2", "ä/1"], given)
    assert found == {
        "7": "7.jpg", "8": "a/8.PNG", "9": "9_front.webp", "10": "sub/shoe.jpg", "11": "sub/shoe.jpg",
        "a%20b": "a b.jpg", "5": "5.jpg", "1_2": "1_2.jpg", "ä/1": "%C3%A4%2F1.jpg",
    }  # fmt: skip
    assert source.read("7.jpg") == photo()
    assert match_items(source, ["1"], {}) == {"1": "1_2.jpg"}


@pytest.mark.parametrize("cell", ["../secret.jpg", "/etc/x.jpg", "a/../../x.jpg", "C:/photos/x.jpg"])
def test_a_path_that_leads_out_means_its_file_name_in_the_source_alone(pack, tmp_path, cell):
    (tmp_path / "secret.jpg").write_bytes(photo())
    (tmp_path / "x.jpg").write_bytes(photo())
    assert match_items(pack({"7.jpg": photo()}), ["8"], {"8": cell}) == {}
    inside = pack({"deep/x.jpg": photo(), "deep/secret.jpg": photo()})
    assert match_items(inside, ["8"], {"8": cell}) == {"8": f"deep/{cell.rpartition('/')[2]}"}


def test_empty_and_large_files(pack, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    source = pack({"7.jpg": b"", "8.jpg": b"x" * 1001, "9.jpg": b"x" * 1000})
    with pytest.raises(BrokenImage, match="is empty"):
        source.read("7.jpg")
    with pytest.raises(BrokenImage, match="more than 1000 bytes"):
        source.read("8.jpg")
    assert len(source.read("9.jpg")) == 1000


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "7.jpg").write_bytes(photo())
    (folder / "8.jpg").symlink_to(folder / "7.jpg")
    assert list(ImageFolder(folder).names()) == ["7.jpg", "8.jpg"]
    (tmp_path / "secret.jpg").write_bytes(photo())
    (folder / "9.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match=r"9\.jpg is a link to a file outside .*: copy the picture instead"):
        ImageFolder(folder)
    (folder / "9.jpg").unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "5.jpg").write_bytes(photo())
    (folder / "more").symlink_to(tmp_path / "other")
    assert list(ImageFolder(folder).names()) == ["7.jpg", "8.jpg"]


@pytest.mark.parametrize("name", ["../7.jpg", "/7.jpg", "a/../../7.jpg", "..\\7.jpg", "C:\\7.jpg"])
def test_names_of_a_zip_that_lead_out_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("8.jpg", photo())
        archive.writestr(name, photo())
    with pytest.raises(DataError, match="leads out of the archive"):
        ImageZip(tmp_path / "x.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_broken_archives(tmp_path):
    path = tmp_path / "x.zip"
    with pytest.raises(DataError, match=r"x\.zip does not exist: correct --images"):
        open_source(path)
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="no readable zip archive"):
        open_source(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/7.jpg", photo())
        archive.writestr("7.jpg", bytes(5000))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"7.jpg", 0, data.index(b"PK\x01\x02")) + len("7.jpg")
    data[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    source = open_source(path)
    assert list(source.names()) == ["7.jpg"]
    with pytest.raises(BrokenImage, match="cannot be unpacked"):
        source.read("7.jpg")
    with pytest.raises(DataError, match=r"folder of images .*gone does not exist"):
        open_source(tmp_path / "gone")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_every_kind_becomes_rgb(kind):
    image = decode(photo("red", kind=kind))
    assert (image.mode, image.size) == ("RGB", (20, 10))
    assert image.getpixel((10, 5))[0] > 240


def test_transparent_parts_are_white_and_palettes_are_colours():
    stream = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(stream, "PNG")
    assert decode(stream.getvalue()).getpixel((1, 1)) == (255, 255, 255)
    stream = io.BytesIO()
    Image.new("RGB", (900, 4), (0, 255, 0)).convert("P").save(stream, "PNG")
    assert decode(stream.getvalue()).getpixel((1, 0)) == (0, 255, 0)


def test_large_pictures_shrink_and_lying_ones_turn():
    assert decode(photo(size=(3000, 1500))).size == (640, 320)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    assert decode(photo(size=(20, 10), exif=exif)).size == (10, 20)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is no JPEG"),
        (b"<html>not found</html>", "is no JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no JPEG"),
        (photo()[:300], "is damaged"),
        (photo(kind="PNG")[:45], "is damaged|is no JPEG"),
        (png_that_claims(100_000, 100_000), "claims more than 50000000 pixels"),
        (png_that_claims(20_000, 2_501), "claims more than 50000000 pixels"),
        (png_that_claims(200, 200), "is damaged"),
    ],
)
def test_what_is_no_usable_picture_is_said(data, reason):
    with pytest.raises(BrokenImage, match=reason):
        decode(data)


def test_file_names_of_fetched_pictures_stay_in_their_folder():
    assert image_stem("B00X-1_a") == "B00X-1_a"
    assert image_stem("../a b") == "..%2Fa%20b"
    assert image_stem("a%20b") == "a%20b"
    assert len(image_stem("ä" * 500)) == 64
