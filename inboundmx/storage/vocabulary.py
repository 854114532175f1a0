"""The words that were learned, as a gateway has them at hand: the newest model, mapped into memory.

Knows when to look for a new one, and that reading it is not for the reactor. Does not know what is in it.
"""

from __future__ import annotations

import os

from inboundmx.ports import Clock, Health, Offload, Unavailable
from inboundmx.storage.bayes_model import FILE_NAME, Model, stamp_of

# How soon a new model is found.
LOOK_SECONDS = 2.0


class MappedVocabulary:
    """Implements ports.Vocabulary."""

    def __init__(self, data_folder: str, clock: Clock, offload: Offload, health: Health) -> None:
        """Reads the model that is there: blocks. ``health`` is told of one that cannot be used, whenever it is looked
        for; and of others only after that, for most gateways have none."""
        self._path = os.path.join(data_folder, FILE_NAME)
        self._clock = clock
        self._offload = offload
        self._health = health
        self._look_at = clock.monotonic() + LOOK_SECONDS
        self._model: Model | None = None
        self._trouble = ""
        self._found(*self._looked())

    async def learned(self) -> Model | None:
        now = self._clock.monotonic()
        if now >= self._look_at:
            # Whoever comes meanwhile makes do with what there is.
            self._look_at = now + LOOK_SECONDS
            try:
                self._found(*await self._offload.run(self._looked))
            except BaseException:
                self._look_at = now
                raise
        if self._trouble:
            raise Unavailable(self._trouble)
        return self._model

    def _found(self, model: Model | None, trouble: str) -> None:
        if trouble or self._trouble:
            self._health.noted(FILE_NAME, not trouble, trouble)
        self._model, self._trouble = model, trouble

    def _looked(self) -> tuple[Model | None, str]:
        """Blocks: the model that is there now, or why there is none."""
        try:
            if self._model is not None and stamp_of(os.stat(self._path)) == self._model.stamp:
                return self._model, ""
            return Model(self._path), ""
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            return None, f"{self._path}: {said}; inboundmx train renew makes it anew"
