"""Tenants: keys from Secrets as hashes under the platform's pepper, and what is wrong with them.

`build.build` gives one controller and one mirror, of Secrets with the label `penstock.dev/api-keys: "true"`. Rights
needed: `get` on secrets for the others, `get`, `list` and `watch` for those, `patch` on tenants/status. The keyring is
shared with `penstock_operator.route`, which publishes the hashes.
"""
