"""Whether gateways could be told of each namespace: the publisher says so, and statuses repeat it."""

from __future__ import annotations

from collections.abc import Callable

from penstock_operator.runtime.conditions import Condition

NamespaceListener = Callable[[str], None]
"""Called with a namespace of which there is something else to say."""


class Publications:
    """What keeps namespaces from being published, by namespace."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._listeners: list[NamespaceListener] = []

    def on_change(self, listener: NamespaceListener) -> None:
        """Have `listener` called with each namespace that fails in another way than before, or no more."""
        self._listeners.append(listener)

    def note(self, namespace: str, problem: str | None) -> None:
        """Note what keeps a namespace from being published; None when it is."""
        if self._problems.get(namespace) == problem:
            return
        if problem is None:
            del self._problems[namespace]
        else:
            self._problems[namespace] = problem
        for listener in self._listeners:
            listener(namespace)

    def qualify(self, namespace: str, condition: Condition) -> Condition:
        """Return a condition as it is, or False when all would be well if gateways knew."""
        problem = self._problems.get(namespace)
        if problem is None or condition.status != "True":
            return condition
        return Condition(condition.type, "False", "NotPublished", problem)
