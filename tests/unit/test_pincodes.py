"""PIN codes: known places, unknown ones, and texts that are none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.pincodes import PinFormatError, Place, lookup


@pytest.mark.parametrize(
    ("pin", "city", "state"),
    [
        ("560001", "Bengaluru Urban", "Karnataka"),
        ("110001", "New Delhi", "Delhi"),
        ("400001", "Mumbai", "Maharashtra"),
        ("744101", "South Andamans", "Andaman and Nicobar Islands"),
        ("396210", "Daman", "Dadra and Nagar Haveli and Daman and Diu"),
    ],
)
def test_a_known_pin_fills_in_city_and_state(pin: str, city: str, state: str) -> None:
    assert lookup(pin) == Place(pin, city, state)


def test_a_pin_of_two_states_gets_a_district_of_its_main_state() -> None:
    import indian_pincode

    of_two_states = 0
    for pin in indian_pincode.get_pincodes():
        found, place = indian_pincode.get_details(pin), lookup(pin)
        if place is None or found is None or found["state"] is None or len(found["states"]) < 2:
            continue
        of_two_states += 1
        assert place.city.upper() in indian_pincode.list_districts(found["state"]), pin
    assert of_two_states


@pytest.mark.parametrize("pin", ["000000", "999999", "012345"])
def test_a_pin_nobody_knows_is_no_place(pin: str) -> None:
    assert lookup(pin) is None


@pytest.mark.parametrize(
    "pin", ["", "56000", "5600011", "56000a", "560 001", "५६०००१", " 560001", "560001\n", "-60001"]
)
def test_what_is_not_six_digits_is_an_error(pin: str) -> None:
    with pytest.raises(PinFormatError):
        lookup(pin)


def test_the_data_is_only_read_when_it_is_asked_for() -> None:
    asked = "import sys, pipeline.pincodes; sys.exit('indian_pincode' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
