"""The download from Kaggle: the real kagglehub against a local server, and a stub for when it is not installed."""

import errno
import io
import json
import socket
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from triptych.cli import main
from triptych.data import archives
from triptych.data.base import DataModule
from triptych.data.catalogue import data_sets
from triptych.data.download import from_kaggle
from triptych.data.errors import DataError

PAGE = "datasets/owner/small"


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def documents_archive() -> bytes:
    """The competition's archive: nested archives, each with a folder of the same name."""
    entries = {f"{part}.zip": zipped({f"{part}/1.png": b"png"}) for part in ("train", "train_cleaned", "test")}
    return zipped({**entries, "sampleSubmission.csv.zip": zipped({"sampleSubmission.csv": b"id,value\n"})})


def xrays_archive() -> bytes:
    """The data set's archive: everything twice, with leftover files of macOS."""
    files = [f"{part}/{label}/1.jpeg" for part in ("train", "val", "test") for label in ("NORMAL", "PNEUMONIA")]
    twice = [f"chest_xray/{file}" for file in files] + [f"chest_xray/chest_xray/{file}" for file in files]
    left = {"chest_xray/__MACOSX/._train": b"", "chest_xray/chest_xray/.DS_Store": b"left"}
    return zipped({**dict.fromkeys(twice, b"jpeg"), **left})


class Kaggle(BaseHTTPRequestHandler):
    """Answers kagglehub's three calls as Kaggle does: the version, a redirect to the storage, and the archive."""

    archive = b""
    status = 200
    headers_of_archive: dict[str, str] = {}  # noqa: RUF012 (set by the fixture, never changed)
    authorization: str | None = None

    def do_POST(self) -> None:
        type(self).authorization = self.headers["Authorization"]
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.status != 200:
            return self.answer(self.status, json.dumps({"code": self.status, "message": "no"}).encode())
        if self.path == "/api/v1/datasets.DatasetApiService/GetDataset":
            return self.answer(200, json.dumps({"currentVersionNumber": 2}).encode())
        assert self.path in (
            "/api/v1/datasets.DatasetApiService/DownloadDataset",
            "/api/v1/competitions.CompetitionApiService/DownloadDataFiles",
        )
        return self.answer(302, b"", {"Location": "/storage/archive.zip"})

    def do_GET(self) -> None:
        assert self.path == "/storage/archive.zip"
        self.answer(200, self.archive, {"Content-Type": "application/zip", **self.headers_of_archive})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        sent = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Points kagglehub at another address, with a token and isolated from the user's own settings."""
    pytest.importorskip("kagglehub", reason="needs kagglehub: make setup EXTRAS=kaggle")
    from kagglesdk import kaggle_env

    for name in ("USERNAME", "KEY", "KERNEL_RUN_TYPE", "DATA_PROXY_URL"):
        monkeypatch.delenv(f"KAGGLE_{name}", raising=False)
    monkeypatch.delenv("TBE_RUNTIME_ADDR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home" / ".kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token-of-a-test")
    # The variable chooses among fixed addresses; LOCALHOST is a loopback address even unpatched.
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    return lambda address: monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, address)


@pytest.fixture
def kaggle(endpoint: Callable[[str], None]) -> Iterator[type[Kaggle]]:
    handler = type("Handler", (Kaggle,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        endpoint(f"http://127.0.0.1:{server.server_port}")
        yield handler
        server.shutdown()
        thread.join()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, str], str]], None]:
    """Replaces kagglehub by a stub that calls ``download(handle, output_dir)``."""
    names = ("UnauthenticatedError", "DataCorruptionError")
    exceptions = SimpleNamespace(**{name: type(name, (Exception,), {}) for name in names})

    def put(download: Callable[[str, str], str]) -> None:
        module = SimpleNamespace(competition_download=download, dataset_download=download, exceptions=exceptions)
        monkeypatch.setitem(sys.modules, "kagglehub", module)

    return put


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def data_set(name: str) -> type[DataModule]:
    """The data set of this name; skips the test in a project without it."""
    if name not in data_sets():
        pytest.skip(f"the data set {name} is not here")
    return data_sets()[name]


def refuse(root: Path, message: str, page: str = PAGE, contents: tuple[str, ...] = ("a.csv",)) -> None:
    """Expect a one-line error, and nothing left on disk."""
    with pytest.raises(DataError, match=message) as caught:
        from_kaggle(page, root / "small", contents)
    assert "\n" not in str(caught.value)
    assert not root.exists() or list(root.iterdir()) == []


# The real kagglehub against the local server


def test_documents_are_unpacked_into_their_folder(kaggle: type[Kaggle], tmp_path: Path) -> None:
    kaggle.archive = documents_archive()
    folder = data_set("documents").download(tmp_path / "data")
    assert folder == tmp_path / "data" / "denoising-dirty-documents"
    assert files(tmp_path / "data") == [
        f"denoising-dirty-documents/{name}"
        for name in ("sampleSubmission.csv", "test/1.png", "train/1.png", "train_cleaned/1.png")
    ]
    assert kaggle.authorization == "Bearer token-of-a-test"
    assert not (tmp_path / "cache").exists()


def test_xrays_are_unpacked_without_duplicates(kaggle: type[Kaggle], tmp_path: Path) -> None:
    kaggle.archive = xrays_archive()
    folder = data_set("xrays").download(tmp_path)
    expected = [f"{part}/{label}/1.jpeg" for part in ("test", "train", "val") for label in ("NORMAL", "PNEUMONIA")]
    assert files(folder) == [f"chest_xray/{name}" for name in expected]
    assert sorted(path.name for path in folder.glob("chest_xray/*")) == ["test", "train", "val"]


def test_housing_is_downloaded_by_training_and_by_command(
    kaggle: type[Kaggle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    california = data_set("california")
    california.synthesize(tmp_path / "made-up")
    table = (tmp_path / "made-up" / "housing.csv").read_bytes()
    kaggle.archive = zipped({"housing.csv": table})
    module = california(root=str(tmp_path / "one"), source="kaggle")
    module.setup()
    assert module.describe()["source"] == "files"
    with pytest.raises(SystemExit) as caught:
        main(["data", "download", "california", "--root", str(tmp_path / "two")])
    assert caught.value.code == 0
    assert files(tmp_path / "two") == ["california-housing-prices/housing.csv"]
    # Training uses what is already there; the command refuses.
    monkeypatch.setattr(kaggle, "status", 500)
    california(root=str(tmp_path / "two"), source="kaggle").setup()
    with pytest.raises(SystemExit) as caught:
        main(["data", "download", "california", "--root", str(tmp_path / "two")])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("status", "page", "message"),
    [
        (401, PAGE, r"does not accept the account's token \(401\): make a token at .*/settings/api"),
        (403, PAGE, r"refuses this data set \(403\): see at https://www\.kaggle\.com/datasets/owner/small"),
        (403, "competitions/small", r"accept .*rules .*https://www\.kaggle\.com/competitions/small/rules"),
        (404, PAGE, r"has no https://www\.kaggle\.com/datasets/owner/small \(404\)"),
        (404, "competitions/small", r"has no https://www\.kaggle\.com/competitions/small \(404\)"),
        (503, PAGE, r"answered 503 .*try again later"),
    ],
)
def test_a_refusal_by_kaggle_is_explained(
    kaggle: type[Kaggle], tmp_path: Path, status: int, page: str, message: str
) -> None:
    kaggle.status = status
    refuse(tmp_path / "data", message, page)


def test_a_missing_token_is_explained(kaggle: type[Kaggle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    refuse(tmp_path / "data", "to accounts only: make a token at .*KAGGLE_API_TOKEN", "competitions/small")
    assert kaggle.authorization is None


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_malformed_credentials_file_is_explained(
    kaggle: type[Kaggle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    file = tmp_path / "home" / ".kaggle" / "kaggle.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    refuse(tmp_path / "data", r"kaggle\.json.*: make a token at")


def test_a_refused_connection_is_explained(endpoint: Callable[[str], None], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    endpoint(f"http://127.0.0.1:{port}")
    refuse(tmp_path / "data", "connection to Kaggle failed or broke off .*refused.* a browser gets from .*small")


def test_a_broken_connection_is_explained(kaggle: type[Kaggle], tmp_path: Path) -> None:
    kaggle.archive = b"PK"
    kaggle.headers_of_archive = {"Content-Length": "1000"}
    refuse(tmp_path / "data", "connection to Kaggle failed or broke off")


@pytest.mark.parametrize("damage", ["a web page", "cut off", "flipped", "other checksum"])
def test_a_damaged_download_is_refused(kaggle: type[Kaggle], tmp_path: Path, damage: str) -> None:
    good = zipped({"a.csv": bytes(range(256)) * 10})
    flipped = good[:60] + bytes(byte ^ 255 for byte in good[60:80]) + good[80:]
    kaggle.archive = {"a web page": b"<html>", "cut off": good[:-30], "flipped": flipped}.get(damage, good)
    if damage == "other checksum":
        kaggle.headers_of_archive = {"X-Goog-Hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="}
    refuse(tmp_path / "data", "what came from Kaggle is damaged")


def test_an_incomplete_download_names_what_is_missing(kaggle: type[Kaggle], tmp_path: Path) -> None:
    kaggle.archive = zipped({"train/1.png": b"1", "test/": b"", "empty.csv": b""})
    contents = ("train", "test", "empty.csv", "a.csv")
    refuse(tmp_path / "data", r"lacks test, empty\.csv, a\.csv: look whether", contents=contents)


def test_a_damaged_nested_archive_is_named(kaggle: type[Kaggle], tmp_path: Path) -> None:
    kaggle.archive = zipped({"train.zip": zipped({"train/1.png": b"1"})[:-30]})
    refuse(tmp_path / "data", r"train\.zip is damaged", "competitions/small")


def test_path_traversal_never_leaves_the_folder(kaggle: type[Kaggle], tmp_path: Path) -> None:
    kaggle.archive = zipped({"a.csv": b"1", "train.zip": zipped({"../../../evil": b"evil"})})
    refuse(tmp_path / "data", "leaves its folder")
    # kagglehub unpacks the outer archive with Python's zipfile, which strips ".." from names.
    kaggle.archive = zipped({"a.csv": b"1", "../../evil": b"evil"})
    assert files(from_kaggle(PAGE, tmp_path / "data" / "small", ["a.csv"])) == ["a.csv", "evil"]
    assert not list(tmp_path.glob("evil"))


def test_a_decompression_bomb_is_refused(kaggle: type[Kaggle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 100_000)
    kaggle.archive = zipped({"train.zip": zipped({"zeros": bytes(1_000_000)})})
    refuse(tmp_path / "data", "unpack to 1,000,000 bytes, more than 100,000")


# With or without kagglehub


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with pytest.raises(DataError, match=r"small exists already: move it away"):
        from_kaggle(PAGE, tmp_path / "small", ["a.csv"])
    assert list(tmp_path.rglob("*")) == [tmp_path / "small"]


def test_a_data_set_that_is_not_on_kaggle_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="small cannot be downloaded from Kaggle: put its files into"):
        from_kaggle("", tmp_path / "small", [])


def test_missing_kagglehub_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    refuse(tmp_path / "data", "needs kagglehub: `make setup EXTRAS=kaggle`")


def test_a_full_disk_leaves_nothing(stub: Callable[..., None], tmp_path: Path) -> None:
    def download(handle: str, output_dir: str) -> str:
        Path(output_dir).mkdir(parents=True)
        (Path(output_dir) / "part").write_bytes(b"1")
        raise OSError(errno.ENOSPC, "No space left on device")

    stub(download)
    with pytest.raises(DataError, match=r"cannot write .*No space left on device.*free some space"):
        from_kaggle(PAGE, tmp_path / "small", ["a.csv"])
    assert list(tmp_path.iterdir()) == []


def test_a_symlink_in_the_download_is_refused(stub: Callable[..., None], tmp_path: Path) -> None:
    def download(handle: str, output_dir: str) -> str:
        Path(output_dir).mkdir(parents=True)
        (Path(output_dir) / "a.csv").symlink_to("/etc/hostname")
        return output_dir

    stub(download)
    refuse(tmp_path / "data", r"symbolic link, a\.csv")


def test_data_mounted_by_a_kaggle_notebook_are_copied(stub: Callable[..., None], tmp_path: Path) -> None:
    mounted = tmp_path / "input"
    mounted.mkdir()
    (mounted / "train.zip").write_bytes(zipped({"train/1.png": b"1"}))
    stub(lambda handle, output_dir: str(mounted))
    assert files(from_kaggle("competitions/small", tmp_path / "data" / "small", ["train"])) == ["train/1.png"]
    assert files(mounted) == ["train.zip"]


def test_a_folder_written_meanwhile_by_another_job_is_used(stub: Callable[..., None], tmp_path: Path) -> None:
    def download(handle: str, output_dir: str) -> str:
        for folder in (Path(output_dir), tmp_path / "small"):
            folder.mkdir()
            (folder / "a.csv").write_text(folder.name)
        return output_dir

    stub(download)
    assert (from_kaggle(PAGE, tmp_path / "small", ["a.csv"]) / "a.csv").read_text() == "small"
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_an_unexpected_error_of_kagglehub_is_reported(stub: Callable[..., None], tmp_path: Path) -> None:
    def download(handle: str, output_dir: str) -> str:
        raise RuntimeError("surprise")

    stub(download)
    refuse(tmp_path / "data", r"kagglehub failed \(RuntimeError: surprise\)")


def test_a_nested_folder_of_the_same_name_is_removed_only_if_a_duplicate(
    stub: Callable[..., None], tmp_path: Path
) -> None:
    def download(handle: str, output_dir: str) -> str:
        for name in ("a/1", "a/a/1", "a/a/a/1", "b/1", "b/b/2"):
            path = Path(output_dir) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("1")
        return output_dir

    stub(download)
    assert files(from_kaggle(PAGE, tmp_path / "small", ["a"])) == ["a/1", "b/1", "b/b/2"]
