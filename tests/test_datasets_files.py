"""Where the files of data sets come from: the user's folder, a download, an interrupted one, or nowhere."""

import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tsssm import datasets
from tsssm._locking import FileLock
from tsssm.datasets import _files, _registry
from tsssm.datasets._files import Store, members

CONTENT = np.random.default_rng(0).bytes(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Publisher:
    """A local HTTP server of one file, ``thing.bin``, that counts requests and can break off or resume."""

    def __init__(self):
        self.content, self.stop_after, self.resumes, self.requests = CONTENT, None, True, []
        self.length, self.redirect = "known", None
        publisher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                span = self.headers.get("Range")
                publisher.requests.append(span)
                start = int(span[len("bytes=") : -1]) if span and publisher.resumes else 0
                if publisher.redirect is not None:
                    self.send_response(302)
                    self.send_header("Location", publisher.redirect)
                    return self.end_headers()
                if "/thing." not in self.path:
                    return self.send_error(404)
                if start >= len(publisher.content):
                    return self.send_error(416)
                body = publisher.content[start:]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(publisher.content) - 1}/*")
                if publisher.length == "known":
                    self.send_header("Content-Length", str(len(body)))
                elif publisher.length == "chunked":
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                if publisher.length != "chunked":
                    return self.wfile.write(body[: publisher.stop_after])
                for at in range(0, len(body), 10_000):
                    if publisher.stop_after is None or at < publisher.stop_after:
                        piece = body[at : at + 10_000]
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                if publisher.stop_after is None:
                    self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{{file}}"


@pytest.fixture
def publisher(monkeypatch):
    server = Publisher()
    thread = threading.Thread(target=server.server.serve_forever, args=(0.02,))
    thread.start()
    entry = {
        "title": "Thing",
        "source": "https://thing.org/",
        "url": server.url,
        "sha256": {"thing.bin": SHA256},
    }
    monkeypatch.setattr(_files, "registry", lambda: {"thing": entry})
    monkeypatch.delenv("TSSSM_DATA", raising=False)
    server.entry = entry
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


@pytest.fixture(params=["checksum known", "checksum not known"])
def either(request, publisher):
    """The publisher, with its checksum in the registry or not."""
    if request.param == "checksum not known":
        publisher.entry["sha256"] = {}
    return publisher


class TestDownload:
    def test_once(self, either, tmp_path):
        path = Store(tmp_path, True).get("thing", "thing.bin")
        assert path == tmp_path / "thing" / "thing.bin" and path.read_bytes() == CONTENT
        assert Store(tmp_path, True).get("thing", "thing.bin") == path
        assert Store(tmp_path, False).get("thing", "thing.bin") == path
        assert either.requests == [None], "later calls read what is there"
        assert not list(tmp_path.rglob("*.part"))

    def test_into_the_cache_by_default(self, publisher, tmp_path, monkeypatch):
        monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
        assert Store(None, True).get("thing", "thing.bin") == tmp_path / "tsssm" / "thing" / "thing.bin"

    @pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b[:100] + b"?" + b[101:], lambda b: b""])
    def test_an_altered_file_is_fetched_again(self, either, tmp_path, spoil):
        path = Store(tmp_path, True).get("thing", "thing.bin")
        path.write_bytes(spoil(CONTENT))
        with pytest.raises(
            FileNotFoundError, match="is altered or truncated and download_if_missing is False"
        ):
            Store(tmp_path, False).get("thing", "thing.bin")
        assert Store(tmp_path, True).get("thing", "thing.bin").read_bytes() == CONTENT
        assert len(either.requests) == 2

    def test_resumes(self, either, tmp_path):
        either.stop_after = 20_000
        with pytest.raises(ConnectionError, match=r"thing/thing.bin could not be downloaded from http://127"):
            Store(tmp_path, True).get("thing", "thing.bin")
        assert not (tmp_path / "thing" / "thing.bin").exists()
        either.stop_after = None
        assert Store(tmp_path, True).get("thing", "thing.bin").read_bytes() == CONTENT
        # Without a checksum nobody could tell whether the pieces are of one file.
        known = bool(either.entry["sha256"])
        assert either.requests == [None, "bytes=20000-" if known else None]

    def test_a_server_that_cannot_resume_sends_all(self, publisher, tmp_path):
        publisher.stop_after, publisher.resumes = 20_000, False
        with pytest.raises(ConnectionError):
            Store(tmp_path, True).get("thing", "thing.bin")
        publisher.stop_after = None
        assert Store(tmp_path, True).get("thing", "thing.bin").read_bytes() == CONTENT

    def test_a_part_that_is_too_long_is_thrown_away(self, publisher, tmp_path):
        (tmp_path / "thing").mkdir()
        (tmp_path / "thing" / "thing.bin.part").write_bytes(CONTENT + b"more")
        assert Store(tmp_path, True).get("thing", "thing.bin").read_bytes() == CONTENT
        assert publisher.requests == ["bytes=50004-", None]

    def test_wrong_content_is_refused(self, publisher, tmp_path):
        publisher.content = CONTENT[::-1]
        for _ in range(2):
            with pytest.raises(ValueError, match="SHA256 hash"):
                Store(tmp_path, True).get("thing", "thing.bin")
            assert not list(tmp_path.rglob("thing.bin*"))
        publisher.content = CONTENT
        assert Store(tmp_path, True).get("thing", "thing.bin").read_bytes() == CONTENT


ZIPPED = io.BytesIO()
with zipfile.ZipFile(ZIPPED, "w") as archive:
    archive.writestr("file", CONTENT)


class TestTrust:
    """What is refused, whether the publisher's checksum is known or not."""

    def refused(self, publisher, tmp_path, message, file="thing.bin"):
        with pytest.raises(ConnectionError, match=message):
            Store(tmp_path, True).get("thing", file)
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".part"]

    @pytest.mark.parametrize("place", ["http://thing.org/thing.bin", "ftp://thing.org/thing.bin"])
    def test_only_encrypted_addresses(self, either, tmp_path, place):
        either.redirect = place
        self.refused(either, tmp_path, "is not encrypted; only https is accepted, also after redirects")
        assert len(either.requests) == 1
        either.entry["url"] = place
        self.refused(either, tmp_path, "is not encrypted")
        assert len(either.requests) == 1

    @pytest.mark.parametrize("length", ["known", "chunked"])
    def test_a_truncated_answer(self, either, tmp_path, length):
        either.length, either.stop_after = length, 20_000
        self.refused(either, tmp_path, "thing/thing.bin could not be downloaded")
        either.stop_after = None
        assert Store(tmp_path, True).get("thing", "thing.bin").read_bytes() == CONTENT

    def test_an_answer_that_may_end_anywhere(self, either, tmp_path):
        either.length = "not known"
        if either.entry["sha256"]:  # which tells whether it is whole
            assert Store(tmp_path, True).get("thing", "thing.bin").read_bytes() == CONTENT
        else:
            self.refused(either, tmp_path, "does not say how long the file is, and no checksum is known")

    @pytest.mark.parametrize("length", ["known", "chunked"])
    def test_too_large_a_file(self, either, tmp_path, length):
        either.length, either.entry["largest"] = length, 49_999
        self.refused(either, tmp_path, "more than the 49999")
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.part")) <= 49_999

    def test_an_archive_that_fails_its_own_checksums(self, publisher, tmp_path):
        publisher.entry["sha256"] = {}
        content = ZIPPED.getvalue()
        publisher.content = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
        self.refused(publisher, tmp_path, "the download is damaged", "thing.zip")
        publisher.content = content
        assert Store(tmp_path, True).get("thing", "thing.zip").read_bytes() == content

    def test_parts_of_other_processes_are_left_alone(self, publisher, tmp_path):
        part = tmp_path / "thing" / "thing.bin.part"
        part.parent.mkdir()
        part.write_bytes(CONTENT[:100])
        theirs = FileLock(part.with_name("thing.bin.part.lock"))
        assert theirs.exclusive
        assert Store(tmp_path, True).get("thing", "thing.bin").read_bytes() == CONTENT
        assert part.read_bytes() == CONTENT[:100] and publisher.requests == [None]
        theirs.release()
        assert sorted(path.name for path in part.parent.iterdir()) == ["thing.bin", "thing.bin.part"]

    def test_a_member_that_would_fill_the_memory(self, tmp_path, monkeypatch):
        (tmp_path / "a.zip").write_bytes(ZIPPED.getvalue())
        monkeypatch.setattr(_files, "_LARGEST_MEMBER", 49_999)
        with pytest.raises(ValueError, match="file in it has 50000 bytes"):
            list(members(tmp_path / "a.zip", lambda name: True))


class TestWithoutDownload:
    def test_the_users_copy_comes_first_and_is_used_as_it_is(self, publisher, tmp_path, monkeypatch):
        monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
        (tmp_path / "thing").mkdir()
        (tmp_path / "thing" / "thing.bin").write_bytes(b"repacked")
        assert Store(None, True).get("thing", "thing.bin").read_bytes() == b"repacked"
        assert publisher.requests == []
        # data_home says where to look instead.
        assert Store(tmp_path / "other", True).get("thing", "thing.bin").read_bytes() == CONTENT

    @pytest.mark.parametrize("reason", ["offline", "no such file"])
    def test_offline_says_the_address_and_the_variable(self, publisher, tmp_path, reason):
        if reason == "offline":
            publisher.entry["url"] = "http://127.0.0.1:9/{file}"  # the discard port: nobody listens
            file = "thing.bin"
        else:
            file = "other.bin"
        with pytest.raises(ConnectionError) as error:
            Store(tmp_path, True).get("thing", file)
        url = publisher.entry["url"].format(file=file)
        for part in (url, f"FOLDER/thing/{file}", "TSSSM_DATA names FOLDER"):
            assert part in str(error.value)
        assert "\n" not in str(error.value)

    def test_download_if_missing(self, publisher, tmp_path):
        with pytest.raises(FileNotFoundError, match="download_if_missing is False.*127.0.0.1.*TSSSM_DATA"):
            Store(tmp_path, False).get("thing", "thing.bin")
        assert publisher.requests == []

    def test_no_address(self, publisher, tmp_path, monkeypatch):
        publisher.entry["url"] = None
        for value, state in ((None, "it is not set"), (str(tmp_path), f"it is set to {str(tmp_path)!r}")):
            if value:
                monkeypatch.setenv("TSSSM_DATA", value)
            with pytest.raises(FileNotFoundError) as error:
                Store(None, True).get("thing", "thing.bin")
            for part in (
                "cannot be downloaded automatically",
                "https://thing.org/",
                "FOLDER/thing/thing.bin",
                state,
            ):
                assert part in str(error.value)

    @pytest.mark.parametrize(
        ("fetch", "path", "url"),
        [
            (datasets.fetch_fsdd, "fsdd/master.tar.gz", "https://github.com/Jakobovski/"),
            (
                datasets.fetch_speech_commands,
                "speech_commands/speech_commands_v0.02.tar.gz",
                "https://storage.",
            ),
            (datasets.fetch_mnist, "mnist/train-images-idx3-ubyte.gz", "https://storage.googleapis.com/cvdf"),
            (datasets.fetch_cifar10, "cifar10/cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/"),
            (datasets.fetch_ett, "ett/ETTh1.csv", "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/"),
            (
                datasets.fetch_physionet2012,
                "physionet2012/set-a.tar.gz",
                "https://physionet.org/files/challenge",
            ),
            (
                datasets.fetch_physionet2019,
                "physionet2019/training_setA.zip",
                "https://archive.physionet.org/users/shared/challenge-2019/",
            ),
            (
                datasets.fetch_bidmc,
                "bidmc/bidmc_csv/bidmc_01_Signals.csv",
                "https://physionet.org/files/bidmc/",
            ),
            (lambda **k: datasets.fetch_ucr("GunPoint", **k), "ucr/GunPoint.zip", "https://timeseriesclass"),
            (lambda **k: datasets.fetch_uea("NATOPS", **k), "uea/NATOPS.zip", "https://timeseriesclass"),
            (
                lambda **k: datasets.fetch_tser("IEEEPPG", **k),
                "tser/IEEEPPG/IEEEPPG_TRAIN.ts",
                "https://zenodo.org/record/3902710/files/IEEEPPG_TRAIN.ts",
            ),
            (
                lambda **k: datasets.fetch_lra("text", **k),
                "imdb/aclImdb_v1.tar.gz",
                "https://ai.stanford.edu/",
            ),
            (
                lambda **k: datasets.fetch_lra("retrieval", **k),
                "lra/tsv_data/new_aan_pairs.train.tsv",
                "google-res",
            ),
            (
                lambda **k: datasets.fetch_lra("image", **k),
                "cifar10/cifar-10-binary.tar.gz",
                "https://www.cs",
            ),
        ],
    )
    def test_every_fetcher_says_what_is_missing(self, fetch, path, url, tmp_path):
        with pytest.raises(FileNotFoundError) as error:
            fetch(data_home=tmp_path, download_if_missing=False)
        assert path in str(error.value) and url in str(error.value) and "TSSSM_DATA" in str(error.value)
        assert not list(tmp_path.iterdir())


class TestArchives:
    def test_members_reach_nowhere(self, tmp_path):
        names = ["../outside.txt", "/absolute.txt", "folder/inside.txt"]
        tar, zipped = tmp_path / "in" / "a.tar.gz", tmp_path / "in" / "a.zip"
        tar.parent.mkdir()
        with tarfile.open(tar, "w:gz") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 3
                archive.addfile(member, io.BytesIO(b"abc"))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        with zipfile.ZipFile(zipped, "w") as archive:
            for name in names:
                archive.writestr(name, b"abc")
            archive.mkdir("empty") if hasattr(archive, "mkdir") else None
        before = sorted(tmp_path.rglob("*"))
        for path in (tar, zipped):
            found = [(str(name), content) for name, content in members(path, lambda name: True)]
            assert found == [(name, b"abc") for name in names]
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize("kind", ["a.tar.gz", "a.zip"])
    @pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"<html>", lambda b: b""])
    def test_a_damaged_archive_is_named(self, tmp_path, kind, spoil):
        path = tmp_path / kind
        content = np.random.default_rng(0).bytes(10_000)
        if kind.endswith("zip"):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("file", content)
        else:
            with tarfile.open(path, "w:gz") as archive:
                member = tarfile.TarInfo("file")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        path.write_bytes(spoil(path.read_bytes()))
        with pytest.raises(ValueError, match=r"a\.(tar\.gz|zip) is truncated or damaged"):
            list(members(path, lambda name: True))


class TestRegistry:
    def test_entries_are_complete(self):
        for entry in _registry.registry().values():
            keys = {"title", "source", "doi", "licence", "citation", "url", "sha256"}
            assert keys <= set(entry) <= keys | {"splits", "records", "largest"}
            assert entry["source"].startswith(("https://", "http://")) and entry["citation"]
            assert entry["url"] is None or entry["url"].startswith("https://")
            for file, checksum in entry["sha256"].items():
                assert not Path(file).is_absolute() and len(checksum) == 64 and int(checksum, 16)

    def test_every_collection_has_a_card_and_a_place_in_the_index(self):
        folder = Path(__file__).parents[1] / "datasets"
        index = (folder / "README.md").read_text(encoding="utf-8")
        cards = {path.stem for path in (folder / "cards").glob("*.md")}
        generators = {"listops", "memory", "irregular", "icu", "pathfinder", "vitals"}
        assert cards == (set(_registry.registry()) | generators) - {"imdb"}  # imdb is a part of lra
        for name in cards:
            text = _registry.card(name)
            assert f"cards/{name}.md" in index
            for row in ("Task", "Shape", "Units", "Licence", "Cite", "Protocol", "Traps"):
                assert f"| {row} |" in text, (name, row)
        for name in datasets.__all__:
            assert name in index

    def test_found_inside_an_installed_package(self, tmp_path, monkeypatch):
        inside = tmp_path / "tsssm" / "_datasets_registry"
        (inside / "cards").mkdir(parents=True)
        (inside / "registry.json").write_text('{"from": "wheel"}')
        (inside / "cards" / "thing.md").write_text("# Thing")
        monkeypatch.setattr(_registry, "__file__", str(tmp_path / "tsssm" / "datasets" / "_registry.py"))
        assert _registry.registry.__wrapped__() == {"from": "wheel"} and _registry.card("thing") == "# Thing"

    @pytest.mark.data
    @pytest.mark.skipif("TSSSM_DATA" not in os.environ, reason="TSSSM_DATA is not set")
    def test_checksums_are_those_of_the_publishers_files_at_hand(self):
        root, compared = Path(os.environ["TSSSM_DATA"]), []
        for name, entry in _registry.registry().items():
            if name == "mnist" or name == "physionet2012":
                continue  # compressed anew: the same content in other bytes
            for file, checksum in entry["sha256"].items():
                if (root / name / file).exists():
                    compared.append(file)
                    assert hashlib.sha256((root / name / file).read_bytes()).hexdigest() == checksum, file
        assert "ETTh1.csv" in compared and "bidmc_csv/bidmc_02_Signals.csv" in compared
        outcomes = (root / "physionet2012" / "Outcomes-a.txt").read_bytes()
        known = json.loads((Path(__file__).parents[1] / "datasets" / "registry.json").read_text())
        assert hashlib.sha256(outcomes).hexdigest() == known["physionet2012"]["sha256"]["Outcomes-a.txt"]
