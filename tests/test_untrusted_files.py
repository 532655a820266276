"""Every reader of untrusted files returns a right value or raises one clear sentence.

Whatever the bytes are: no other error, no new line or terminal command in the
message, and no more memory than a budget.
"""

import dataclasses
import hashlib
import json
import resource
import shutil
import signal
import sys

import keras
import numpy as np
import pytest

from keras_advdef.cli.data.load import load_test_images
from keras_advdef.core import read_keras, untrusted
from keras_advdef.core.cards import DefenceCard, cards_in
from keras_advdef.core.data._read_images import read_images
from keras_advdef.core.errors import invalid, is_rejection
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation import RobustnessReport, compare_reports
from keras_advdef.evaluation._report.seal import SEAL, Seal
from keras_advdef.evaluation._request.evaluated_model import load_model
from keras_advdef.evaluation._request.served_model import ServedModel
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._run.sealed import (
    record_digest,
    write_record,
    write_sealed,
)
from keras_advdef.layers import RandomNoise
from tests.golden import served
from tests.support import hostile_files
from tests.support.hostile_files import formats_of, npz_of
from tests.support.nets import small_net
from tests.support.report_values import small_report

# Libraries warn about some of these files before they fail on them.
pytestmark = pytest.mark.filterwarnings("ignore")

# Files of each format, in the gate and nightly.
_SHORT = 60
LONG = 3000
# Models are slow to read, and a SavedModel is a program: TensorFlow itself dies of one
# in some 500 that are changed at random. These here are the same in each run.
_SHORT_OF_MODELS, _LONG_OF_MODELS = 12, 600
_SHORT_OF_SERVED, _LONG_OF_SERVED = 12, 100
_BUDGET = 2**26
# On top of the budget: copies, the libraries' own memory, and allocator overhead.
_MOST_MEMORY = 2**29
_MOST_SECONDS = 60
# Of the sound files, those that are refused on purpose: of frames, of 16 bits, of
# yes and no for pixels.
_REFUSED = {"png": 2, "gif": 1, "tiff": 2, "webp": 1, "ppm": 1}
_REFUSED |= {"npz": 1, "npy in npz": 1}
_IDENTITY = {"seed": 0, "model": "abc"}


class _TooLong(BaseException):
    """Raised if one file takes more than its share of processor time."""


def _stop(number, frame):
    raise _TooLong


def _peak_memory():
    """The peak memory since `_forget_peak`, in bytes."""
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii") as status:
            [line] = [line for line in status if line.startswith("VmHWM")]
        return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _forget_peak():
    if sys.platform == "linux":
        with open("/proc/self/clear_refs", "w", encoding="ascii") as peak:
            peak.write("5")


def refused(read, *arguments):
    """Whether a file is refused; what is not read must be refused properly."""
    signal.setitimer(signal.ITIMER_PROF, _MOST_SECONDS)
    try:
        read(*arguments)
        said = ""
    except (ValueError, TypeError) as error:
        if not is_rejection(error):
            raise
        said = str(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert said.isprintable(), ascii(said)
    assert len(said) < 2000
    return bool(said)


@pytest.fixture(autouse=True)
def _bounds(monkeypatch):
    monkeypatch.setattr(untrusted, "memory_budget", lambda: _BUDGET)
    for name in ("_FREE_BYTES", "_FREE_STORED"):
        monkeypatch.setattr(read_keras, name, _BUDGET)
    before = signal.signal(signal.SIGPROF, _stop)
    yield
    signal.signal(signal.SIGPROF, before)


# Each reads a file with the given bytes, in a folder, and checks the value.


def _read_picture(ending):
    def read(content, folder):
        path = folder / f"a.{ending}"
        path.write_bytes(content)
        found = read_images([path])
        assert found.dtype == np.float32
        assert found.ndim == 4
        assert 0 not in found.shape
        assert 0.0 <= found.min() <= found.max() <= 1.0

    return read


def _read_npz(content, folder):
    (folder / "data.npz").write_bytes(content)
    found = load_test_images(str(folder / "data.npz"))
    assert found.images.ndim == 4
    assert found.images.dtype.kind == "f"
    assert -1e-6 <= found.images.min() <= found.images.max() <= 1 + 1e-6
    assert found.labels.shape == found.images.shape[:1]
    assert found.labels.dtype == np.int64
    assert found.labels.min() >= 0


def _read_report(content, folder):
    (folder / "report.json").write_bytes(content)
    report = RobustnessReport.load(folder)
    assert report.to_markdown().startswith("# Robustness report")
    assert "all attacks" in compare_reports([report, report])
    assert json.loads(report.to_json()) == report.data


def _read_gallery(values):
    def read(content, folder):
        (folder / "report.json").write_text(json.dumps(values))
        (folder / "gallery.npz").write_bytes(content)
        Seal.write(folder, {}, ["report.json", "gallery.npz"])
        gallery = RobustnessReport.load(folder).gallery
        assert gallery.clean.shape == gallery.adversarial.shape
        assert gallery.norms.shape == gallery.labels.shape == gallery.clean.shape[:1]

    return read


def _write_record(path, content):
    """Writes a record with the right checksum if it can have one."""
    try:
        values = json.loads(content)
        write_record(path, values, path.name)
    except (ValueError, TypeError, RecursionError):
        path.write_bytes(content)


def _read_seal(values):
    def read(content, folder):
        (folder / "report.json").write_text(json.dumps(values))
        _write_record(folder / SEAL, content)
        assert RobustnessReport.load(folder).data == values

    return read


def _read_identity(content, folder):
    (folder / "progress").mkdir(exist_ok=True)
    _write_record(folder / "progress" / "identity.json", content)
    Ledger(folder, _IDENTITY, Progress()).close(finished=False)


def _read_part(content, folder):
    ledger = Ledger(folder, _IDENTITY, Progress())
    try:
        about = f"one of {record_digest(_IDENTITY, 'identity.json')}"
        write_sealed(folder / "progress" / "one.part", content, about)
        computed = {"a": np.ones(1)}
        found = ledger.part("one", lambda: computed, "one")
        assert found is computed or all(
            isinstance(each, np.ndarray) for each in found.values()
        )
    finally:
        ledger.close(finished=True)
    if found is computed:
        raise invalid("Ledger", "part", "whole", "one.part")


def _read_card(graph):
    def read(content, folder):
        (folder / "saved_model.pb").write_bytes(graph)
        (folder / "assets").mkdir(exist_ok=True)
        path = folder / "assets" / "keras_advdef_card_RandomNoise.json"
        path.write_bytes(content)
        assert all(type(card) is DefenceCard for card in cards_in(folder).values())

    return read


def _read_graph(assets):
    def read(content, folder):
        shutil.copytree(assets, folder / "assets", dirs_exist_ok=True)
        (folder / "saved_model.pb").write_bytes(content)
        assert all(type(card) is DefenceCard for card in cards_in(folder).values())

    return read


def _read_model(ending):
    def read(content, folder):
        path = folder / f"net.{ending}"
        path.write_bytes(content)
        assert isinstance(load_model(path), keras.Model)
        keras.backend.clear_session()

    return read


def _read_served(name):
    def read(content, folder):
        shutil.copytree(served.FOLDER, folder / "served", dirs_exist_ok=True)
        (folder / "served" / name).write_bytes(content)
        model = load_model(folder / "served")
        assert isinstance(model, ServedModel)
        # A damaged graph may lose the rank of its input, and then takes any.
        (spec,) = model._function.structured_input_signature[1].values()
        assert model.image_shape == (8, 8, 1) or spec.shape.rank is None
        keras.backend.clear_session()

    return read


def _json(values):
    return [json.dumps(values).encode()]


def _light(folder):
    """Formats that need no model, and their readers."""
    images = np.random.default_rng(0).integers(256, size=(4, 3, 2), dtype=np.uint8)
    labels = np.array([0, 1, 2, 0])
    report = small_report()
    gallery = {
        "clean": images[..., np.newaxis] / 255,
        "adversarial": images[..., np.newaxis] / 256,
        "norms": np.arange(4.0),
        "labels": labels,
        "predicted": labels[::-1],
    }
    data = [
        npz_of(x_test=images, y_test=labels),
        npz_of(x_test=np.asfortranarray(images / 255.0), y_test=np.eye(3)[labels]),
        npz_of(x_test=images > 9, y_test=labels, x_train=np.array([{}])),
    ]
    yield from (
        (each, _read_picture(each.name)) for each in hostile_files.picture_formats()
    )
    yield from ((each, _read_npz) for each in hostile_files.npz_formats(data))
    galleries = hostile_files.npz_formats([npz_of(**gallery)])
    for each in galleries:
        name = f"gallery, {each.name}"
        yield dataclasses.replace(each, name=name), _read_gallery(report)
    for each in hostile_files.npz_formats([npz_of(a=images, b=labels)]):
        yield dataclasses.replace(each, name=f"part, {each.name}"), _read_part
    yield formats_of("report", _json(report), "json"), _read_report
    digest = hashlib.sha256(json.dumps(report).encode()).hexdigest()
    seal = _json({"identity": _IDENTITY, "files": {"report.json": digest}})
    yield formats_of("seal", seal, "json"), _read_seal(report)
    identity = _json({"identity": _IDENTITY})
    yield formats_of("identity", identity, "json"), _read_identity
    net = small_net(front=[RandomNoise(0.1)])
    net.export(str(folder), verbose=False)
    graph = (folder / "saved_model.pb").read_bytes()
    [card] = (folder / "assets").iterdir()
    yield formats_of("card", [card.read_bytes()], "json"), _read_card(graph)
    yield formats_of("graph", [graph], "graph"), _read_graph(folder / "assets")


def _heavy(folder):
    """Formats of models, and their readers."""
    nets = [small_net(), small_net(front=[RandomNoise(0.1)])]
    for number, net in enumerate(nets):
        net.save(folder / f"{number}.keras")
        net.save(folder / f"{number}.h5")
    sound = {
        ending: [(folder / f"{number}.{ending}").read_bytes() for number in range(2)]
        for ending in ("keras", "h5")
    }
    for each in hostile_files.keras_formats(sound["keras"]):
        yield each, _read_model("keras")
    yield formats_of("h5", sound["h5"], "hdf5"), _read_model("h5")
    for name in SERVED:
        kind = "graph" if name == "saved_model.pb" else "protobuf"
        content = [(served.FOLDER / name).read_bytes()]
        yield formats_of(name, content, kind), _read_served(name)


@pytest.fixture(scope="session")
def light(tmp_path_factory):
    """Formats and their readers by name; so is `heavy`."""
    keras.utils.set_random_seed(0)
    found = _light(tmp_path_factory.mktemp("light"))
    return {each.name: (each, read) for each, read in found}


@pytest.fixture(scope="session")
def heavy(tmp_path_factory):
    keras.utils.set_random_seed(0)
    found = _heavy(tmp_path_factory.mktemp("heavy"))
    return {each.name: (each, read) for each, read in found}


@pytest.fixture
def case(request, name):
    """The format of a name and its reader."""
    is_heavy = name in HEAVY or name in SERVED
    return request.getfixturevalue("heavy" if is_heavy else "light")[name]


LIGHT = [
    *("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"),
    *("npz", "npy in npz", "gallery, npz", "gallery, npy in npz"),
    *("part, npz", "part, npy in npz", "report", "seal", "identity", "card"),
]
GRAPH = ["graph"]
HEAVY = ["keras", "config in keras", "hdf5 in keras", "h5"]
SERVED = [
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
]


def refusals(case, count, folder, seed=0):
    """How many of `count` files are refused, and the peak memory."""
    form, read = case
    _forget_peak()
    before, found = _peak_memory(), 0
    for number, content in enumerate(form.files(count, seed)):
        place = folder / f"{number}"
        place.mkdir()
        try:
            found += refused(read, content, place)
        except BaseException:
            (folder / f"escaped-{form.name.replace('/', '-')}").write_bytes(content)
            raise
        shutil.rmtree(place)
    return found, _peak_memory() - before


_KINDS = (
    (LIGHT, _SHORT, LONG),
    (GRAPH, _SHORT_OF_MODELS, _LONG_OF_MODELS),
    (HEAVY, _SHORT_OF_MODELS, _LONG_OF_MODELS),
    (SERVED, _SHORT_OF_SERVED, _LONG_OF_SERVED),
)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param(name, count, marks=marks)
        for names, short, long in _KINDS
        for count, marks in ((short, ()), (long, pytest.mark.nightly))
        for name in names
    ],
)
def test_files_drawn_at_random(case, tmp_path, count):
    found, memory = refusals(case, count, tmp_path)
    # Some bytes do not matter, such as dates, or only change pixels.
    assert found > 0
    assert memory < _MOST_MEMORY


@pytest.mark.parametrize("name", [*LIGHT, *GRAPH, *HEAVY, *SERVED])
def test_sound_files_are_read(case, tmp_path, name):
    """Except for the few that are refused on purpose: with frames or 16 bits."""
    form, read = case
    outcomes = []
    for number, content in enumerate(form.sound):
        (tmp_path / f"{number}").mkdir()
        outcomes.append(refused(read, content, tmp_path / f"{number}"))
    assert not outcomes[0]
    assert sum(outcomes) <= _REFUSED.get(name, 0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, name) for name in LIGHT[:7]),
        ("npz", "zip"),
        ("gallery, npz", "zip"),
        ("report", "text"),
        ("card", "text"),
    ],
)
def test_beginnings_of_files(case, tmp_path, kind):
    form, read = case
    found = hostile_files.truncations(form.sound[0], kind)
    outcomes = [refused(read, content, tmp_path) for content in found]
    # The last bytes of some files do not matter.
    assert sum(outcomes) >= len(outcomes) - 8
    assert all(outcomes[: len(outcomes) // 2])


@pytest.mark.parametrize("name", hostile_files.LYING_HEADERS)
@pytest.mark.parametrize("order", ["False", "True", "2"])
def test_headers_of_arrays_that_lie(tmp_path, name, order):
    array = hostile_files.npy(*hostile_files.LYING_HEADERS[name], order=order)
    content = hostile_files.archive_of(
        {"x_test.npy": array, "y_test.npy": hostile_files.npy("'|u1'", "(2,)", b"\0\1")}
    )
    _forget_peak()
    before = _peak_memory()
    assert refused(_read_npz, content, tmp_path)
    assert refused(_read_gallery(small_report()), content, tmp_path)
    assert _peak_memory() - before < _BUDGET


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [
        *((kind, 13000, 13000) for kind in LIGHT[:7]),
        *(
            (kind, 65000, 65000)
            for kind in ("png", "jpeg", "gif", "bmp", "tiff", "ppm")
        ),
        *((kind, 2**31 - 1, 2**31 - 1) for kind in ("png", "bmp", "tiff", "ppm")),
        *((kind, 2**31 - 1, 1) for kind in ("png", "bmp", "tiff", "ppm")),
    ],
)
def test_headers_of_pictures_that_lie(tmp_path, kind, width, height):
    content = hostile_files.enormous(kind, width, height)
    assert len(content) < 2000
    _forget_peak()
    before = _peak_memory()
    assert refused(_read_picture(kind), content, tmp_path)
    assert _peak_memory() - before < _BUDGET


@pytest.mark.parametrize("write", [hostile_files.streamed, hostile_files.wide])
def test_archives_of_other_programs_are_read(tmp_path, write):
    images = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    sound = hostile_files.members_of(npz_of(x_test=images, y_test=np.array([0, 1])))
    odd = {"../x_test.npy": b"", "/etc/passwd": b"", "y_test.npy/": b"", **sound}
    (tmp_path / "data.npz").write_bytes(write(odd))
    found = load_test_images(str(tmp_path / "data.npz"))
    np.testing.assert_array_equal(found.images[..., 0], images / np.float32(255))
    assert found.labels.tolist() == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def _read_folder_with(name, read):
    """Reads a folder with something else in the place of a file."""

    def at(make, folder):
        for path in ("progress", "assets", "a", "b"):
            (folder / path).mkdir()
        (folder / "a" / "0.png").write_bytes(hostile_files.pictures()["png"][0])
        (folder / "b" / "0.png").write_bytes(hostile_files.pictures()["png"][0])
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        return read(folder, folder / name)

    return at


_PLACES = {
    "data": _read_folder_with(
        "x.npz", lambda folder, path: load_test_images(str(path))
    ),
    "image": _read_folder_with(
        "a/0.png", lambda folder, path: load_test_images(str(folder))
    ),
    "model": _read_folder_with("x.keras", lambda folder, path: load_model(path)),
    "old model": _read_folder_with("x.h5", lambda folder, path: load_model(path)),
    "graph": _read_folder_with("saved_model.pb", lambda folder, path: cards_in(folder)),
    "report": _read_folder_with(
        "report.json", lambda folder, path: RobustnessReport.load(folder)
    ),
    "identity": _read_folder_with(
        "progress/identity.json",
        lambda folder, path: Ledger(folder, _IDENTITY, Progress()),
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("special", hostile_files.SPECIAL)
@pytest.mark.parametrize("place", _PLACES)
def test_special_files(tmp_path, place, special):
    make = hostile_files.SPECIAL[special]
    is_gone = special.startswith("link to")
    if is_gone and place == "graph":
        assert _PLACES[place](make, tmp_path) == {}
    elif is_gone and place == "report":
        with pytest.raises(FileNotFoundError, match=r"report\.json"):
            _PLACES[place](make, tmp_path)
    elif is_gone and place == "identity":
        # A new file is written in its place.
        _PLACES[place](make, tmp_path).close(finished=True)
    else:
        assert refused(_PLACES[place], make, tmp_path)


_NAME = "a\n\x1b[2J\u202e\udcffb"


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: load_test_images(str(folder / f"{_NAME}.npz")),
        lambda folder: load_test_images(str(folder / _NAME)),
        lambda folder: read_images([folder / f"{_NAME}.png"]),
        lambda folder: load_model(folder / f"{_NAME}.keras"),
        lambda folder: load_model(folder / _NAME / "served"),
        lambda folder: cards_in(folder / _NAME / "served"),
        lambda folder: RobustnessReport.load(folder / _NAME),
        lambda folder: Ledger(folder / f"{_NAME}.npz", _IDENTITY, Progress()),
    ],
    ids=range(8),
)
def test_names_command_no_terminal(tmp_path, read):
    for ending in (".npz", ".png", ".keras"):
        (tmp_path / f"{_NAME}{ending}").write_bytes(b"no such file")
    for part in ("served", f"x{_NAME}"):
        (tmp_path / _NAME / part).mkdir(parents=True)
    (tmp_path / _NAME / "served" / "saved_model.pb").write_bytes(b"no graph")
    (tmp_path / _NAME / "report.json").write_text("{}")
    assert refused(read, tmp_path)
