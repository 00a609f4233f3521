"""Settings are checked before anything starts."""

import pytest

from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.schedules import length_s, level_at
from penstock_loadtest.settings import LoadSettings, Shape, plan_arrivals, plan_users

GOOD = {"url": "http://127.0.0.1:8000", "model": "tiny"}


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"url": "127.0.0.1:8000"}, "url '127.0.0.1:8000'"),
        ({"url": "ftp://host"}, "http://HOST:PORT"),
        ({"model": ""}, "model is empty"),
        ({"users": 0}, "level above 0"),
        ({"duration_s": 0}, "duration"),
        ({"rate_rps": -1.0}, "negative"),
        ({"rate_rps": float("nan")}, "rate_rps nan"),
        ({"rate_rps": 1e9}, "rate_rps 1000000000.0 over duration_s 60.0"),
        ({"duration_s": float("inf")}, "duration_s inf"),
        ({"users": 10**8}, "users 100000000"),
        ({"shape": Shape.RAMP, "ramp_s": -1.0}, "ramp_s -1.0"),
        ({"prompt_tokens": "long"}, "length 'long'"),
        ({"output_tokens": "0"}, "at least 1 token"),
        ({"bytes_per_token": 0}, "bytes_per_token 0"),
        ({"shape": Shape.TRACE, "time_scale": 0}, "time_scale 0"),
        ({"shape": Shape.BURST, "burst_s": 99}, "burst length 99"),
    ],
)
def test_a_setting_that_cannot_work_is_named(changed, word):
    with pytest.raises(LoadSettingsError, match=word):
        LoadSettings(**{**GOOD, **changed}).check()


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("rate", [None, 3.0])
def test_every_shape_works_in_both_loops(shape, rate):
    settings = LoadSettings(**GOOD, shape=shape, rate_rps=rate, duration_s=40)
    settings.check()
    if settings.open_loop:
        assert all(arrival.at_s <= 40 for arrival in plan_arrivals(settings))
        assert plan_arrivals(settings)
    else:
        assert length_s(plan_users(settings)) == pytest.approx(40)


def test_a_ramp_longer_than_the_run_is_cut_to_it():
    schedule = plan_users(LoadSettings(**GOOD, shape=Shape.RAMP, users=8, ramp_s=100, duration_s=10))
    assert level_at(schedule, 5) == pytest.approx(4)


def test_a_trace_is_capped_by_the_lengths():
    settings = LoadSettings(
        **GOOD, shape=Shape.TRACE, time_scale=60, duration_s=30, prompt_tokens="1-100", output_tokens="50"
    )
    arrivals = plan_arrivals(settings)
    assert max(arrival.prompt_tokens for arrival in arrivals) == 100
    assert max(arrival.output_tokens for arrival in arrivals) == 50
