"""What the collector holds in memory alone, counted by the world: by what was served and by what ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from m365watch.common.model import BlobKey


@dataclass(slots=True)
class HeldBytes:
    """The bytes of bodies that were served whole, until the ledger says that their blobs are safe elsewhere.

    A fetch may begin only with A = 0 or A + g <= M: A is what is held here, g the guessed size of what is
    fetched, M the bound. After that A grows by nothing but bodies that were under way already, so that it
    never exceeds M by more than these.
    """

    bytes_max: int
    accuse: Callable[[str], None]
    served: dict[str, list[int]] = field(default_factory=dict)
    """The sizes of the bodies that are held, by the id of their content; blobs may share one."""
    names: dict[BlobKey, str] = field(default_factory=dict)
    """The content ids of blobs that were due."""
    batches: dict[int, tuple[list[BlobKey], set[str]]] = field(default_factory=dict)
    """The blobs of each batch, and the outputs for which they are in memory alone."""

    @property
    def held_bytes(self) -> int:
        """How much that is."""
        return sum(map(sum, self.served.values()))

    def serve(self, content_id: str, size_bytes: int) -> None:
        """A body that nobody can doubt went out: it is held from here on."""
        self.served.setdefault(content_id, []).append(size_bytes)

    def begin(self, guessed_bytes: int) -> None:
        """A fetch is let in."""
        held = self.held_bytes
        if held and held + guessed_bytes > self.bytes_max:
            self.accuse(
                f"a fetch of {guessed_bytes} bytes began with {held} in memory, {self.bytes_max} are allowed"
            )

    def open_batch(self, number: int, blobs: list[BlobKey], outputs: frozenset[str]) -> None:
        """Batch `number` of `blobs` is on its way to `outputs`."""
        self.batches[number] = (blobs, set(outputs))

    def settle(self, number: int, output: str) -> None:
        """`output` has the batch, has it on disk, or was left out of it; the last one lets go of it."""
        if number not in self.batches:
            return  # Of an earlier life.
        blobs, outputs = self.batches[number]
        outputs.discard(output)
        if not outputs:
            del self.batches[number]
            for blob in blobs:
                self.let_go(blob)

    def let_go(self, blob: BlobKey) -> None:
        """The blob is final, or put off; of bodies that share its id, the largest is taken for its own."""
        sizes = self.served.get(self.names.get(blob, ""), [])
        if sizes:
            sizes.remove(max(sizes))
