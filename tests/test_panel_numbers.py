"""What a panel makes of numbers: their precision, masks, tensors, and the range of times."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tsssm import Panel, SSMFeatures, SSMRegressor, Stream
from tsssm.panel import as_panel

X = np.random.default_rng(0).normal(size=(4, 2, 6))
LARGE = 1e8 + X
FEATURES = {"n_features": 64, "n_scales": 2, "normalize": "global", "random_state": 0}


def frames(x):
    return [pd.DataFrame(series.T) for series in x]


def table(x):
    frame = pd.concat(dict(enumerate(frames(x))), names=["id", "time"])
    return frame.stack().rename_axis(["id", "time", "variable"]).rename("value").reset_index()


CONTAINERS = {
    "array": lambda x: Panel.from_numpy(x),
    "arrays": lambda x: Panel.from_arrays(list(x)),
    "frames": lambda x: Panel.from_dataframes(frames(x)),
    "multiindex": lambda x: Panel.from_multiindex(pd.concat(dict(enumerate(frames(x))))),
    "nested": lambda x: Panel.from_nested(pd.DataFrame({c: list(x[:, c]) for c in range(2)})),
    "long": lambda x: Panel.from_long(table(x), id="id", time="time", variable="variable", value="value"),
    "wide": lambda x: Panel.from_wide(
        pd.concat(dict(enumerate(frames(x))), names=["id", "time"]).reset_index(), id="id", time="time"
    ),
    "panel": lambda x: Panel(x.transpose(0, 2, 1).reshape(-1, 2), np.arange(5) * 6),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_large_values_keep_their_digits_and_others_are_in_float32(container):
    make = CONTAINERS[container]
    assert make(X).values.dtype == np.float32
    mixed = X.copy()
    mixed[2] = LARGE[2]
    panel = make(mixed)
    assert panel.values.dtype == np.float64
    np.testing.assert_array_equal(panel[2].values, LARGE[2].T)
    np.testing.assert_array_equal(panel[:2].values, make(X)[:2].values, "each value for itself")
    np.testing.assert_array_equal(panel.to_numpy()[2], LARGE[2])


def test_float32_is_enough_where_it_changes_nothing():
    assert Panel.from_numpy(np.array([[2.0**24, -(2.0**17)]])).values.dtype == np.float32
    assert Panel.from_numpy(np.array([[2**24 + 1]])).values.dtype == np.float64
    assert Panel.from_numpy(np.array([[131_071.123456789]])).values.dtype == np.float32
    assert Panel.from_numpy(LARGE.astype(np.float32)).values.dtype == np.float32
    with pytest.raises(ValueError, match="too large for float32"):
        Panel.from_numpy(np.array([[1e39, 1e8 + 0.1]]))


def test_panels_of_both_precisions_are_joined():
    both = Panel.concatenate([Panel.from_numpy(X), Panel.from_numpy(LARGE)])
    np.testing.assert_array_equal(both[4:].values, Panel.from_numpy(LARGE).values)


def test_masks_of_object_arrays():
    mask = np.zeros(X.shape, dtype=bool)
    mask[1, 0, 3] = True
    masked = np.ma.masked_array(X, mask)
    for x in (masked, masked.astype(object), list(masked.astype(object))):
        panel = as_panel(x)
        assert np.isnan(panel[1].values[3, 0]) and np.isnan(panel.values).sum() == 1


def test_masks_of_times():
    times = np.ma.masked_array(np.arange(6.0), [0, 0, 1, 0, 0, 0])
    with pytest.raises(ValueError, match="times of X has 1 masked entries; every sample needs a time"):
        Panel.from_numpy(X, times)


@pytest.mark.parametrize(
    "model",
    [
        SSMFeatures(**FEATURES),
        SSMRegressor(n_layers=1, d_model=4, d_state=4, bidirectional=False, max_steps=1, random_state=0),
    ],
)
def test_masks_in_streams(model):
    model.fit(np.where(X > 1.5, np.nan, X), np.arange(4.0))
    streams = Stream(model), Stream(model)
    streams[0].push(np.ma.masked_array([1.0, 2.0], [True, False]))
    streams[1].push([np.nan, 2.0])
    got = [stream.push(torch.tensor([0.5, 1.0], requires_grad=True)) for stream in streams]
    np.testing.assert_array_equal(*got)


TENSORS = {
    "with a gradient": torch.tensor(X, requires_grad=True),
    "of half precision": torch.tensor(X).half(),
    "bfloat16": torch.tensor(X).bfloat16(),
    "whole": (torch.tensor(X) * 100).long(),
    "negated": torch.tensor(X + 0j).conj().imag + torch.tensor(X),
}
REFUSED = {
    "sparse": (torch.tensor(X).to_sparse(), r"X is a sparse tensor \(torch.sparse_coo\); .* X.to_dense\(\)"),
    "meta": (torch.tensor(X, device="meta"), r"X is a tensor of shape \(4, 2, 6\) on the device 'meta'"),
    "list of meta": ([torch.zeros(2, 3, device="meta")], "series 0 of X is a tensor of shape"),
}


@pytest.mark.parametrize("tensor", TENSORS)
def test_tensors(tensor):
    given = TENSORS[tensor]
    expected = given.detach().double().numpy()
    for x in (given, list(given)):
        np.testing.assert_allclose(as_panel(x).to_numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("tensor", REFUSED)
def test_tensors_without_an_array(tensor):
    given, message = REFUSED[tensor]
    with pytest.raises(TypeError, match=message):
        as_panel(given)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors():
    with pytest.raises(TypeError, match=r"X is a nested tensor; pass .* list\(X.unbind\(\)\)"):
        as_panel(torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(2, 4)]))


def test_a_dataset_of_xarray_is_refused():
    class Dataset:
        data_vars = ()

    with pytest.raises(TypeError, match=r"X is an xarray Dataset.* X.to_dataarray\(\)"):
        as_panel(Dataset())


SECONDS = np.array([0.0, 1.0, 2.5, 3.0, 7.0, 8.0])


@pytest.mark.parametrize(
    "times",
    [
        torch.tensor(SECONDS, requires_grad=True),
        pd.array(SECONDS, dtype="Float64"),
        pd.Series(SECONDS).convert_dtypes(),
        SECONDS.astype(object),
    ],
    ids=["tensor", "extension array", "extension Series", "objects"],
)
def test_times_of_other_types(times):
    if isinstance(times, np.ndarray):
        with pytest.raises(TypeError, match="times of X"):
            Panel.from_numpy(X, times)
    else:
        np.testing.assert_array_equal(Panel.from_numpy(X, times)[0].times, SECONDS)


@pytest.mark.parametrize("times", [[[0.0], [0.0, 1.0]], [0.0, None], pd.array([0, None], dtype="Int64")])
def test_times_that_are_none(times):
    with pytest.raises((TypeError, ValueError), match="times of X"):
        Panel.from_numpy(X[..., :2], times)


def test_times_have_a_range():
    with pytest.raises(ValueError, match="times of X must be 1e.200 at most; series 0, sample 1 has 1e.201"):
        Panel.from_numpy(X[..., :2], [0.0, 1e201])
    weeks = Panel.from_numpy(X[..., :2], [0.0, 1e190], time_unit="W")
    with pytest.raises(ValueError, match="times must be 1e.200 at most; in 'ns' they reach 6.*e.204"):
        weeks.convert_times("ns")


def test_clock_times_have_a_range():
    long = pd.DataFrame({"id": 0, "time": ["00:00", "99999999:30"], "variable": "hr", "value": 1.0})
    with pytest.raises(ValueError, match="text '99999999:30', which is beyond the 292 years"):
        Panel.from_long(long, id="id", time="time", variable="variable", value="value")


def test_whole_numbers_beyond_all_floats():
    x = X.astype(object)
    x[0, 0, 0] = 10**400
    with pytest.raises(TypeError, match="X must hold real numbers.*int too large"):
        as_panel(x)
