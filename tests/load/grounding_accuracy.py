"""Measures how well grounding finds false sentences, on a corpus of true and false sentences in six languages.

Precision is the share of false ones among the sentences that are called unsupported; recall is the share of the false
sentences that are called so. It fails below the goals.
"""

from dataclasses import dataclass

from shared.grounding.claims import ground
from shared.models.claim import Support
from tests.fixtures.grounding_corpus import Sentence, corpus
from tests.load.harness import options, show

PRECISION, RECALL = 0.98, 0.95


@dataclass
class Accuracy:
    """Counts of sentences: all true and false ones, and those that are called unsupported."""

    true: int = 0
    false: int = 0
    accused: int = 0
    found: int = 0

    def add(self, sentence: Sentence) -> bool:
        """Counts a sentence, and returns whether it was judged rightly."""
        claims = ground(sentence.text, sentence.facts)
        is_unsupported = any(claim.support is Support.UNSUPPORTED for claim in claims)
        if sentence.is_true:
            self.true, self.accused = self.true + 1, self.accused + is_unsupported
        else:
            self.false, self.found = self.false + 1, self.found + is_unsupported
        return is_unsupported is not sentence.is_true

    @property
    def precision(self) -> float:
        return self.found / max(self.found + self.accused, 1)

    @property
    def recall(self) -> float:
        return self.found / self.false


def measure() -> tuple[dict[str, Accuracy], list[Sentence]]:
    """Returns the accuracy by language and in all, and the sentences that were judged wrongly."""
    found: dict[str, Accuracy] = {}
    total, wrong = Accuracy(), []
    for sentence in corpus():
        is_right = found.setdefault(sentence.language, Accuracy()).add(sentence)
        total.add(sentence)
        if not is_right:
            wrong.append(sentence)
    return {**found, "all": total}, wrong


def main() -> None:
    options(__doc__)
    found, wrong = measure()
    columns = ("language", "true", "false", "precision", "recall")
    rows = [
        (name, str(each.true), str(each.false), f"{each.precision:.3f}", f"{each.recall:.3f}")
        for name, each in found.items()
    ]
    show(f"Grounding (goals: precision {PRECISION}, recall {RECALL})", columns, rows)
    for sentence in wrong:
        print("should be", "supported:" if sentence.is_true else "unsupported:", sentence.text)
    if found["all"].precision < PRECISION or found["all"].recall < RECALL:
        raise SystemExit("Grounding is below its goals.")


if __name__ == "__main__":
    main()
