"""Keys and values of one session, kept for as long as the session lives.

A cache knows the ids whose keys and values it holds. Reuse is decided by comparing those with the ids wanted, never
by assuming that a prompt grew; what follows the longest common prefix is cropped (a length is set, nothing is copied)
and overwritten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GROWTH_TOKENS = 512
"""Buffers grow by at least this many tokens, and by a quarter of what they hold."""
SHARE_TOKENS = 32
"""A shorter common prefix is not worth copying from another session."""


class KVCache:
    """Buffers of shape [kv_heads, capacity, head_dim] per layer, for keys and for values; `ids` is what they hold.

    Before the first id they hold `before` positions that are no tokens (`agent.engine.virtual`), and stay.
    """

    def __init__(self, layers: int) -> None:
        self.ids: list[int] = []
        self.before = 0
        self._buffers: list[tuple[Tensor, Tensor] | None] = [None] * layers

    @classmethod
    def of(cls, ids: Sequence[int], pairs: Sequence[tuple[Tensor, Tensor]]) -> KVCache:
        """A cache that holds `ids`, from keys and values of each layer, [kv_heads, before + len(ids), head_dim]."""
        cache = cls(len(pairs))
        cache.ids = list(ids)
        cache.before = pairs[0][0].shape[1] - len(ids)
        cache._buffers = list(pairs)
        return cache

    def held(self, length: int) -> list[tuple[Tensor, Tensor]]:
        """Views of keys and values up to the first `length` ids, by layer; none before anything was written."""
        end = self.before + length
        return [(pair[0][:, :end], pair[1][:, :end]) for pair in self._buffers if pair is not None]

    @property
    def bytes(self) -> int:
        """Memory held by the buffers."""
        return sum(b.element_size() * b.nelement() for pair in self._buffers if pair for b in pair)

    @property
    def bytes_per_token(self) -> int:
        """Memory of one position, 0 before anything was written."""
        return sum(b.element_size() * b.shape[0] * b.shape[2] for pair in self._buffers if pair for b in pair)

    def write(self, layer: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store `keys` and `values` ([tokens, kv_heads, head_dim]) from position `start` on.

        Returns views of all keys and values up to there, [kv_heads, start + tokens, head_dim].
        """
        end = start + keys.shape[0]
        buffers = self._buffers[layer]
        if buffers is None or buffers[0].shape[1] < end:
            buffers = self._buffers[layer] = (
                _grown(buffers, 0, keys, start, end),
                _grown(buffers, 1, values, start, end),
            )
        held_keys, held_values = buffers
        held_keys[:, start:end] = keys.transpose(0, 1)
        held_values[:, start:end] = values.transpose(0, 1)
        return held_keys[:, :end], held_values[:, :end]

    def crop(self, length: int) -> None:
        """Forget all but the first `length` ids."""
        del self.ids[length:]

    def branch(self, length: int) -> KVCache:
        """A copy of the first `length` ids."""
        other = KVCache(len(self._buffers))
        other.ids, other.before = self.ids[:length], self.before
        end = self.before + length
        for layer, pair in enumerate(self._buffers):
            if pair is not None:
                other._buffers[layer] = (pair[0][:, :end].clone(), pair[1][:, :end].clone())
        return other


class CacheStore:
    """The caches of all live sessions, dropped least-recently-used first when they outgrow `budget` bytes."""

    def __init__(self, new: Callable[[], KVCache], budget: int) -> None:
        self._new = new
        self.budget = budget
        self._caches: OrderedDict[str, KVCache] = OrderedDict()

    def open(self, session: str, ids: Sequence[int], kept: Callable[[], KVCache | None]) -> KVCache:
        """The session's cache, cropped to what it has in common with `ids` (its last id excepted: it must be computed).

        A session seen for the first time starts from a copy of the longest prefix another session holds, or else from
        what `kept` returns.
        """
        cache = self._caches.pop(session, None)
        if cache is None:
            cache = self._branch(ids) or kept() or self._new()
        cache.crop(min(common_prefix(cache.ids, ids), len(ids) - 1))
        self._caches[session] = cache
        return cache

    def close(self, session: str) -> None:
        self._caches.pop(session, None)

    def trim(self, in_use: Sequence[str] = ()) -> None:
        """Drop caches until the budget holds; those of `in_use` sessions stay."""
        total = self.bytes
        for session in list(self._caches):
            if total <= self.budget:
                return
            if session not in in_use:
                total -= self._caches.pop(session).bytes

    @property
    def bytes(self) -> int:
        return sum(cache.bytes for cache in self._caches.values())

    @property
    def bytes_per_token(self) -> int:
        """Memory of one position of one session, 0 before any was written."""
        return next((size for cache in self._caches.values() if (size := cache.bytes_per_token)), 0)

    def held(self, session: str, ids: Sequence[int]) -> int:
        """How many leading `ids` a cache of `session` would start with."""
        if session in self._caches:
            return common_prefix(self._caches[session].ids, ids)
        best = max((common_prefix(cache.ids, ids) for cache in self._caches.values()), default=0)
        return best if best >= SHARE_TOKENS else 0

    def __contains__(self, session: object) -> bool:
        return session in self._caches

    def _branch(self, ids: Sequence[int]) -> KVCache | None:
        best, length = None, SHARE_TOKENS - 1
        for cache in self._caches.values():
            if (shared := common_prefix(cache.ids, ids)) > length:
                best, length = cache, shared
        return None if best is None else best.branch(length)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading entries are equal."""
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    low, high = 0, limit  # a[:low] == b[:low] and a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _grown(buffers: tuple[Tensor, Tensor] | None, which: int, like: Tensor, start: int, end: int) -> Tensor:
    capacity = end + max(GROWTH_TOKENS, end // 4)
    grown = like.new_empty((like.shape[1], capacity, like.shape[2]))
    if buffers is not None:
        grown[:, :start] = buffers[which][:, :start]
    return grown
