"""What a blend is mixed of."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class MixPart(Config):
    """What one stage of a blend reads of one corpus, in a training of as many tokens as the blend has."""

    stage: int = Field(description="Number of the stage, from 1; 1 where the mix does not change.")
    until: float = Field(description="Where the stage ends: tokens, or up to 1 a share of each training.")
    until_tokens: int = Field(description="Tokens of the blend at which it ends.")
    corpus: str = Field(description="Name of the corpus.")
    weight: float = Field(description="Its share of the stage, 0 to 1.")
    tokens: int = Field(description="Tokens read of it in this stage.")
    passes: float = Field(description="How often this stage reads it.")
    passes_so_far: float = Field(description="How often it was read when the stage ends.")


class Written(Config):
    """What a teacher wrote for its students."""

    documents: int = Field(description="Documents kept.")
    empty: int = Field(description="Documents that ended at once, left out.")
    cut: int = Field(description="Of those kept, documents that had not ended at write.max_new_tokens.")
    repeated: int = Field(description="Of those kept, documents whose text another has too.")
    tokens: int = Field(description="Tokens that the teacher drew.")
    seconds: float = Field(description="Time of the job that ended it, without model loading.")
