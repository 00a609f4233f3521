"""A key belongs to one Tenant, and a change of leader moves none."""

from hypothesis import given
from hypothesis import strategies as st

from penstock_kube.resources import Key
from penstock_operator.tenant.keyring import Keyring

A, B, C = Key("a", "t"), Key("b", "t"), Key("c", "t")


def told(keyring):
    seen = []
    keyring.on_change(seen.append)
    return seen


def test_of_two_tenants_with_one_key_the_older_has_it():
    keyring = Keyring()
    keyring.put(B, "2026-01-02", ["shared", "own"])
    keyring.put(A, "2026-01-03", ["shared"])
    assert keyring.hashes(B) == ("shared", "own")
    assert keyring.hashes(A) == ()
    assert keyring.owner("shared") == B


def test_a_key_that_its_owner_gives_up_goes_to_the_next_and_both_are_told():
    keyring = Keyring()
    keyring.put(A, "2026-01-01", ["shared"])
    keyring.put(B, "2026-01-02", ["shared"])
    seen = told(keyring)
    keyring.put(A, "2026-01-01", ["new"])
    assert keyring.hashes(B) == ("shared",)
    assert seen == [A, B]


def test_the_same_again_is_told_to_nobody():
    keyring = Keyring()
    keyring.put(A, "2026-01-01", ["x"])
    seen = told(keyring)
    keyring.put(A, "2026-01-01", ["x", "x"])
    keyring.drop(B)
    assert seen == []


def test_what_is_published_holds_until_it_is_read():
    keyring = Keyring()
    keyring.seed("b", {B: ("published",)})
    keyring.put(A, "2026-01-01", ["published"])
    assert keyring.hashes(B) == ("published",), "whoever published it had settled whose it is"
    keyring.put(B, "2026-01-02", ["published"])
    assert keyring.hashes(A) == ("published",), "read, the older has it"


def test_what_was_read_is_not_overruled_by_what_is_published():
    keyring = Keyring()
    keyring.put(A, "2026-01-01", ["read"])
    keyring.seed("a", {A: ("published",)})
    assert keyring.hashes(A) == ("read",)


def test_a_tenant_that_left_what_is_published_leaves_the_keyring_and_no_other_namespace_does():
    keyring = Keyring()
    keyring.seed("a", {A: ("x",)})
    keyring.seed("b", {B: ("y",)})
    keyring.seed("a", {})
    assert (keyring.hashes(A), keyring.hashes(B)) == ((), ("y",))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "drop", "seed"]),
        st.sampled_from([A, B, C]),
        st.lists(st.sampled_from("xyz"), max_size=3, unique=True),
    ),
    max_size=12,
)


@given(STEPS)
def test_each_key_has_one_owner_and_whoever_gains_or_loses_one_is_told(steps):
    keyring = Keyring()
    seen = told(keyring)
    for step, tenant, hashes in steps:
        before = {each: keyring.hashes(each) for each in (A, B, C)}
        seen.clear()
        if step == "put":
            keyring.put(tenant, "2026", hashes)
        elif step == "drop":
            keyring.drop(tenant)
        else:
            keyring.seed(tenant.namespace, {tenant: tuple(hashes)})
        after = {each: keyring.hashes(each) for each in (A, B, C)}
        held = [hashed for own in after.values() for hashed in own]
        assert len(held) == len(set(held))
        assert {each for each in after if after[each] != before[each]} <= set(seen)
