"""Checkpoints: round trips bit for bit, damage found, hostile files refused, readable by others."""

from __future__ import annotations

import collections
import enum
import itertools
import math
import os
import pickle
import signal
import struct
import subprocess
import sys
import textwrap
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysweep.errors import CheckpointDamagedError, UnstorableError, UserError
from raysweep.storage import checkpoints
from raysweep.storage.checkpoints import Copies, kinds
from raysweep.storage.checkpoints.frame import SCHEMA, Frame, aligned
from raysweep.storage.checkpoints.lazy import LazyDict, LazyList
from raysweep.storage.checkpoints.tensors import ITEMSIZES

HALF_COMPLEX = (
    "ignore:ComplexHalf:UserWarning"  # torch warns of a dtype that is stored all the same
)


def bits(value: object) -> object:  # noqa: PLR0911  (a table of types, one a line)
    """A value as plain data that is equal only for the same types, shapes and bits."""
    if isinstance(value, dict):
        return [(type(key), key, bits(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [bits(item) for item in value]
    if isinstance(value, torch.Tensor):
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return "tensor", value.dtype, tuple(value.shape), raw
    if isinstance(value, np.ndarray | np.generic):
        return type(value), value.dtype.descr, value.shape, value.tobytes()
    if isinstance(value, float):
        return float, struct.pack("<d", value)
    if isinstance(value, complex):
        return complex, struct.pack("<dd", value.real, value.imag)
    return type(value), value


def round_trip(tmp_path: Path, tree: object, **options: Any) -> Any:  # noqa: ANN401  (any tree)
    """What is loaded from a file that a tree was saved to."""
    checkpoints.save(tmp_path / "state.arrow", tree)
    return checkpoints.load(tmp_path / "state.arrow", **options)


def in_full(loaded: object, like: object) -> object:
    """A lazy tree as an eager one; lists and tuples, which look alike, as those of another tree are."""
    if isinstance(loaded, LazyDict) and isinstance(like, dict):
        items = zip(loaded.items(), like.values(), strict=True)
        return {key: in_full(item, other) for (key, item), other in items}
    if isinstance(loaded, LazyList) and isinstance(like, list | tuple):
        return type(like)(in_full(*pair) for pair in zip(loaded, like, strict=True))
    return loaded


def spoil(tree: object) -> None:
    """Write over the memory of all tensors and arrays in a tree."""
    if isinstance(tree, dict | list | tuple):
        for item in tree.values() if isinstance(tree, dict) else tree:
            spoil(item)
    elif isinstance(tree, torch.Tensor) and tree.numel():
        tree.untyped_storage().copy_(
            torch.zeros(tree.untyped_storage().nbytes(), dtype=torch.uint8).untyped_storage()
        )
    elif isinstance(tree, np.ndarray) and tree.flags.writeable:
        tree[...] = np.zeros((), tree.dtype)


def random_float(data: bytes) -> float:
    """A float of these bits: any NaN, any zero."""
    [value] = struct.unpack("<d", data)
    return float(value)


SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
TENSOR_DTYPES = sorted(set(ITEMSIZES) - {"bool"})  # any bits are a value of these
ARRAY_DTYPES = ["<f2", "<f4", ">f8", "|i1", "<i8", ">u4", "<c8", ">c16", "|S3", "<M8[ns]", ">m8[25s]",
                "|V5", [("x", "<f4", (2,)), ("y", [("z", ">i2")])]]  # fmt: skip


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays of random bits."""
    dtype, shape = np.dtype(draw(st.sampled_from(ARRAY_DTYPES))), draw(SHAPES)
    size = dtype.itemsize * math.prod(shape)
    data = bytearray(draw(st.binary(min_size=size, max_size=size)))
    array = np.frombuffer(data, np.uint8).view(dtype)
    return array.reshape(shape).T  # transposed, an array is not contiguous


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Tensors of random bits."""
    dtype, shape = getattr(torch, draw(st.sampled_from(TENSOR_DTYPES))), draw(SHAPES)
    size = dtype.itemsize * math.prod(shape)
    if not size:
        return torch.empty(shape, dtype=dtype)
    data = bytearray(draw(st.binary(min_size=size, max_size=size)))
    axes = tuple(reversed(range(len(shape))))  # permuted, a tensor is not contiguous
    return torch.frombuffer(data, dtype=dtype).reshape(shape).permute(axes)


FLOATS = st.binary(min_size=8, max_size=8).map(random_float)
LEAVES = st.one_of(
    arrays(),
    tensors(),
    st.booleans(),
    st.none(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    FLOATS,
    st.builds(complex, FLOATS, FLOATS),
    st.text(st.characters(codec=None), max_size=5),
    st.binary(max_size=100),
    FLOATS.map(np.float64),
    st.integers(0, 255).map(np.uint8),
    st.booleans().map(np.bool_),
)
KEYS = st.text(max_size=4) | st.integers(-(2**63), 2**63 - 1)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(KEYS, inner, max_size=4)
        | st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=12,
)


@pytest.mark.filterwarnings(HALF_COMPLEX)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES, mmap=st.booleans(), verify=st.booleans(), lazy=st.booleans())
def test_any_tree_comes_back_bit_for_bit(
    tmp_path: Path, tree: object, mmap: bool, verify: bool, lazy: bool
) -> None:
    """What is loaded has the types, shapes, order and bits of what was saved."""
    loaded = round_trip(tmp_path, tree, mmap=mmap, verify=verify, lazy=lazy)
    assert bits(tree) == bits(in_full(loaded, tree) if lazy else loaded)


@pytest.mark.filterwarnings(HALF_COMPLEX)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES)
def test_any_copy_comes_back_bit_for_bit(tmp_path: Path, tree: object) -> None:
    """A copy of a state is the state, whatever happens to the memory that it was copied from."""
    expected, taken = bits(tree), Copies().taken(tree)
    spoil(tree)
    checkpoints.write(tmp_path / "state.arrow", taken.rows)
    assert expected == bits(checkpoints.load(tmp_path / "state.arrow"))


@pytest.mark.filterwarnings(HALF_COMPLEX)
@pytest.mark.parametrize("dtype", sorted(ITEMSIZES))
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 5)])
def test_every_dtype_of_tensor_is_kept(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """Every dtype is stored in 0-d, empty and ordinary tensors, and its size is torch's."""
    kind = getattr(torch, dtype)
    assert ITEMSIZES[dtype] == kind.itemsize
    size = math.prod(shape) * kind.itemsize
    raw = torch.arange(size, dtype=torch.uint8) % 2
    tensor = raw.view(kind).reshape(shape) if size else torch.empty(shape, dtype=kind)
    assert bits(tensor) == bits(round_trip(tmp_path, tensor))


@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False]),
        np.array(["", "grün", "\0x"]),
        np.array(7.5),
        np.zeros((0, 3), ">i4"),
        np.arange(12).reshape(3, 4)[:, ::-2],
        np.ones(2, np.longdouble),
        np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.zeros(2, np.dtype([(("title", "a"), "i1")])),
    ],
)
def test_arrays_of_every_kind_are_kept(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    """Text, booleans, padded records, 0-d, empty and strided arrays come back as they are."""
    loaded = round_trip(tmp_path, array)
    assert array.dtype == loaded.dtype
    assert bits(array) == bits(loaded)


def test_tensors_that_require_gradients_are_stored_detached(tmp_path: Path) -> None:
    """A parameter comes back as a plain tensor without a gradient."""
    loaded = round_trip(tmp_path, torch.nn.Parameter(torch.ones(2)))
    assert type(loaded) is torch.Tensor
    assert not loaded.requires_grad
    assert loaded.tolist() == [1.0, 1.0]


def test_lazily_conjugated_and_negated_tensors_are_resolved(tmp_path: Path) -> None:
    """A view that only promises to conjugate or negate is stored as the values it stands for."""
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    assert round_trip(tmp_path, tensor.conj()).tolist() == [1 - 2j, 3 + 4j]
    assert round_trip(tmp_path, tensor.conj().imag).tolist() == [-2, 4]


def test_subclasses_come_back_as_the_plain_classes(tmp_path: Path) -> None:
    """Ordered dicts, named tuples and enums of ints are stored as what they are made of."""

    class Point(NamedTuple):
        x: int
        y: int

    class Colour(enum.IntEnum):
        BLUE = 2

    class Part(str, enum.Enum):  # noqa: UP042  (whose text is not its value)
        MODEL = "model"

    tree = {"o": collections.OrderedDict(a=1), "p": Point(1, 2), "e": Colour.BLUE}
    loaded = round_trip(tmp_path, tree)
    assert loaded == {"o": {"a": 1}, "p": (1, 2), "e": 2}
    assert [type(item) for item in loaded.values()] == [dict, tuple, int]
    keys = {Part.MODEL: {Colour.BLUE: 1}}
    assert round_trip(tmp_path, keys) == {"model": {2: 1}}
    assert round_trip(tmp_path, keys, lazy=True)[Part.MODEL][Colour.BLUE] == 1


def test_a_training_run_goes_on_from_its_state(tmp_path: Path) -> None:
    """A module and its optimizer, restored, take the same next step as the originals."""

    def built() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        return module, torch.optim.Adam(module.parameters(), lr=0.1, betas=(0.8, 0.9))

    def step(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        module(torch.eye(3)).square().sum().backward()
        optimizer.step()

    module, optimizer = built()
    step(module, optimizer)
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "numpy": np.random.default_rng(3).bit_generator.state,
    }
    loaded = round_trip(tmp_path, state)
    assert bits({**state, "module": dict(state["module"])}) == bits(loaded)  # type: ignore[call-overload]  # a dict
    restored, restored_optimizer = built()
    restored.load_state_dict(loaded["module"])
    restored_optimizer.load_state_dict(loaded["optimizer"])
    step(module, optimizer)
    step(restored, restored_optimizer)
    assert bits(dict(module.state_dict())) == bits(dict(restored.state_dict()))


def test_what_is_the_same_is_stored_once_and_stays_the_same(tmp_path: Path) -> None:
    """Tied weights come back tied, and take no more room than one of them."""
    tied, array = torch.ones(1000), np.ones(1000)
    tree: dict[str, Any] = {
        "a": tied,
        "b": tied.detach(),
        "c": (array, array),
        "d": tied[:500],
        "e": tied.view(10, 100),
    }
    tree["f"] = tree["e"].detach()
    loaded = round_trip(tmp_path, tree)
    assert bits(tree) == bits(loaded)
    assert loaded["a"] is loaded["b"]
    assert loaded["e"] is loaded["f"]
    assert loaded["c"][0] is loaded["c"][1]
    loaded["a"].fill_(2)
    assert [1.0, 1.0] == [loaded[name].max().item() for name in "de"]
    told = checkpoints.leaves(tmp_path / "state.arrow").to_pydict()
    assert ["tensor", "alias", "array", "alias", "tensor", "tensor", "alias"] == told["kind"]
    lazy = checkpoints.load(tmp_path / "state.arrow", lazy=True)
    assert lazy["b"].data_ptr() == lazy["a"].data_ptr()


def test_what_has_a_state_is_stored_as_that(tmp_path: Path) -> None:
    """A module, its optimizer and its scheduler need not be asked for their state dicts."""
    module = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD(module.parameters(), momentum=0.9, lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    module(torch.ones(2)).sum().backward()
    optimizer.step()
    has = {"module": module, "optimizer": optimizer, "scheduler": scheduler}
    said = {name: each.state_dict() for name, each in has.items()}  # type: ignore[attr-defined]
    said["module"] = dict(said["module"])
    assert bits(said) == bits(round_trip(tmp_path, has))
    with pytest.raises(UnstorableError, match=r"^module is a type"):
        checkpoints.save(tmp_path / "state.arrow", {"module": torch.nn.Linear})


# Leaf by leaf


def test_a_lazy_checkpoint_reads_what_is_asked_for(tmp_path: Path) -> None:
    """Damage elsewhere in the file goes unnoticed, damage there does not."""
    tree = {
        "model": {"a.weight": torch.full((9,), 7.0), "b": torch.full((9,), 3.0)},
        "n": [1, (2, {})],
    }
    path = tmp_path / "state.arrow"
    checkpoints.save(path, tree)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(struct.pack("<f", 3.0), struct.pack("<f", 4.0)))
    lazy = checkpoints.load(path, lazy=True)
    assert 7.0 == lazy["model"]["a.weight"][8].item()
    assert "b" in lazy["model"]
    assert "c" not in lazy["model"]
    assert (1, 2, {}) == (lazy["n"][0], lazy["n"][1][0], lazy["n"][1][1])
    assert [1] == lazy["n"][:1]
    with pytest.raises(CheckpointDamagedError, match=r"bytes of model\.b fail their checksum"):
        lazy["model"]["b"]
    with pytest.raises(CheckpointDamagedError, match=r"bytes of model\.b fail their checksum"):
        checkpoints.load(path)
    for key in ("missing", "\ud800", 10**5000, 1.5, True):
        with pytest.raises(KeyError):
            checkpoints.load(path, lazy=True)["model"][key]
    with pytest.raises(IndexError):
        lazy["n"][2]
    assert repr(lazy["model"]) == f"<LazyDict of {path}: a.weight, b>"


def test_a_lazy_model_can_be_loaded(tmp_path: Path) -> None:
    """A module takes its state from a lazy checkpoint as from any other mapping."""
    module, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    checkpoints.save(tmp_path / "state.arrow", {"model": module})
    other.load_state_dict(checkpoints.load(tmp_path / "state.arrow", lazy=True)["model"])
    assert module.weight.tolist() == other.weight.tolist()


def test_tensors_go_to_the_device_that_is_asked_for(tmp_path: Path) -> None:
    """Tensors alone; what they were on is not kept."""
    loaded = round_trip(tmp_path, {"t": torch.ones(2), "a": np.ones(2)}, device="meta")
    assert ("meta", [1.0, 1.0]) == (loaded["t"].device.type, loaded["a"].tolist())
    with pytest.raises(RuntimeError, match="cudaa"):  # in torch's own words, and no damage
        round_trip(tmp_path, torch.ones(2), device="cudaa")


# What is refused


def recursive() -> list[object]:
    """A list that contains itself, twice over."""
    itself: list[object] = []
    itself.append([itself, itself])
    return itself


def shrunk(step: int = 1) -> torch.Tensor:
    """A tensor whose memory was given back, as sharded ones do between two uses."""
    tensor = torch.ones(10)[2::step]
    tensor.untyped_storage().resize_(0)
    return tensor


class Failing:
    """What has a state, but not now."""

    def state_dict(self) -> dict[str, int]:
        """There is none."""
        raise RuntimeError("no state today")


class Masked(torch.Tensor):
    """A tensor whose class means something."""


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {"b": [0, {1}]}}, r"^a\.b\[1\] is a set: a checkpoint holds"),
        (object, "^the state is a type: "),
        ({"x": np.array([None])}, r"^x is a numpy.ndarray that holds Python objects"),
        ({"x": np.zeros(2, [("a", "O")])}, "^x is a numpy.ndarray that holds Python objects"),
        ({"x": np.ma.array([1], mask=[True])}, "^x is a .*MaskedArray that is not a plain array"),
        ({"x": np.array(["a"], np.dtypes.StringDType())}, "^x is a numpy.ndarray that"),
        ({"x": np.empty(2, "V0")}, r"^x is a numpy.ndarray that has the dtype"),
        ({"x": torch.eye(2).to_sparse()}, r"^x is a torch.Tensor that is sparse.*to_dense\(\)"),
        ({"x": torch.ones(2, device="meta")}, "^x is a torch.Tensor that is on the meta device"),
        ({"x": torch.ones(2).as_subclass(Masked)}, "^x is a .*Masked that is not a plain tensor"),
        ({"x": torch.empty(2, dtype=torch.bits8)}, "^x is a torch.Tensor that has the dtype"),
        ({"x": shrunk()}, "^x is a torch.Tensor that has lost its memory"),
        ({"x": shrunk(2)}, "^x is a torch.Tensor that has lost its memory"),
        ({"x": {"y": Failing()}}, r"^x\.y no state today"),
        ({"x": torch.ones([1] * 65)}, "^x is a torch.Tensor that has 65 dimensions"),
        ({"a": {True: 1}}, r"^a has the key True of type bool: .*store str\(key\)"),
        ({"a": {(1, 2): 1}}, r"^a has the key \(1, 2\) of type tuple"),
        ({2**63: 1}, "^the state has the key 9223372036854775808 of more than 64 bits"),
        ({"\ud800": 1}, "which is no valid Unicode: rename it"),
        (recursive(), "nested more than 64 deep"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(
    tmp_path: Path, tree: object, message: str
) -> None:
    """The error names the path and the type, and no file appears."""
    with pytest.raises(UnstorableError, match=message):
        checkpoints.save(tmp_path / "state.arrow", tree)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:torch.quantize:UserWarning")  # torch will give them up
def test_quantised_tensors_are_refused(tmp_path: Path) -> None:
    """A quantised tensor is refused with the way to store its values."""
    zeros = torch.zeros(2, dtype=torch.uint8)
    quantised = torch._make_per_tensor_quantized_tensor(zeros, 1.0, 0)
    with pytest.raises(
        UnstorableError, match=r"x is a torch.Tensor that is quantised .*dequantize"
    ):
        checkpoints.save(tmp_path / "state.arrow", {"x": quantised})


def test_metadata_that_is_no_json_is_refused(tmp_path: Path) -> None:
    """Metadata is what JSON can say."""
    with pytest.raises(UnstorableError, match=r"metadata cannot be written as JSON: .*set"):
        checkpoints.save(tmp_path / "state.arrow", 1, {"a": {1}})  # type: ignore[dict-item]  # the mistake


# What is said about a checkpoint


STATE = {
    "model": {"conv1.weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(1).bfloat16()},
    "optimizer": {"state": {0: {"step": 3}}, "betas": (0.9, 0.999)},
    "order": np.array([3, 1, 2], ">i2"),
    "name": "digits",
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The file of a small checkpoint."""
    path = tmp_path / "state.arrow"
    checkpoints.save(path, STATE, {"trial": 4, "metrics": {"loss": 0.5}})
    return path


def test_saving_tells_what_was_written(tmp_path: Path) -> None:
    """Path, size, checksum and number of leaves are those of the file."""
    path = tmp_path / "state.arrow"
    told = checkpoints.save(path, STATE)
    assert (told.path, told.size, told.leaves) == (path, path.stat().st_size, 7)
    assert checkpoints.save(path, STATE).checksum == told.checksum
    assert checkpoints.save(path, STATE, {"trial": 1}).checksum != told.checksum
    assert checkpoints.save(path, {**STATE, "name": "digitz"}).checksum != told.checksum


def test_leaves_are_listed(saved: Path) -> None:
    """Paths, kinds, dtypes, shapes and sizes are listed without the bytes."""
    assert checkpoints.leaves(saved).to_pylist()[:3] == [
        {"path": "model.conv1.weight", "kind": "tensor", "dtype": "float32", "shape": [2, 3],
         "nbytes": 24},
        {"path": "model.bias", "kind": "tensor", "dtype": "bfloat16", "shape": [1], "nbytes": 2},
        {"path": "optimizer.state[0].step", "kind": "int", "dtype": "", "shape": [], "nbytes": 1},
    ]  # fmt: skip


def test_metadata_comes_back(saved: Path) -> None:
    """Metadata is read without the leaves."""
    assert checkpoints.metadata(saved) == {"trial": 4, "metrics": {"loss": 0.5}}


def without_raysweep(script: str, path: Path) -> list[str]:
    """What a script prints of a file, in a process that has no raysweep."""
    blocked = "import sys; sys.modules['raysweep'] = None\n" + textwrap.dedent(script)
    command = [sys.executable, "-I", "-c", blocked, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_pyarrow_alone_reads_a_checkpoint(saved: Path) -> None:
    """A reader that knows only the format's page finds every leaf and its aligned bytes."""
    script = """
        import numpy, pyarrow, pyarrow.compute
        with pyarrow.memory_map(sys.argv[1]) as file:
            table = pyarrow.ipc.open_file(file).read_all()
            weight = table.filter(pyarrow.compute.equal(table["path"], "model.conv1.weight"))
            row = weight.to_pylist()[0]
            print(numpy.frombuffer(row["bytes"][: row["nbytes"]], "<f4").reshape(row["shape"]).tolist())
            [values] = table["bytes"].chunks
            _, offsets, data = values.buffers()
            starts = numpy.frombuffer(offsets, "<i8", count=len(values))
            print({int(data.address + start) % 64 for start in starts})
    """
    assert ["[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]", "{0}"] == without_raysweep(script, saved)


def test_duckdb_lists_a_checkpoint(saved: Path) -> None:
    """DuckDB queries the file as a table."""
    script = """
        import duckdb, pyarrow
        leaves = pyarrow.ipc.open_file(sys.argv[1]).read_all()
        print(duckdb.sql(
            "select path, shape from leaves where kind = 'tensor' and steps[1] = '.model'"
            " and octet_length(bytes) >= nbytes order by nbytes"
        ).fetchall())
    """
    expected = "[('model.bias', [1]), ('model.conv1.weight', [2, 3])]"
    assert [expected] == without_raysweep(script, saved)


# Memory


def test_leaves_are_written_from_where_they_are() -> None:
    """Encoding a flat tensor or array makes no copy of it."""
    tensor, array = torch.ones(100), np.ones(100)
    for value, address in [(tensor, tensor.data_ptr()), (array, array.ctypes.data)]:
        assert np.frombuffer(kinds.encode(value).flat(), np.uint8).ctypes.data == address


def test_mapped_values_are_aligned(tmp_path: Path) -> None:
    """Tensors and arrays begin at multiples of 64 bytes, whatever lies before them."""
    for extra in range(0, 40, 7):
        tree = {"x" * extra: "y" * extra, "a": np.ones(3, "i1"), "t": torch.ones(5).bfloat16()}
        loaded = round_trip(tmp_path, tree)
        assert {0} == {loaded["a"].ctypes.data % 64, loaded["t"].data_ptr() % 64}


def test_mapped_arrays_are_read_only(saved: Path) -> None:
    """An array that lies in the map cannot be written to; one in memory can."""
    with pytest.raises(ValueError, match="read-only"):
        checkpoints.load(saved)["order"][0] = 1
    loaded = checkpoints.load(saved, mmap=False)
    loaded["order"][0] = 1
    assert loaded["order"].tolist() == [1, 1, 2]


@pytest.mark.parametrize("mmap", [True, False])
def test_changing_a_loaded_tensor_leaves_the_file_as_it_was(saved: Path, mmap: bool) -> None:
    """In-place operations reach neither the file nor another load of it."""
    before = saved.read_bytes()
    first, second = checkpoints.load(saved, mmap=mmap), checkpoints.load(saved, mmap=mmap)
    first["model"]["conv1.weight"].add_(1)
    assert second["model"]["conv1.weight"].sum() == 15
    assert saved.read_bytes() == before


def test_mapped_values_outlive_the_file_being_replaced(saved: Path) -> None:
    """A new checkpoint under the same name does not reach into one that was loaded."""
    loaded = checkpoints.load(saved)
    checkpoints.save(saved, {"model": torch.zeros(1000)})
    assert bits(STATE) == bits(loaded)


# What importing and loading must not do


def test_importing_brings_no_torch(saved: Path, tmp_path: Path) -> None:
    """Neither the import nor a checkpoint without tensors imports torch."""
    script = textwrap.dedent("""
        import sys
        from raysweep.storage import checkpoints
        checkpoints.save(sys.argv[1], {"a": 1.5})
        assert checkpoints.load(sys.argv[1]) == {"a": 1.5}
        assert checkpoints.leaves(sys.argv[2]).num_rows == 7
        print("torch" in sys.modules)
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "other.arrow"), str(saved)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told == "False\n"


def test_tensors_without_torch_are_explained(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is missing, the error names the file and the remedy."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        UserError, match=r"state.arrow holds model.conv1.weight, which is a tensor, .*pip"
    ) as caught:
        checkpoints.load(saved)
    assert not isinstance(caught.value, UnstorableError)


def test_loading_never_unpickles(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load works with pickle and everything that leads to it made to fail."""

    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("a checkpoint was unpickled")

    for module, name in itertools.product(
        [pickle, sys.modules["_pickle"]], ["load", "loads", "Unpickler"]
    ):
        monkeypatch.setattr(module, name, forbidden)
    for module in (torch, np):
        monkeypatch.setattr(module, "load", forbidden)
    assert bits(STATE) == bits(checkpoints.load(saved))


# Damage


def loads_equal_or_damaged(path: Path, expected: object) -> bool:
    """Whether loading the file either raises the one right error or gives what was saved."""
    try:
        return bits(checkpoints.load(path)) == expected
    except CheckpointDamagedError as error:
        return str(path) in str(error)
    except UserError as error:  # one byte says which format it is
        return "is of format" in str(error)


def test_every_flipped_byte_is_found_or_harmless(saved: Path) -> None:
    """No single byte, changed in one bit or in all, makes a load return something else."""
    whole, expected = saved.read_bytes(), bits(STATE)
    with saved.open("r+b") as file:
        for position, byte in enumerate(whole):
            for mask in (1 << position % 8, 0xFF):
                os.pwrite(file.fileno(), bytes([byte ^ mask]), position)
                assert loads_equal_or_damaged(saved, expected), (position, mask)
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert expected == bits(checkpoints.load(saved))


def test_a_flipped_byte_of_a_leaf_is_found_by_its_checksum(saved: Path) -> None:
    """The error names the leaf whose bytes have changed."""
    whole = saved.read_bytes()
    saved.write_bytes(whole.replace(b"digits", b"digitz"))
    with pytest.raises(CheckpointDamagedError, match="bytes of name fail their checksum"):
        checkpoints.load(saved)
    assert checkpoints.load(saved, verify=False)["name"] == "digitz"


def test_every_truncation_is_found(saved: Path) -> None:
    """A file cut anywhere is damaged."""
    for length in reversed(range(saved.stat().st_size)):
        os.truncate(saved, length)
        with pytest.raises(CheckpointDamagedError):
            checkpoints.load(saved)


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    """Text, and Arrow files of other columns, are refused by name."""
    path = tmp_path / "other.arrow"
    path.write_bytes(b"hello" * 100)
    with pytest.raises(
        CheckpointDamagedError, match=r"other\.arrow is damaged: it is cut short, or"
    ):
        checkpoints.load(path)
    table = pa.table({"a": [1]})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CheckpointDamagedError, match="columns are not those of a checkpoint"):
        checkpoints.load(path)
    with pa.ipc.new_file(str(path), SCHEMA) as writer:
        writer.write_batch(
            pa.record_batch([pa.nulls(0, field.type) for field in SCHEMA], schema=SCHEMA)
        )
    with pytest.raises(CheckpointDamagedError, match="it holds no leaf"):
        checkpoints.load(path)


def test_a_missing_file_is_told_as_it_is(tmp_path: Path) -> None:
    """A file that is not there is not a damaged one."""
    with pytest.raises(FileNotFoundError):
        checkpoints.load(tmp_path / "missing.arrow")


@pytest.mark.parametrize("signalled", [True, False], ids=["killed", "disk full"])
def test_a_save_that_dies_half_way_leaves_the_former_file(saved: Path, signalled: bool) -> None:
    """A process that is killed, or refused more space, in the middle of its write destroys nothing."""
    script = textwrap.dedent("""
        import resource, signal, sys
        import numpy
        from raysweep.storage import checkpoints
        if sys.argv[2] == "True":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        checkpoints.save(sys.argv[1], {str(number): numpy.ones(1000) for number in range(100)})
    """)
    command = [sys.executable, "-c", script, str(saved), str(signalled)]
    died = subprocess.run(command, check=False, capture_output=True, text=True)
    assert died.returncode == (-signal.SIGXFSZ if signalled else 1)
    assert bits(STATE) == bits(checkpoints.load(saved))
    left = [entry.name for entry in saved.parent.iterdir() if entry != saved]
    assert [name.endswith(".tmp") for name in left] == [True] * signalled


# Hostile files: every checksum right, the content a lie


@dataclass
class Lie:
    """A leaf that says what it likes."""

    steps: tuple[str, ...] = (".x",)
    kind: str = "array"
    dtype: str = "<f4"
    shape: tuple[int, ...] = (2,)
    nbytes: int = 8
    data: bytes = bytes(8)


def forge(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write leaves that say what they like, with the checksums that go with it."""
    lies = [Lie(**row) for row in rows]
    frame = Frame([(lie.steps, lie) for lie in lies], {})  # type: ignore[misc]  # no leaf lies
    payload = [lie.data[: max(lie.nbytes, 0)] for lie in lies]
    frame.seal(np.array([zlib.crc32(data) for data in payload], "<u4"))
    padded = b"".join(data + bytes(aligned(len(data)) - len(data)) for data in payload)
    path.write_bytes(frame.head + padded + frame.tail)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"shape": [-1]}], "x: has the shape .* no size can be negative"),
        ([{"shape": [-1, -2]}], "no size can be negative"),
        ([{"shape": [2**62]}], "x: has 8 bytes, but <f4 of shape"),
        ([{"shape": [0, 2**62], "nbytes": 0}], "x: "),
        ([{"shape": [3]}], "takes 12"),
        ([{"shape": [2] + [1] * 64}], "x: has 65 dimensions"),
        ([{"dtype": "<f8"}], "takes 16"),
        ([{"dtype": "|O"}], "x: has the dtype '|O', which no checkpoint holds"),
        ([{"dtype": '[["a", "|O"]]', "shape": []}], "no checkpoint holds"),
        ([{"dtype": "|V0", "shape": [2**62], "nbytes": 0}], "no checkpoint holds"),
        ([{"dtype": "f4,f4", "shape": []}], "no checkpoint holds"),
        ([{"dtype": "[" * 100_000}], "x: "),
        ([{"kind": "tensor", "dtype": "float99"}], "x: "),
        ([{"kind": "tensor", "dtype": "float32", "shape": [2**61]}], "x: has 8 bytes"),
        ([{"kind": "pickle"}], "x: is of the unknown kind 'pickle'"),
        ([{"kind": "bool"}], "x: "),
        ([{"kind": "float", "nbytes": 7}], "x: "),
        ([{"kind": "list"}], "x: "),
        ([{}, {}], "x is there twice"),
        ([{}, {"steps": (".x", ".y")}], "x is there twice"),
        ([{"steps": (".x", ".y")}, {}], "x is there twice"),
        ([{"steps": (".x", ".y")}, {"steps": (".x", "[0]")}], "lies in a list, which .* is a dict"),
        ([{"steps": ()}, {"steps": ()}], "the state is there twice"),
        ([{"steps": ("[1]",)}], "item 1 of a list where item 0 is due"),
        ([{"steps": ("(0)",)}, {"steps": ("(999999999)",)}], "item 999999999 of a tuple"),
        ([{"steps": ("x",)}], "has the step 'x', which is none"),
        ([{"steps": ("[0]",) * 100_000}], "is nested more than 64 deep"),
        ([{"steps": (".x",)}, {"steps": (".y",)}, {"steps": (".x",)}], "x is there twice"),
        ([{"kind": "alias", "data": (0).to_bytes(8)}], "is the same as no earlier leaf"),
        (
            [{}, {"steps": (".y",), "kind": "alias", "data": (2**60).to_bytes(8, "little")}],
            "is the same as no earlier leaf",
        ),
        (
            [{}, {"steps": (".y",), "kind": "alias", "dtype": "<i4"}],
            "is the same as a leaf that is an",
        ),
        ([{"kind": "none", "nbytes": 0}, {"steps": (".y",), "kind": "alias"}], "that is another"),
        ([{}, {"steps": (".y",), "kind": "alias", "nbytes": 7}], "is the same as no earlier leaf"),
        ([{"steps": ("/../x",), "kind": "file"}], "'../x' is no name of a file in a folder"),
        ([{"steps": ("//etc/x",), "kind": "file"}], "is no name of a file in a folder"),
        ([{"steps": ("/a/./b",), "kind": "file"}], "is no name of a file in a folder"),
        ([{"steps": ("/a\0b",), "kind": "file"}], "is no name of a file in a folder"),
        ([{"steps": ("/" + "a/" * 20_000 + "a",), "kind": "file"}], "too long for a file's name"),
        ([{"steps": ("/",), "kind": "file"}], "is no name of a file in a folder"),
        (
            [{"steps": ("/a",), "kind": "file"}, {"steps": ("/a/b",), "kind": "file"}],
            "'a' is both a file and a folder",
        ),
        ([{"steps": ("/a",), "kind": "file"}, {"steps": ("/a", ".b")}], "is there twice"),
        ([{"steps": ("/a",), "kind": "bytes"}], "holds among its files what is none"),
        ([{"steps": ("/a", ".b")}], "holds among its files what is none"),
        ([{"kind": "estimator"}], "x: skops cannot read it"),
        ([{"kind": "scalar", "dtype": "<U2", "shape": (), "data": b"\xff" * 8}], "x: "),
        ([{"dtype": "<M8[0s]", "shape": (1,)}], "which no checkpoint holds"),
    ],
)
def test_hostile_files_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    """A file that contradicts itself is damaged, not believed, however right its checksums are."""
    path = tmp_path / "forged.arrow"
    forge(path, rows)
    with pytest.raises(CheckpointDamagedError, match=message):
        checkpoints.load(path)
    with pytest.raises(CheckpointDamagedError):
        walk(checkpoints.load(path, lazy=True))


def walk(lazy: object) -> None:
    """Take every leaf of a lazy tree."""
    if isinstance(lazy, LazyDict | LazyList):
        for item in lazy.values() if isinstance(lazy, LazyDict) else lazy:
            walk(item)


def test_an_honest_forgery_loads(tmp_path: Path) -> None:
    """The forged files above are refused for their lies alone."""
    forge(tmp_path / "forged.arrow", [{}, {"steps": (".y",)}])
    assert bits(checkpoints.load(tmp_path / "forged.arrow")) == bits(
        {"x": np.zeros(2, "<f4"), "y": np.zeros(2, "<f4")}
    )


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_files_are_refused_before_they_are_unpacked(tmp_path: Path, codec: str) -> None:
    """A small file cannot ask for a large memory."""
    path, schema = tmp_path / "bomb.arrow", SCHEMA
    columns = [pa.nulls(1, field.type) for field in schema]
    columns[-1] = pa.array([bytes(10_000_000)], pa.large_binary())
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_file(str(path), schema, options=options) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    assert path.stat().st_size < 100_000
    del columns
    peak = pa.default_memory_pool().max_memory()
    with pytest.raises(CheckpointDamagedError, match="its rows are compressed"):
        checkpoints.load(path)
    assert pa.default_memory_pool().max_memory() == peak


@pytest.mark.parametrize("column", ["path", "steps", "kind", "crc32"])
def test_nulls_are_refused(tmp_path: Path, column: str) -> None:
    """A column that says it has none is asked."""
    schema = SCHEMA.with_metadata({"raysweep.format": "2"})
    row = {"path": "x", "steps": [".x"], "kind": "none", "dtype": "", "shape": [], "nbytes": 0,
           "crc32": 0, "bytes": bytes(64)} | {column: [None] if column == "steps" else None}  # fmt: skip
    arrays = [pa.array([row[field.name]], pa.field("", field.type).type) for field in schema]
    with pa.ipc.new_file(str(tmp_path / "c.arrow"), schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    with pytest.raises(CheckpointDamagedError, match="it holds nulls"):
        checkpoints.load(tmp_path / "c.arrow", verify=False)


def test_a_footer_that_leads_elsewhere_is_refused(saved: Path) -> None:
    """Readers that come through the footer and this one would see two different files."""
    whole = bytearray(saved.read_bytes())
    [size] = struct.unpack_from("<i", whole, len(whole) - 10)
    with pa.ipc.open_file(saved) as file:
        start = 16 + struct.unpack_from("<i", whole, 12)[0]
        assert file.num_record_batches == 1
    listed = whole.index(struct.pack("<q", start), len(whole) - 10 - size)
    whole[listed : listed + 8] = struct.pack("<q", start + 8)
    saved.write_bytes(whole)
    with pytest.raises(CheckpointDamagedError, match="its footer lists another batch than the"):
        checkpoints.load(saved)


def test_messages_out_of_their_order_are_refused(saved: Path) -> None:
    """Rows that stand where the schema belongs are not read as a schema."""
    whole = saved.read_bytes()
    rows = pa.record_batch({"a": [1]}).serialize().to_pybytes()
    saved.write_bytes(whole[:8] + rows + whole[8:])
    with pytest.raises(
        CheckpointDamagedError, match="a record batch stands in the place of its schema"
    ):
        checkpoints.load(saved)


def test_a_newer_format_is_not_guessed_at(saved: Path) -> None:
    """A version that this reader does not know is named."""
    whole = saved.read_bytes()
    version = whole.index(b"\x01\0\0\0002\0")  # a text of one character, as FlatBuffers keep it
    saved.write_bytes(whole[: version + 4] + b"3" + whole[version + 5 :])
    with pytest.raises(UserError, match=r"is of format 3, but this raysweep reads 2: load it with"):
        checkpoints.load(saved)


def test_a_checkpoint_of_another_format_is_not_damaged(saved: Path) -> None:
    """One of the first format, whose last column was another, is named as well."""
    schema = pa.schema(list(SCHEMA)[:-1], metadata={"raysweep.format": "1"})
    with pa.ipc.new_file(str(saved), schema) as writer:
        writer.write_table(schema.empty_table())
        writer.write_batch(pa.record_batch([pa.nulls(0, field.type) for field in schema], schema))
    with pytest.raises(UserError, match=r"is of format 1, but this raysweep reads 2"):
        checkpoints.load(saved)


def test_neither_a_save_nor_a_load_imports_pandas(tmp_path: Path) -> None:
    """Where there is one, it would cost each slot 0.2 s and 33 MB."""
    code = (
        "import sys; from raysweep.storage.checkpoints import load, save;"
        " save(sys.argv[1], {'a': [1, 'b', (2.5,)]}); load(sys.argv[1]);"
        " assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "c.arrow")], check=True)
