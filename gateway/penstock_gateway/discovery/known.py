"""The last good form of each object of one kind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from typing import Generic, TypeVar

from penstock_gateway.discovery.objects import MalformedError
from penstock_kube.resources import Key, Object
from penstock_kube.store import Change

logger = logging.getLogger(__name__)

Form = TypeVar("Form")


class Known(Generic[Form]):
    """Objects as they were last read without a fault.

    Args:
        plural: The kind, for messages.
        read: Reads an object, or raises `MalformedError`.
        name: Names an object in `forms`.
    """

    def __init__(self, plural: str, read: Callable[[Object], Form], name: Callable[[Key], str]) -> None:
        self.plural = plural
        self._read = read
        self._name = name
        self.forms: dict[str, Form] = {}
        """By name."""
        self._unconfirmed: dict[str, str] = {}
        """Names that nobody has told us of since start, remembered from before; with the namespace of each."""
        self.problems: dict[str, str] = {}
        """What is wrong with objects as they are now, by name."""
        self.skipped = 0
        """Times that an object could not be read."""

    def remember(self, forms: dict[str, Form], namespace_of: Callable[[str], str]) -> None:
        """Begin with what was known before; a list will tell what is still there."""
        self.forms.update(forms)
        self._unconfirmed = {name: namespace_of(name) for name in forms}

    def follow(self, change: Change) -> bool:
        """Take a change; return whether what is known differs now."""
        name = self._name(change.key)
        self._unconfirmed.pop(name, None)
        self.problems.pop(name, None)
        if change.new is None:
            return self.forms.pop(name, None) is not None
        try:
            form = self._read(change.new)
        except MalformedError as error:
            self.skipped += 1
            self.problems[name] = f"{self.plural} {change.key}: {error}"
            logger.warning("%s; its last good form stays in use", self.problems[name])
            return False
        before = self.forms.get(name)
        self.forms[name] = form
        return before != form

    def confirm(self, namespaces: Container[str]) -> bool:
        """Forget what is remembered of these namespaces and was not told of; return whether there was any."""
        gone = [name for name, namespace in self._unconfirmed.items() if namespace in namespaces]
        for name in gone:
            del self._unconfirmed[name]
            self.forms.pop(name, None)
        return bool(gone)
