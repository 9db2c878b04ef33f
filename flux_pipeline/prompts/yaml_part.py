"""Picks the value of one key out of a YAML file that holds more: a component's attributes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import yaml


@dataclass(frozen=True, slots=True)
class Part:
    """What is read of a file: the value of ``key`` in the document that starts in ``line``."""

    line: int
    """1-based, of the document's first key: several documents may share a file (``---``)."""
    key: str

    def of(self, events: Iterable[yaml.Event]) -> Iterator[yaml.Event]:
        """The events of the value alone; of both values, where the key stands twice."""
        level, is_here, is_value, is_wanted = 0, False, False, False
        for event in events:
            ends = isinstance(event, yaml.CollectionEndEvent)
            starts = isinstance(event, yaml.CollectionStartEvent)
            level -= ends
            if level == 0:
                mark = event.start_mark
                is_here = starts and mark is not None and mark.line + 1 == self.line
                is_value = is_wanted = False
            else:
                if level == 1 and not is_value:
                    key = event.value if isinstance(event, yaml.ScalarEvent) else None
                    is_wanted = is_here and key == self.key
                elif is_wanted:
                    yield event
                if level == 1 and not starts:
                    is_value = not is_value
            level += starts
